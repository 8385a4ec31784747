// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Money} from "contracts/clearinghouse/Money.sol";

/// @title Test double: makes the functions of {Money} callable
contract MoneyHarness {
    function costDown(uint256 energyWh, uint256 priceUtokenPerKwh) external pure returns (uint256) {
        return Money.costDown(energyWh, priceUtokenPerKwh);
    }

    function costUp(uint256 energyWh, uint256 priceUtokenPerKwh) external pure returns (uint256) {
        return Money.costUp(energyWh, priceUtokenPerKwh);
    }

    function shareDown(uint256 amount, uint256 bps) external pure returns (uint256) {
        return Money.shareDown(amount, bps);
    }
}
