// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Packed curves: one market day of values, read straight from calldata
/// @notice Twin of `offchain/domain/curves.py`.
/// @dev Layout, big endian, position p of the market day (0 = local midnight, at most 99):
///   quantities  bytes 4p .. 4p + 3   uint32 Wh, in the direction of the request        0 .. 2^32 - 2
///   baseline    bytes 4p .. 4p + 3   int32 Wh, import minus export                     +-(2^31 - 1)
///   readings    bytes 8p .. 8p + 3   uint32 import Wh                                  0 .. 2^32 - 2
///               bytes 8p + 4 .. 8p + 7   uint32 export Wh                              0 .. 2^32 - 2
///   missing reading: both fields 0xffffffff
///
/// Accessors do not check the position, so that an unchecked loop costs about 80 gas a quantity and 160 a reading. The
/// caller checks the length of the curve once ({isQuantities} and so on) and keeps the position below the number of
/// ISPs. Past the end of the calldata the EVM reads zeros, past the end of a curve whatever argument follows.
library Curves {
    uint256 internal constant MISSING = type(uint32).max;

    /// @notice Whether `curve` holds one quantity for each of `ispCount` ISPs.
    function isQuantities(bytes calldata curve, uint256 ispCount) internal pure returns (bool) {
        return curve.length == 4 * ispCount;
    }

    /// @notice Whether `curve` holds one baseline value for each of `ispCount` ISPs.
    function isBaseline(bytes calldata curve, uint256 ispCount) internal pure returns (bool) {
        return curve.length == 4 * ispCount;
    }

    /// @notice Whether `curve` holds one reading for each of `ispCount` ISPs.
    function isReadings(bytes calldata curve, uint256 ispCount) internal pure returns (bool) {
        return curve.length == 8 * ispCount;
    }

    /// @notice Quantity at a position, Wh. Relies on {isQuantities} and `position < ispCount`.
    function quantity(bytes calldata curve, uint256 position) internal pure returns (uint256 wh) {
        assembly ("memory-safe") {
            wh := shr(224, calldataload(add(curve.offset, shl(2, position))))
        }
    }

    /// @notice Net consumption at a position, Wh, import positive. Relies on {isBaseline} and `position < ispCount`.
    function baseline(bytes calldata curve, uint256 position) internal pure returns (int256 netWh) {
        assembly ("memory-safe") {
            netWh := sar(224, calldataload(add(curve.offset, shl(2, position))))
        }
    }

    /// @notice Reading at a position, Wh; the energies mean nothing when `missing`. Relies on {isReadings} and
    /// `position < ispCount`.
    function reading(
        bytes calldata curve,
        uint256 position
    ) internal pure returns (uint256 importWh, uint256 exportWh, bool missing) {
        assembly ("memory-safe") {
            let word := calldataload(add(curve.offset, shl(3, position)))
            importWh := shr(224, word)
            exportWh := and(shr(192, word), 0xffffffff)
            missing := eq(importWh, 0xffffffff)
        }
    }

    /// @notice Sum of all quantities, Wh, about 15 gas an element. Relies on {isQuantities}.
    /// @dev Eight quantities a word, added as four lanes of 64 bits; a lane holds 2^32 of them, a curve 100.
    function total(bytes calldata curve) internal pure returns (uint256 wh) {
        assembly ("memory-safe") {
            let low := 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff
            let lanes := 0
            let at := curve.offset
            let end := add(at, curve.length)
            let lastWord := sub(end, and(curve.length, 31))
            for {} lt(at, lastWord) {
                at := add(at, 32)
            } {
                let word := calldataload(at)
                lanes := add(lanes, add(and(word, low), and(shr(32, word), low)))
            }
            if lt(at, end) {
                // A last word that is not full: what follows the curve is shifted out.
                let word := shr(shl(3, sub(32, sub(end, at))), calldataload(at))
                lanes := add(lanes, add(and(word, low), and(shr(32, word), low)))
            }
            wh := add(
                add(shr(192, lanes), and(shr(128, lanes), 0xffffffffffffffff)),
                add(and(shr(64, lanes), 0xffffffffffffffff), and(lanes, 0xffffffffffffffff))
            )
        }
    }
}
