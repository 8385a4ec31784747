// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ILocalCurrency} from "interfaces/ILocalCurrency.sol";

/// @title Payment token for networks that have none of their own
contract LocalCurrency is ILocalCurrency, ERC20, AccessManaged {
    constructor(address authority_) ERC20("Gridpact Local Currency", "GLC") AccessManaged(authority_) {}

    /// @inheritdoc ILocalCurrency
    function mint(address to, uint256 amount) external restricted {
        _mint(to, amount);
    }

    /// @notice Two: one unit is a cent.
    function decimals() public pure override returns (uint8) {
        return 2;
    }
}
