// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IMarketSessions} from "interfaces/IMarketSessions.sol";

/// @title What a connection traded in overlapping sessions, held against its meter once
/// @notice Twin of `offchain/market/netting.py`. Rules and example: `IMarketSettlement`. Decision 0034.
/// @dev Positions stand in the order of {sort}. Every Wh of the window is taken from an array and so used once:
/// export by one sale, a bought Wh by one sale or as consumption, import by one purchase.
/// Costs about 250 gas for each ISP of a traded product, and no storage.
library Netting {
    /// @dev Brown and green, the index of arrays below (`IEnergyMarket.EnergyType`).
    uint256 private constant BROWN = 0;
    uint256 private constant GREEN = 1;

    /// @notice Final fills of a connection in a session and what became of them, Wh by product.
    struct Position {
        IMarketSessions.Span span;
        IEnergyMarket.Fills fills;
        /// Sold and delivered.
        uint256[] injectedWh;
        /// Sold and covered by purchases.
        uint256[] coveredWh;
        /// Bought and taken, or used to cover a sale.
        uint256[] takenWh;
    }

    /// @notice Metered ISPs, Wh each. Cuts no delivery period of the positions in two.
    struct Window {
        uint256 firstIsp;
        uint256 endIsp;
        uint256[] importWh;
        uint256[] exportWh;
        bool[] missing;
    }

    /// @notice Finer periods first, then the session that was opened first.
    function sort(Position[] memory positions) internal pure {
        for (uint256 i = 1; i < positions.length; ++i) {
            Position memory moving = positions[i];
            uint256 k = i;
            for (; k != 0 && _rank(positions[k - 1].span) > _rank(moving.span); --k) positions[k] = positions[k - 1];
            positions[k] = moving;
        }
    }

    /// @notice Fills `injectedWh`, `coveredWh` and `takenWh` of sorted positions; leaves in the window what none of
    /// them used.
    function net(Position[] memory positions, Window memory window) internal pure {
        bool short;
        for (uint256 k = 0; k < positions.length; ++k) {
            if (_inject(positions[k], window)) short = true;
        }
        uint256[][2] memory coveringWh;
        if (short) coveringWh = _cover(positions, window);
        for (uint256 k = 0; k < positions.length; ++k) _take(positions[k], window, coveringWh);
    }

    /// @notice Widens a window to the whole periods of a session that deliver at its ends.
    function widen(
        IMarketSessions.Span memory span,
        uint256 firstIsp,
        uint256 endIsp
    ) internal pure returns (uint256, uint256) {
        uint256 start = span.firstIsp;
        uint256 length = span.ispsPerPeriod;
        uint256 spanEnd = start + length * span.periodCount;
        if (start < firstIsp && firstIsp < spanEnd) firstIsp -= (firstIsp - start) % length;
        if (start < endIsp && endIsp < spanEnd) endIsp = start + Math.ceilDiv(endIsp - start, length) * length;
        return (firstIsp, endIsp);
    }

    /// @notice Export less import less sales plus purchases of each ISP, positions spread evenly over the ISPs of their
    /// periods; the window may cut these.
    function residual(
        Position[] memory positions,
        Window memory window
    ) internal pure returns (int256[] memory residualWh) {
        residualWh = new int256[](window.exportWh.length);
        for (uint256 i = 0; i < residualWh.length; ++i) {
            residualWh[i] = int256(window.exportWh[i]) - int256(window.importWh[i]);
        }
        for (uint256 k = 0; k < positions.length; ++k) _addResidual(positions[k], window, residualWh);
    }

    function _addResidual(Position memory position, Window memory window, int256[] memory residualWh) private pure {
        uint256 start = position.span.firstIsp;
        uint256 length = position.span.ispsPerPeriod;
        uint256 count = position.span.periodCount;
        uint256 isp = Math.max(start, window.firstIsp);
        uint256 end = Math.min(start + length * count, window.endIsp);
        for (; isp < end; ++isp) {
            uint256 period = (isp - start) / length;
            uint256 i = (isp - start) % length;
            int256 deltaWh;
            for (uint256 product = period; product < 2 * count; product += count) {
                deltaWh += int256(evenShare(position.fills.boughtWh[product], length, i));
                deltaWh -= int256(evenShare(position.fills.soldWh[product], length, i));
            }
            residualWh[isp - window.firstIsp] += deltaWh;
        }
    }

    /// @notice Whether an ISP of a delivery period has no reading.
    function isIncomplete(
        Position memory position,
        uint256 period,
        Window memory window
    ) internal pure returns (bool incomplete) {
        uint256 length = position.span.ispsPerPeriod;
        uint256 at = _offset(position.span, period, window);
        for (uint256 i = 0; i < length; ++i) {
            if (window.missing[at + i]) return true;
        }
    }

    function _rank(IMarketSessions.Span memory span) private pure returns (uint256) {
        return (uint256(span.ispsPerPeriod) << 64) | span.sessionId;
    }

    /// Sales take export.
    function _inject(Position memory position, Window memory window) private pure returns (bool short) {
        uint256 count = position.span.periodCount;
        uint256[] memory soldWh = position.fills.soldWh;
        (uint256 period, uint256 end) = _periods(position.span, window);
        for (; period < end; ++period) {
            for (uint256 k = 2; k != 0; --k) {
                uint256 product = _productOf(k - 1, count, period);
                uint256 sold = soldWh[product];
                if (sold == 0) continue;
                uint256 at = _offset(position.span, period, window);
                uint256 injected = _use(window.exportWh, at, position.span.ispsPerPeriod, sold);
                position.injectedWh[product] = injected;
                if (injected != sold) short = true;
            }
        }
    }

    /// Purchases, spread evenly over the ISPs of their periods, cover what sales are short of.
    /// @return usedWh What covered something, by type and ISP.
    function _cover(
        Position[] memory positions,
        Window memory window
    ) private pure returns (uint256[][2] memory usedWh) {
        uint256 isps = window.endIsp - window.firstIsp;
        uint256[][2] memory leftWh;
        for (uint256 k = 0; k < 2; ++k) {
            (leftWh[k], usedWh[k]) = (new uint256[](isps), new uint256[](isps));
        }
        for (uint256 k = 0; k < positions.length; ++k) _spread(positions[k], window, leftWh);
        for (uint256 k = 0; k < 2; ++k) {
            for (uint256 i = 0; i < isps; ++i) usedWh[k][i] = leftWh[k][i];
        }
        // Green sales first, from green purchases only; what is left of these may serve brown ones.
        for (uint256 k = 0; k < positions.length; ++k) _coverType(positions[k], window, leftWh, GREEN);
        for (uint256 k = 0; k < positions.length; ++k) _coverType(positions[k], window, leftWh, BROWN);
        for (uint256 k = 0; k < 2; ++k) {
            for (uint256 i = 0; i < isps; ++i) usedWh[k][i] -= leftWh[k][i];
        }
    }

    function _spread(Position memory position, Window memory window, uint256[][2] memory sumsWh) private pure {
        uint256 length = position.span.ispsPerPeriod;
        uint256 count = position.span.periodCount;
        (uint256 period, uint256 end) = _periods(position.span, window);
        for (; period < end; ++period) {
            uint256 at = _offset(position.span, period, window);
            for (uint256 k = 0; k < 2; ++k) {
                uint256 bought = position.fills.boughtWh[k * count + period];
                if (bought == 0) continue;
                for (uint256 i = 0; i < length; ++i) sumsWh[k][at + i] += evenShare(bought, length, i);
            }
        }
    }

    /// @notice Part of an energy in ISP `i` of its period: equal parts, the remainder in the first.
    function evenShare(uint256 energyWh, uint256 length, uint256 i) internal pure returns (uint256) {
        return i == 0 ? energyWh / length + (energyWh % length) : energyWh / length;
    }

    function _coverType(
        Position memory position,
        Window memory window,
        uint256[][2] memory leftWh,
        uint256 kind
    ) private pure {
        uint256 length = position.span.ispsPerPeriod;
        uint256 first = kind * position.span.periodCount;
        (uint256 period, uint256 end) = _periods(position.span, window);
        for (; period < end; ++period) {
            uint256 product = first + period;
            uint256 short = position.fills.soldWh[product] - position.injectedWh[product];
            if (short == 0) continue;
            uint256 at = _offset(position.span, period, window);
            uint256 covered = _use(leftWh[kind], at, length, short);
            if (kind == BROWN && covered != short) covered += _use(leftWh[GREEN], at, length, short - covered);
            position.coveredWh[product] = covered;
        }
    }

    /// Purchases take import with what did not cover a sale.
    /// @param coveringWh What covered a sale and is no purchase's yet; no arrays when nothing did.
    function _take(Position memory position, Window memory window, uint256[][2] memory coveringWh) private pure {
        uint256 count = position.span.periodCount;
        uint256[] memory boughtWh = position.fills.boughtWh;
        (uint256 period, uint256 end) = _periods(position.span, window);
        for (; period < end; ++period) {
            for (uint256 k = 2; k != 0; --k) {
                uint256 product = _productOf(k - 1, count, period);
                uint256 bought = boughtWh[product];
                if (bought == 0) continue;
                uint256 taken = _claim(position, period, bought, window, coveringWh[k - 1]);
                uint256 at = _offset(position.span, period, window);
                taken += _use(window.importWh, at, position.span.ispsPerPeriod, bought - taken);
                // Without readings it counts as taken.
                if (taken != bought && isIncomplete(position, period, window)) taken = bought;
                position.takenWh[product] = taken;
            }
        }
    }

    /// What of a purchase covered sales.
    function _claim(
        Position memory position,
        uint256 period,
        uint256 bought,
        Window memory window,
        uint256[] memory coveringWh
    ) private pure returns (uint256 claimed) {
        if (coveringWh.length == 0) return 0;
        uint256 length = position.span.ispsPerPeriod;
        uint256 at = _offset(position.span, period, window);
        for (uint256 i = 0; i < length; ++i) {
            uint256 part = Math.min(evenShare(bought, length, i), coveringWh[at + i]);
            coveringWh[at + i] -= part;
            claimed += part;
        }
    }

    /// Takes up to `wanted` from `length` values, in order of time.
    function _use(
        uint256[] memory valuesWh,
        uint256 at,
        uint256 length,
        uint256 wanted
    ) private pure returns (uint256 used) {
        // No checks: the period lies in the window, whose values these are; a part is at most its value.
        assembly ("memory-safe") {
            let value := add(add(valuesWh, 0x20), shl(5, at))
            for {
                let end := add(value, shl(5, length))
            } and(lt(value, end), lt(used, wanted)) {
                value := add(value, 0x20)
            } {
                let whole := mload(value)
                let part := sub(wanted, used)
                if lt(whole, part) {
                    part := whole
                }
                mstore(value, sub(whole, part))
                used := add(used, part)
            }
        }
    }

    /// Delivery periods of a session in the window.
    function _periods(
        IMarketSessions.Span memory span,
        Window memory window
    ) private pure returns (uint256 first, uint256 end) {
        uint256 start = span.firstIsp;
        if (window.firstIsp > start) first = (window.firstIsp - start) / span.ispsPerPeriod;
        end = Math.min(span.periodCount, (window.endIsp - start) / span.ispsPerPeriod);
    }

    /// First ISP of a period, counted from that of the window.
    function _offset(
        IMarketSessions.Span memory span,
        uint256 period,
        Window memory window
    ) private pure returns (uint256) {
        unchecked {
            // No checks: the period is one of {_periods}.
            return span.firstIsp + period * span.ispsPerPeriod - window.firstIsp;
        }
    }

    /// Index of a period's product of a type.
    function _productOf(uint256 kind, uint256 periodCount, uint256 period) private pure returns (uint256) {
        unchecked {
            // No checks: counts of sixteen bits.
            return kind * periodCount + period;
        }
    }
}
