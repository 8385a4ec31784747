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

    /// @dev Where the curves lie in calldata; zero for a curve that was not given.
    struct Layout {
        uint256 taken;
        uint256 baseline;
        uint256 readings;
        uint256 toleranceBps;
        bool up;
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
            up: direction == IFlexMarket.Direction.Up,
            missingIsShortfall: missingIsShortfall
        });
        uint256 start = _start(quantities);
        for (uint256 at = 0; at < quantities.length; at += 32) {
            uint256 word = _load(start + at);
            // Beyond the curve calldata may hold anything; within it, a zero word means no order here.
            uint256 left = quantities.length - at;
            if (left < 32) word &= type(uint256).max << (256 - 8 * left);
            for (uint256 offset = at; word != 0; word <<= 32) {
                if (word >> 224 != 0) _addPosition(sums, layout, word >> 224, offset);
                offset += 4;
            }
        }
    }

    /// @dev One position with an ordered quantity; `offset` = 4 * position. Every step is bounded by the sums above, so
    /// nothing can overflow; `t <= q` holds because only what was missing could be taken over.
    function _addPosition(Sums memory sums, Layout memory layout, uint256 q, uint256 offset) private pure {
        unchecked {
            uint256 due = q;
            if (layout.taken != 0) {
                uint256 t = _load(layout.taken + offset) >> 224;
                due -= t;
                sums.penalisedWh += t;
                if (due == 0) return;
            }
            uint256 reading = _load(layout.readings + 2 * offset) >> 192;
            if (reading >> 32 == Curves.MISSING) {
                sums.missingWh += due;
                if (layout.missingIsShortfall) sums.penalisedWh += due;
                return;
            }
            uint256 delivered = _delivered(
                layout.up,
                int256(int32(uint32(_load(layout.baseline + offset) >> 224))),
                reading
            );
            uint256 band = (q * layout.toleranceBps) / 10_000;
            if (delivered >= due) {
                sums.creditedWh += due;
                sums.rewardedWh += delivered < due + band ? delivered : due + band;
            } else {
                sums.creditedWh += delivered;
                sums.rewardedWh += delivered;
                if (delivered + band < due) sums.penalisedWh += due - delivered - band;
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

    /// @notice Delivered energy in the direction, Wh, zero when the connection moved the other way.
    /// @param reading `uint32` import and `uint32` export, import in the higher half.
    function _delivered(bool up, int256 baselineNet, uint256 reading) private pure returns (uint256) {
        unchecked {
            int256 difference = baselineNet - int256(reading >> 32) + int256(reading & 0xffffffff);
            if (!up) difference = -difference;
            return difference > 0 ? uint256(difference) : 0;
        }
    }

    function _start(bytes calldata data) private pure returns (uint256 start) {
        assembly ("memory-safe") {
            start := data.offset
        }
    }

    function _load(uint256 at) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(at)
        }
    }
}
