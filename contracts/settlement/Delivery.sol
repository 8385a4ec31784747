// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {Curves} from "contracts/metering/Curves.sol";

/// @title Delivered energy of one connection over one market day
/// @notice The per-ISP rules of {IFlexSettlement}, over packed curves. Pure; the Python reference is
/// `tests/reference/delivery.py`.
/// @dev Layout of the curves: {Curves}. Callers have checked the lengths: 4n, 4n (or 0 for taken), 4n, 8n bytes for n
/// positions.
///
/// Four positions at a time, one in each of four lanes of 64 bits: a market day costs about a third of what a loop over
/// positions does. All values stay below 2^62 and at least zero, so that no lane carries into another:
///   lane of a curve   four values of 32 bits of a curve, spread to lanes; a reading is a lane already
///   mask              a lane of ones where a condition holds, from one bit times 2^64 - 1
///   a >= b            bit 63 of 2^63 + a - b
///   moved             biased by 2^34, since |baseline - import + export| < 2^34
/// Sums: at most 25 values of less than 2^34 a lane. Loads may reach past the end of a curve: where nothing is ordered,
/// which is everywhere beyond the curve, all lanes are masked away.
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
        bool down;
        bool missingIsShortfall;
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
    ) internal pure returns (Sums memory sums) {
        Layout memory layout = Layout({
            taken: taken.length == 0 ? 0 : _start(taken),
            baseline: _start(baseline),
            readings: _start(readings),
            toleranceBps: toleranceBps,
            down: direction == IFlexMarket.Direction.Down,
            missingIsShortfall: missingIsShortfall
        });
        _sumLanes(sums, layout, _start(quantities), quantities.length);
        sums.creditedWh = _across(sums.creditedWh);
        sums.rewardedWh = _across(sums.rewardedWh);
        sums.penalisedWh = _across(sums.penalisedWh);
        sums.missingWh = _across(sums.missingWh);
    }

    /// @dev Sums of four lanes each, over groups of four positions; `group` = 4 * the first of them. By position:
    ///   due = q - taken; `taken <= q`, because only what was missing could be taken over
    ///   band = down(q * toleranceBps / 10^4); delivered = max(moved, 0); credited = min(delivered, due)
    ///   rewarded = credited + min(delivered - credited, band)
    ///   penalised = taken + short - min(short, band) with short = due - credited; also `due` where it is missing and the
    ///   terms say so
    /// Delivered is either above or below what is due, so one difference and one comparison with the band serve both.
    function _sumLanes(Sums memory sums, Layout memory layout, uint256 start, uint256 length) private pure {
        assembly ("memory-safe") {
            function lanes(curve, group) -> spread {
                let x := shr(128, calldataload(add(curve, group)))
                x := and(or(x, shl(64, x)), 0xffffffffffffffff0000000000000000ffffffffffffffff)
                spread := and(or(x, shl(32, x)), 0xffffffff00000000ffffffff00000000ffffffff00000000ffffffff)
            }
            // Of one bit a lane, the lane whole.
            function whole(bits) -> mask {
                mask := mul(
                    and(bits, 0x0000000000000001000000000000000100000000000000010000000000000001),
                    0xffffffffffffffff
                )
            }
            function accumulate(at, addend) {
                mstore(at, add(mload(at), addend))
            }

            for {
                let group := 0
            } lt(group, length) {
                group := add(group, 16)
            } {
                let q := lanes(start, group)
                if lt(sub(length, group), 16) {
                    // A group that is not full: what follows the curve is not its own.
                    q := and(q, shl(sub(256, shl(4, sub(length, group))), not(0)))
                }
                if iszero(q) {
                    continue
                }

                let due := q
                if mload(layout) {
                    let taken := and(
                        lanes(mload(layout), group),
                        whole(shr(63, add(q, 0x7fffffffffffffff7fffffffffffffff7fffffffffffffff7fffffffffffffff)))
                    )
                    due := sub(q, taken)
                    accumulate(add(sums, 64), taken)
                }

                // A reading is import in the upper half of a lane and export in the lower. One more than the largest import,
                // which says missing, reaches the upper half.
                let delivered := calldataload(add(mload(add(layout, 64)), shl(1, group)))
                let imported := and(shr(32, delivered), 0xffffffff00000000ffffffff00000000ffffffff00000000ffffffff)
                let missing := and(
                    shr(32, add(imported, 0x0000000000000001000000000000000100000000000000010000000000000001)),
                    0x0000000000000001000000000000000100000000000000010000000000000001
                )
                if missing {
                    missing := and(due, whole(missing))
                    due := sub(due, missing)
                    accumulate(add(sums, 96), missing)
                    if mload(add(layout, 160)) {
                        accumulate(add(sums, 64), missing)
                    }
                }

                // moved + 2^34 = (baseline + 2^31) + (2^34 - 2^31) + export - import
                delivered := sub(
                    add(
                        add(
                            xor(
                                lanes(mload(add(layout, 32)), group),
                                0x0000000080000000000000008000000000000000800000000000000080000000
                            ),
                            0x0000000380000000000000038000000000000003800000000000000380000000
                        ),
                        and(delivered, 0xffffffff00000000ffffffff00000000ffffffff00000000ffffffff)
                    ),
                    imported
                )
                if mload(add(layout, 128)) {
                    delivered := sub(0x0000000800000000000000080000000000000008000000000000000800000000, delivered)
                }
                // Only where it is not negative and something is due.
                let bits := and(
                    and(
                        shr(34, delivered),
                        shr(63, add(due, 0x7fffffffffffffff7fffffffffffffff7fffffffffffffff7fffffffffffffff))
                    ),
                    0x0000000000000001000000000000000100000000000000010000000000000001
                )
                delivered := sub(and(delivered, mul(bits, 0xffffffffffffffff)), shl(34, bits))

                let enough := whole(
                    shr(
                        63,
                        sub(add(delivered, 0x8000000000000000800000000000000080000000000000008000000000000000), due)
                    )
                )
                let credited := xor(delivered, and(xor(delivered, due), enough))
                accumulate(sums, credited)
                let difference := sub(add(delivered, due), shl(1, credited))
                if difference {
                    let band := mul(q, mload(add(layout, 96)))
                    band := or(
                        or(
                            shl(192, div(shr(192, band), 10000)),
                            shl(128, div(and(shr(128, band), 0xffffffffffffffff), 10000))
                        ),
                        or(
                            shl(64, div(and(shr(64, band), 0xffffffffffffffff), 10000)),
                            div(and(band, 0xffffffffffffffff), 10000)
                        )
                    )
                    let beyond := whole(
                        shr(
                            63,
                            sub(
                                add(difference, 0x8000000000000000800000000000000080000000000000008000000000000000),
                                band
                            )
                        )
                    )
                    let within := xor(difference, and(xor(difference, band), beyond))
                    accumulate(add(sums, 64), and(sub(difference, within), not(enough)))
                    credited := add(credited, and(within, enough))
                }
                accumulate(add(sums, 32), credited)
            }
        }
    }

    /// @dev Sum of the four lanes.
    function _across(uint256 lanes) private pure returns (uint256) {
        unchecked {
            return uint256(uint64(lanes)) + uint64(lanes >> 64) + uint64(lanes >> 128) + (lanes >> 192);
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
