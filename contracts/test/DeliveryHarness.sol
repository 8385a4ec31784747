// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {Activation} from "contracts/flexibility/Activation.sol";
import {Delivery} from "contracts/settlement/Delivery.sol";

/// @title Test double: makes {Delivery} and the sums of {Activation} callable
contract DeliveryHarness {
    struct Case {
        IFlexMarket.Direction direction;
        uint256 toleranceBps;
        bool missingIsShortfall;
        bytes quantities;
        bytes taken;
        bytes baseline;
        bytes readings;
        /// Anything: lies behind the curves in calldata and must not count.
        bytes tail;
    }

    function evaluate(Case calldata given) external view returns (Delivery.Sums memory sums, uint256 gasUsed) {
        gasUsed = gasleft();
        sums = Delivery.evaluate(
            given.direction,
            given.toleranceBps,
            given.missingIsShortfall,
            given.quantities,
            given.taken,
            given.baseline,
            given.readings
        );
        gasUsed -= gasleft();
    }

    function evaluateMissing(
        bool missingIsShortfall,
        bytes calldata quantities,
        bytes calldata taken
    ) external pure returns (Delivery.Sums memory) {
        return Delivery.evaluateMissing(missingIsShortfall, quantities, taken);
    }

    function rewardOf(uint256 energyWh, uint256 rate, uint256 multiplierBps) external pure returns (uint256) {
        return Activation.rewardOf(energyWh, rate, multiplierBps);
    }

    function rewardableWh(uint256 quantityWh, uint256 takenWh, uint256 toleranceBps) external pure returns (uint256) {
        return Activation.rewardableWh(quantityWh, takenWh, toleranceBps);
    }

    function weekOf(uint256 dayFirstIsp) external pure returns (uint256) {
        return Activation.weekOf(dayFirstIsp);
    }
}
