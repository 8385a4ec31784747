// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title Energy token: the money of flexibility and energy trading
/// @notice A fixed number is issued once; nobody can issue or destroy more. Source: eDREAM D2.2 HL-UC02_LL-UC05.
/// @custom:stop Cannot be stopped: holders can always transfer.
/// @custom:trust The treasury receives the whole issue and is trusted to stock the token desk with it.
contract EnergyToken is ERC20, ERC20Permit {
    /// @param treasury Receives the whole issue.
    /// @param issue Tokens issued, uToken.
    constructor(
        address treasury,
        uint256 issue
    ) ERC20("Gridpact Energy Token", "GET") ERC20Permit("Gridpact Energy Token") {
        _mint(treasury, issue);
    }

    /// @notice Six: one unit is a micro-token (uToken).
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
