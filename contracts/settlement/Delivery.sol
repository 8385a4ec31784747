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
/// Four positions at a time, one in each of four lanes of 64 bits: a market day costs less than a third of what a loop over
/// positions does. All values stay below 2^62 and at least zero, so that no lane carries into another:
///   lane of a curve   four values of 32 bits of a curve, spread to lanes; a reading is a lane already
///   mask              a lane of ones where a condition holds, from one bit times 2^64 - 1
///   max(a - b, 0)     a - b + 2^63, whose bit 63 says that it is not negative, times that bit without it
///   moved             biased by 2^34, since |baseline - import + export| < 2^34
///   x / 10^4          x * R / 2^64 with R = 2^64 / 10^4 up, all down: the same for x < 2^64 / 10^4, and a quantity times a
///                     tolerance is below 2^48; two lanes at a time, for the product needs 128 bits
/// Sums: at most 25 values of less than 2^34 a lane. Loads of baseline and readings may reach past the end of a curve:
/// nothing is due there and nothing ordered, so all that moved there is over, and none of it within the band.
library Delivery {
    struct Sums {
        uint256 creditedWh;
        uint256 rewardedWh;
        uint256 penalisedWh;
        uint256 missingWh;
    }

    /// @dev What is read less often than every group: start of taken in calldata, zero when it was not given, and how to
    /// judge.
    struct Rules {
        uint256 taken;
        uint256 toleranceBps;
        bool missingIsShortfall;
    }

    /// In each lane its lowest bit, its highest bit, all below that, and the half that a value of a curve fills.
    uint256 private constant ONE = 0x0000000000000001000000000000000100000000000000010000000000000001;
    uint256 private constant TOP = 0x8000000000000000800000000000000080000000000000008000000000000000;
    uint256 private constant MOST = 0x7fffffffffffffff7fffffffffffffff7fffffffffffffff7fffffffffffffff;
    uint256 private constant HALF = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
    /// One lane whole, and every other lane.
    uint256 private constant WHOLE = 0xffffffffffffffff;
    uint256 private constant EVEN = 0x0000000000000000ffffffffffffffff0000000000000000ffffffffffffffff;

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
        _sumLanes(
            sums,
            Rules(taken.length == 0 ? 0 : _start(taken), toleranceBps, missingIsShortfall),
            direction == IFlexMarket.Direction.Down,
            quantities,
            _start(baseline),
            _start(readings)
        );
        sums.creditedWh = _across(sums.creditedWh);
        sums.rewardedWh = sums.creditedWh + _across(sums.rewardedWh);
        sums.penalisedWh = _across(sums.penalisedWh);
        sums.missingWh = _across(sums.missingWh);
    }

    /// @dev Sums of four lanes each, over groups of four positions; of rewarded only what lies above credited. By
    /// position:
    ///   due = q - taken; `taken <= q`, because only what was missing could be taken over
    ///   delivered = max(moved, 0); over = max(delivered - due, 0); credited = delivered - over; short = due - credited
    ///   band = down(q * toleranceBps / 10^4), zero where nothing is due
    ///   rewarded = credited + over - max(over - band, 0)
    ///   penalised = taken + max(short - band, 0); also `due` where it is missing and the terms say so
    /// No position is both over and short: one difference and one comparison with the band serve both.
    function _sumLanes(
        Sums memory sums,
        Rules memory rules,
        bool down,
        bytes calldata quantities,
        uint256 baseline,
        uint256 readings
    ) private pure {
        assembly ("memory-safe") {
            // A lane of ones where a value is not zero.
            function positive(x) -> mask {
                mask := mul(and(shr(63, add(x, MOST)), ONE), WHOLE)
            }

            // A copy that zeros follow, so that the last group may be a part of one. `at` walks through it; baseline and
            // readings become what leads from there to them.
            let at := mload(0x40)
            let end := add(at, quantities.length)
            calldatacopy(at, quantities.offset, quantities.length)
            mstore(end, 0)
            baseline := sub(baseline, at)
            readings := sub(readings, shl(1, at))
            for {} lt(at, end) {
                at := add(at, 16)
            } {
                let q := shr(128, mload(at))
                if iszero(q) {
                    continue
                }
                q := and(or(q, shl(64, q)), 0xffffffffffffffff0000000000000000ffffffffffffffff)
                q := and(or(q, shl(32, q)), HALF)

                let due := q
                if mload(rules) {
                    // Past the end of the curve is another's.
                    let taken := shr(128, calldataload(add(mload(rules), sub(at, mload(0x40)))))
                    taken := and(or(taken, shl(64, taken)), 0xffffffffffffffff0000000000000000ffffffffffffffff)
                    taken := and(and(or(taken, shl(32, taken)), HALF), positive(q))
                    due := sub(q, taken)
                    q := and(q, positive(due))
                    mstore(add(sums, 64), add(mload(add(sums, 64)), taken))
                }

                // A reading is import in the upper half of a lane and export in the lower. One more than the largest import,
                // which says missing, reaches the upper half.
                let delivered := calldataload(add(readings, shl(1, at)))
                let imported := and(shr(32, delivered), HALF)
                let missing := and(shr(32, add(imported, ONE)), ONE)
                if missing {
                    missing := and(due, mul(missing, WHOLE))
                    due := sub(due, missing)
                    q := and(q, positive(due))
                    mstore(add(sums, 96), add(mload(add(sums, 96)), missing))
                    if mload(add(rules, 64)) {
                        mstore(add(sums, 64), add(mload(add(sums, 64)), missing))
                    }
                }

                // moved + 2^34 = (baseline + 2^31) + (2^34 - 2^31) + export - import
                let net := shr(128, calldataload(add(baseline, at)))
                net := and(or(net, shl(64, net)), 0xffffffffffffffff0000000000000000ffffffffffffffff)
                net := and(or(net, shl(32, net)), HALF)
                net := xor(net, 0x0000000080000000000000008000000000000000800000000000000080000000)
                delivered := sub(
                    add(
                        add(net, 0x0000000380000000000000038000000000000003800000000000000380000000),
                        and(delivered, HALF)
                    ),
                    imported
                )
                if down {
                    delivered := sub(0x0000000800000000000000080000000000000008000000000000000800000000, delivered)
                }
                // What is not negative has bit 34, and none above.
                delivered := and(delivered, mul(and(shr(34, delivered), ONE), 0x3ffffffff))

                let over := sub(add(delivered, TOP), due)
                over := and(over, mul(and(shr(63, over), ONE), 0x7fffffffffffffff))
                delivered := sub(delivered, over)
                mstore(sums, add(mload(sums), delivered))

                let beyond := sub(add(due, over), delivered)
                if beyond {
                    let band := mul(q, mload(add(rules, 32)))
                    band := or(
                        and(shr(64, mul(and(band, EVEN), 0x68db8bac710cc)), EVEN),
                        and(mul(and(shr(64, band), EVEN), 0x68db8bac710cc), not(EVEN))
                    )
                    beyond := sub(add(beyond, TOP), band)
                    beyond := and(beyond, mul(and(shr(63, beyond), ONE), 0x7fffffffffffffff))
                    if over {
                        let unpaid := and(beyond, positive(over))
                        mstore(add(sums, 32), add(mload(add(sums, 32)), sub(over, unpaid)))
                        beyond := sub(beyond, unpaid)
                    }
                    mstore(add(sums, 64), add(mload(add(sums, 64)), beyond))
                }
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
