// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IAgreementRegistry} from "interfaces/IAgreementRegistry.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {Money} from "contracts/clearinghouse/Money.sol";

/// @title Calendar and money of prosumer orders
/// @notice Pure helpers of {IFlexDispatch}: energy per ISP from power, week of a market day, largest reward of a curve,
/// the curve a standby can take.
library Activation {
    uint256 internal constant ISP_SECONDS = 900;
    uint256 internal constant ISPS_PER_HOUR = 4;
    uint256 internal constant BPS = 10_000;
    uint256 private constant TERMS_BYTES = 512;

    /// @notice Largest energy per ISP for a power, Wh, rounded down.
    function limitWh(
        IAgreementRegistry.Terms memory terms,
        IFlexMarket.Direction direction
    ) internal pure returns (uint256) {
        return (direction == IFlexMarket.Direction.Up ? terms.maxUpW : terms.maxDownW) / ISPS_PER_HOUR;
    }

    /// @notice Week (Monday to Sunday) of a market day, counted from 29 December 1969. The middle of the day decides,
    /// so that local days of any zone between UTC-12 and UTC+12 fall on their own date.
    function weekOf(uint256 dayFirstIsp) internal pure returns (uint256) {
        return ((dayFirstIsp * ISP_SECONDS + 12 hours) / 1 days + 3) / 7;
    }

    /// @notice Reward of an energy at a rate and multiplier, each step rounded down, uToken.
    function rewardOf(uint256 energyWh, uint256 rate, uint256 multiplierBps) internal pure returns (uint256) {
        return Money.shareDown(Money.costDown(energyWh, rate), multiplierBps);
    }

    /// @notice Most energy that can be rewarded at one position: what is still due plus the tolerance band.
    function rewardableWh(uint256 quantityWh, uint256 takenWh, uint256 toleranceBps) internal pure returns (uint256) {
        return quantityWh == takenWh ? 0 : quantityWh - takenWh + (quantityWh * toleranceBps) / BPS;
    }

    /// @notice `keccak256(abi.encode(terms))`, straight from calldata.
    /// @dev Terms are static, so calldata holds their encoding already. What is not canonical has another hash and is
    /// nobody's.
    function hashOf(IFlexDispatch.OrderTerms calldata terms) internal pure returns (bytes32 termsHash) {
        assembly ("memory-safe") {
            let encoded := mload(0x40)
            calldatacopy(encoded, terms, TERMS_BYTES)
            termsHash := keccak256(encoded, TERMS_BYTES)
        }
    }

    /// @notice Value at a position of a packed `uint32` curve, Wh.
    function at(bytes memory curve, uint256 position) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := shr(224, mload(add(add(curve, 32), mul(position, 4))))
        }
    }

    /// @notice Writes a value (below 2^32) at a position of a packed `uint32` curve.
    function set(bytes memory curve, uint256 position, uint256 value) internal pure {
        assembly ("memory-safe") {
            let slot := add(add(curve, 4), mul(position, 4))
            mstore(slot, or(and(mload(slot), not(0xffffffff)), value))
        }
    }
}
