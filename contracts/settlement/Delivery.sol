// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {Curves} from "contracts/metering/Curves.sol";

/// @title Delivered energy of one connection over one market day
/// @notice The per-ISP rules of {IFlexSettlement}, over packed curves. Pure; the Python reference is
/// `tests/reference/delivery.py`.
/// @dev Layout of the curves: {Curves}. Quantities and taken are read eight positions a word, so that an ISP without an
/// order costs next to nothing.
/// Callers have checked the lengths: 4n, 4n (or 0 for taken), 4n, 8n bytes for n positions. A load of a word at the end
/// of a curve may reach past it; the bits beyond the curve are masked away.
/// Sums: at most 100 ISPs of less than 2^32 Wh, so below 2^39 for quantities and, with the tolerance, below 2^40.
library Delivery {
    struct Sums {
        uint256 creditedWh;
        uint256 rewardedWh;
        uint256 penalisedWh;
        uint256 missingWh;
    }

    /// @dev Where the curves lie in calldata, `taken` zero when it was not given, and how to judge.
    struct Layout {
        uint256 taken;
        uint256 baseline;
        uint256 readings;
        uint256 toleranceBps;
        /// 1 for UP, -1 for DOWN.
        int256 sign;
        uint256 missingIsShortfall;
    }

    /// @notice Sums of {IFlexSettlement} over the positions with an ordered quantity.
    /// @param taken Quantities taken over by standby; empty when none.
    function evaluate(
        IFlexMarket.Direction direction,
        uint256 toleranceBps,
        bool missingIsShortfall,
        bytes calldata quantities,
        bytes calldata taken,
        bytes calldata baseline,
        bytes calldata readings
    ) internal pure returns (Sums memory) {
        Layout memory layout = Layout({
            taken: taken.length == 0 ? 0 : _start(taken),
            baseline: _start(baseline),
            readings: _start(readings),
            toleranceBps: toleranceBps,
            sign: direction == IFlexMarket.Direction.Up ? int256(1) : -1,
            missingIsShortfall: missingIsShortfall ? 1 : 0
        });
        uint256 lanes = _sumPositions(layout, _start(quantities), quantities.length);
        return Sums(uint64(lanes), uint64(lanes >> 64), uint64(lanes >> 128), lanes >> 192);
    }

    /// @dev The four sums as lanes of 64 bits in the order of {Sums}, so that a position adds all of them at once: no sum
    /// reaches 2^41. Assembly, because 96 positions with Solidity's checks, calls and memory cost 40,000 gas more. By
    /// position, with q ordered:
    ///   due = q - taken; `taken <= q`, because only what was missing could be taken over
    ///   moved = baseline - import + export, negated for DOWN; delivered = max(moved, 0)
    ///   band = q * toleranceBps / 10^4
    function _sumPositions(Layout memory layout, uint256 start, uint256 length) private pure returns (uint256 lanes) {
        assembly ("memory-safe") {
            for {
                let at := 0
            } lt(at, length) {
                at := add(at, 32)
            } {
                let word := calldataload(add(start, at))
                // Beyond the curve calldata may hold anything; within it, a zero word means no order here.
                let left := sub(length, at)
                if lt(left, 32) {
                    word := and(word, shl(sub(256, shl(3, left)), not(0)))
                }

                for {
                    let offset := at
                } word {
                    offset := add(offset, 4)
                } {
                    let q := shr(224, word)
                    word := shl(32, word)
                    if iszero(q) {
                        continue
                    }

                    let due := q
                    if mload(layout) {
                        let taken := shr(224, calldataload(add(mload(layout), offset)))
                        due := sub(q, taken)
                        lanes := add(lanes, shl(128, taken))
                        if iszero(due) {
                            continue
                        }
                    }
                    let reading := shr(192, calldataload(add(mload(add(layout, 64)), shl(1, offset))))
                    let imported := shr(32, reading)
                    if eq(imported, 0xffffffff) {
                        lanes := add(lanes, or(shl(192, due), shl(128, mul(due, mload(add(layout, 160))))))
                        continue
                    }
                    let moved := mul(
                        mload(add(layout, 128)),
                        add(
                            sub(sar(224, calldataload(add(mload(add(layout, 32)), offset))), imported),
                            and(reading, 0xffffffff)
                        )
                    )
                    let delivered := mul(moved, sgt(moved, 0))
                    switch lt(delivered, due)
                    case 0 {
                        lanes := add(lanes, or(due, shl(64, due)))
                        if gt(delivered, due) {
                            let over := sub(delivered, due)
                            let band := div(mul(q, mload(add(layout, 96))), 10000)
                            if gt(over, band) {
                                over := band
                            }
                            lanes := add(lanes, shl(64, over))
                        }
                    }
                    default {
                        lanes := add(lanes, or(delivered, shl(64, delivered)))
                        let short := sub(due, delivered)
                        let band := div(mul(q, mload(add(layout, 96))), 10000)
                        if gt(short, band) {
                            lanes := add(lanes, shl(128, sub(short, band)))
                        }
                    }
                }
            }
        }
    }

    /// @notice Sums of an order without any reading.
    function evaluateMissing(
        bool missingIsShortfall,
        bytes calldata quantities,
        bytes calldata taken
    ) internal pure returns (Sums memory sums) {
        for (uint256 p = 0; 4 * p < quantities.length; ++p) {
            uint256 t = taken.length == 0 ? 0 : Curves.quantity(taken, p);
            uint256 due = Curves.quantity(quantities, p) - t;
            sums.missingWh += due;
            sums.penalisedWh += missingIsShortfall ? due + t : t;
        }
    }

    function _start(bytes calldata data) private pure returns (uint256 start) {
        assembly ("memory-safe") {
            start := data.offset
        }
    }
}
