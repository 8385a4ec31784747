// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IEnergyCertificates} from "interfaces/IEnergyCertificates.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMarketSessions} from "interfaces/IMarketSessions.sol";
import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {Netting} from "contracts/market/Netting.sol";
import {Curves} from "contracts/metering/Curves.sol";

/// @title Settlement of peer-to-peer trades by metered delivery
/// @dev See {IMarketSettlement} for the formulas, the rounding and the rules. Holds no money and needs no governance.
contract MarketSettlement is IMarketSettlement {
    using Curves for bytes;
    using SafeCast for uint256;

    uint256 private constant ISP_SECONDS = 900;

    IEnergyMarket private immutable _market;
    IMarketSessions private immutable _sessions;
    IEnergyCertificates private immutable _certificates;
    IMeteringLedger private immutable _metering;
    IMeterRegistry private immutable _meters;
    IGridRegistry private immutable _grid;
    IClearingHouse private immutable _clearingHouse;

    /// @inheritdoc IMarketSettlement
    mapping(uint64 sessionId => mapping(bytes32 connectionId => uint256)) public paidOf;

    /// @dev A bundle that stands.
    struct Standing {
        IMarketSessions.Span span;
        bytes25 hash;
    }

    /// @dev A session, the window it is netted in, and what the connection traded there.
    struct Case {
        IEnergyMarket.Session session;
        IEnergyMarket.Terms terms;
        Netting.Window window;
        Standing[] standing;
        Netting.Position[] positions;
        /// The position of the session, one of `positions`.
        Netting.Position own;
    }

    /// @dev Rates that an outcome goes by, micro-token per kWh.
    struct Rates {
        uint256 shortagePrice;
        uint256 shortagePenaltyRate;
        uint256 surplusPrice;
        uint256 greenRewardRate;
        uint256 brownPenaltyRate;
        uint256 guaranteeRate;
    }

    /// @dev Over all products, Wh and uToken.
    struct Sums {
        uint256 boughtWh;
        uint256 soldWh;
        uint256 takenWh;
        uint256 coveredWh;
        uint256 injectedGreenWh;
        uint256 injectedBrownWh;
        uint256 receipts;
        uint256 charges;
        uint256 surplusPayment;
        uint256 greenReward;
    }

    constructor(
        IEnergyMarket market_,
        IMarketSessions sessions_,
        IEnergyCertificates certificates_,
        IMeteringLedger metering_,
        IMeterRegistry meters_,
        IGridRegistry grid_,
        IClearingHouse clearingHouse_
    ) {
        _market = market_;
        _sessions = sessions_;
        _certificates = certificates_;
        _metering = metering_;
        _meters = meters_;
        _grid = grid_;
        _clearingHouse = clearingHouse_;
    }

    /// @inheritdoc IMarketSettlement
    function settle(
        uint64 sessionId,
        bytes32 connectionId,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external returns (Outcome memory) {
        Case memory found = _delivered(sessionId, connectionId);
        uint256 own = _match(found, sessionId, connectionId, positions);
        _measure(connectionId, found.window, meterDays);
        return _settle(found, sessionId, connectionId, positions[own].bundle, true);
    }

    /// @inheritdoc IMarketSettlement
    function settleMissing(
        uint64 sessionId,
        bytes32 connectionId,
        Position[] calldata positions
    ) external returns (Outcome memory) {
        Case memory found = _caseOf(sessionId, connectionId);
        uint256 until = Math.max(_settleBy(found.session, found.terms), found.window.endIsp * ISP_SECONDS);
        if (block.timestamp < until) revert ReadingsStillDue(sessionId, until, block.timestamp);
        uint256 own = _match(found, sessionId, connectionId, positions);
        for (uint256 i = 0; i < found.window.missing.length; ++i) found.window.missing[i] = true;
        return _settle(found, sessionId, connectionId, positions[own].bundle, false);
    }

    /// @inheritdoc IMarketSettlement
    function outcomeOf(
        uint64 sessionId,
        bytes32 connectionId,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external view returns (Outcome memory outcome, uint256[] memory injectedWh) {
        Case memory found = _delivered(sessionId, connectionId);
        uint256 own = _match(found, sessionId, connectionId, positions);
        _measure(connectionId, found.window, meterDays);
        found.own.fills = _market.fillsOf(sessionId, positions[own].bundle);
        return (_outcome(found), found.own.injectedWh);
    }

    /// @inheritdoc IMarketSettlement
    function leftOf(
        bytes32 connectionId,
        uint32 firstIsp,
        uint16 ispCount,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external view returns (uint256[] memory importWh, uint256[] memory exportWh, bool[] memory missing) {
        Case memory found;
        _widen(found, _grid.connection(connectionId).congestionPointId, connectionId, firstIsp, ispCount);
        _requireOver(0, found.window);
        _match(found, 0, connectionId, positions);
        _measure(connectionId, found.window, meterDays);
        Netting.sort(found.positions);
        Netting.net(found.positions, found.window);
        (importWh, exportWh, missing) = (new uint256[](ispCount), new uint256[](ispCount), new bool[](ispCount));
        uint256 at = firstIsp - found.window.firstIsp;
        for (uint256 i = 0; i < ispCount; ++i) {
            importWh[i] = found.window.importWh[at + i];
            exportWh[i] = found.window.exportWh[at + i];
            missing[i] = found.window.missing[at + i];
        }
    }

    /// @inheritdoc IMarketSettlement
    function residualOf(
        bytes32 connectionId,
        uint32 firstIsp,
        uint16 ispCount,
        Position[] calldata positions,
        Evidence[] calldata meterDays
    ) external view returns (int256[] memory residualWh, bool[] memory missing) {
        Case memory found;
        found.window = _windowOf(firstIsp, uint256(firstIsp) + ispCount);
        bytes32 area = _grid.connection(connectionId).congestionPointId;
        found.standing = _standing(area, connectionId, found.window);
        _requireOver(0, found.window);
        _match(found, 0, connectionId, positions);
        _measure(connectionId, found.window, meterDays);
        return (Netting.residual(found.positions, found.window), found.window.missing);
    }

    /// @inheritdoc IMarketSettlement
    function settleBy(uint64 sessionId) external view returns (uint256) {
        return _settleBy(_market.session(sessionId), _market.termsOf(sessionId));
    }

    /// @inheritdoc IMarketSettlement
    function readingsUntil(uint64 sessionId) external view returns (uint256) {
        return _deliveryEnd(_market.session(sessionId), _market.termsOf(sessionId)) + _sessions.recordSeconds();
    }

    /// @inheritdoc IMarketSettlement
    function anchoredAgain(
        uint64 sessionId,
        bytes32 connectionId,
        Evidence[] calldata meterDays,
        uint256 sinceTs
    ) external view returns (bool) {
        Netting.Window memory window = _caseOf(sessionId, connectionId).window;
        for (uint256 k = 0; k < meterDays.length; ++k) {
            IMeteringLedger.MeterDay calldata day = meterDays[k].day;
            IMeterRegistry.Meter memory meter = _meters.meter(day.meterId);
            if (meter.connectionId != connectionId) revert MeterOfOtherConnection(day.meterId, connectionId);
            IMeteringLedger.Batch memory batch = _metering.batch(meter.operator, day.firstIsp);
            bool meets = day.firstIsp < window.endIsp && window.firstIsp < uint256(day.firstIsp) + batch.ispCount;
            if (meets && batch.version > 1 && batch.anchoredAt >= sinceTs) return true;
        }
        return false;
    }

    function _settle(
        Case memory found,
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        bool byMeters
    ) private returns (Outcome memory outcome) {
        // Marks the bundle as settled: a second settlement reverts there.
        (found.own.fills, ) = _market.settle(sessionId, connectionId, bundle);
        outcome = _outcome(found);
        if (outcome.injectedGreenWh + outcome.injectedBrownWh != 0) {
            _certificates.recordInjection(sessionId, connectionId, found.own.injectedWh);
        }
        paidOf[sessionId][connectionId] = outcome.payout;
        (address trader, ) = _grid.ownerOf(connectionId);
        _clearingHouse.release(_market.potLockId(sessionId), trader, outcome.payout);
        emit TraderSettled(sessionId, connectionId, trader, byMeters, outcome);
    }

    // ------------------------------------------------------------------ window and positions

    /// A session whose window is over and has readings that count.
    function _delivered(uint64 sessionId, bytes32 connectionId) private view returns (Case memory found) {
        found = _caseOf(sessionId, connectionId);
        _requireOver(sessionId, found.window);
    }

    function _requireOver(uint64 sessionId, Netting.Window memory window) private view {
        uint256 end = window.endIsp * ISP_SECONDS;
        if (block.timestamp < end) revert DeliveryNotOver(sessionId, end, block.timestamp);
        uint256 until = end + _sessions.recordSeconds();
        if (block.timestamp >= until) revert ReadingsTooLate(sessionId, until, block.timestamp);
    }

    function _caseOf(uint64 sessionId, bytes32 connectionId) private view returns (Case memory found) {
        found.session = _market.session(sessionId);
        found.terms = _sessions.termsOf(sessionId);
        if (found.terms.periodCount == 0) revert IEnergyMarket.SessionUnknown(sessionId);
        bytes32 area = found.terms.congestionPointId;
        if (area == 0) area = _grid.connection(connectionId).congestionPointId;
        uint256 isps = uint256(found.terms.ispsPerPeriod) * found.terms.periodCount;
        _widen(found, area, connectionId, found.session.firstIsp, isps);
    }

    /// Widens a window until it cuts no period of the sessions in which the connection has a bundle. As periods nest, once
    /// is enough.
    function _widen(
        Case memory found,
        bytes32 area,
        bytes32 connectionId,
        uint256 firstIsp,
        uint256 ispCount
    ) private view {
        uint256 first = firstIsp;
        uint256 end = firstIsp + ispCount;
        while (true) {
            Netting.Window memory window = Netting.Window(
                first,
                end,
                new uint256[](0),
                new uint256[](0),
                new bool[](0)
            );
            found.standing = _standing(area, connectionId, window);
            for (uint256 k = 0; k < found.standing.length; ++k) {
                (first, end) = Netting.widen(found.standing[k].span, first, end);
            }
            if (first == window.firstIsp && end == window.endIsp) break;
        }
        found.window = _windowOf(first, end);
    }

    function _windowOf(uint256 first, uint256 end) private pure returns (Netting.Window memory) {
        uint256 isps = end - first;
        return Netting.Window(first, end, new uint256[](isps), new uint256[](isps), new bool[](isps));
    }

    /// Bundles of a connection that deliver in a window.
    function _standing(
        bytes32 area,
        bytes32 connectionId,
        Netting.Window memory window
    ) private view returns (Standing[] memory standing) {
        IMarketSessions.Span[] memory spans = _sessions.overlapping(area, window.firstIsp, window.endIsp);
        standing = new Standing[](spans.length);
        uint256 count;
        for (uint256 k = 0; k < spans.length; ++k) {
            IEnergyMarket.BundleState memory state = _market.bundleOf(spans[k].sessionId, connectionId);
            if (state.placed) standing[count++] = Standing(spans[k], state.hash);
        }
        assembly ("memory-safe") {
            mstore(standing, count)
        }
    }

    /// Checks that exactly the bundles that stand were brought and finds their fills, but for those of the session itself.
    /// @return own Place of the session's own bundle in `brought`.
    function _match(
        Case memory found,
        uint64 sessionId,
        bytes32 connectionId,
        Position[] calldata brought
    ) private view returns (uint256 own) {
        uint256 count = found.standing.length;
        own = type(uint256).max;
        found.positions = new Netting.Position[](count);
        for (uint256 k = 0; k < count; ++k) {
            Standing memory standing = found.standing[k];
            uint64 id = standing.span.sessionId;
            if (k >= brought.length || brought[k].sessionId != id) revert PositionOmitted(id);
            if (bytes25(keccak256(brought[k].bundle)) != standing.hash) {
                revert IEnergyMarket.BundleMismatch(id, connectionId, standing.hash);
            }
            found.positions[k].span = standing.span;
            uint256 products = 2 * uint256(standing.span.periodCount);
            found.positions[k].injectedWh = new uint256[](products);
            found.positions[k].coveredWh = new uint256[](products);
            found.positions[k].takenWh = new uint256[](products);
            bool isOwn = id == sessionId;
            if (!(isOwn ? found.session : _market.session(id)).finalised) revert IEnergyMarket.NotFinalised(id);
            if (isOwn) (own, found.own) = (k, found.positions[k]);
            else found.positions[k].fills = _market.fillsOf(id, brought[k].bundle);
        }
        if (brought.length > count) revert PositionNotInWindow(brought[count].sessionId);
        if (sessionId != 0 && own == type(uint256).max) {
            revert IEnergyMarket.BundleMismatch(sessionId, connectionId, 0);
        }
    }

    function _settleBy(
        IEnergyMarket.Session memory session,
        IEnergyMarket.Terms memory terms
    ) private pure returns (uint256) {
        return _deliveryEnd(session, terms) + terms.readingsDueSeconds + terms.settlementSeconds;
    }

    function _deliveryEnd(
        IEnergyMarket.Session memory session,
        IEnergyMarket.Terms memory terms
    ) private pure returns (uint256) {
        return (session.firstIsp + uint256(terms.ispsPerPeriod) * terms.periodCount) * ISP_SECONDS;
    }

    // ------------------------------------------------------------------ readings

    /// Reads the window from days that follow each other. A day is left for the next one at its end, or where its meter
    /// has no reading because it was not in service.
    function _measure(bytes32 connectionId, Netting.Window memory window, Evidence[] calldata meterDays) private view {
        uint256 isp = window.firstIsp;
        for (uint256 k = 0; k < meterDays.length && isp < window.endIsp; ++k) {
            IMeteringLedger.MeterDay calldata day = meterDays[k].day;
            if (_meters.meter(day.meterId).connectionId != connectionId) {
                revert MeterOfOtherConnection(day.meterId, connectionId);
            }
            // Checks the length of the readings too.
            _metering.requireDay(day, meterDays[k].proof);
            if (isp < day.firstIsp) revert IspNotCovered(isp.toUint32());
            uint256 dayEnd = Math.min(uint256(day.firstIsp) + day.ispCount, window.endIsp);
            isp = _readDay(day.meterId, day.values, day.firstIsp, isp, dayEnd, window);
        }
        if (isp < window.endIsp) revert IspNotCovered(isp.toUint32());
    }

    /// Reads ISPs `isp` .. `dayEnd` - 1 of a day into the window.
    /// @return The ISP after the last one that it covers.
    function _readDay(
        bytes32 meterId,
        bytes calldata values,
        uint256 dayFirstIsp,
        uint256 isp,
        uint256 dayEnd,
        Netting.Window memory window
    ) private view returns (uint256) {
        for (; isp < dayEnd; ++isp) {
            unchecked {
                // The ISP lies in the day and in the window.
                (uint256 importWh, uint256 exportWh, bool missing) = values.reading(isp - dayFirstIsp);
                uint256 at = isp - window.firstIsp;
                if (missing) {
                    if (!_inService(meterId, isp.toUint32())) return isp;
                    window.missing[at] = true;
                } else {
                    if (importWh != 0) window.importWh[at] = importWh;
                    if (exportWh != 0) window.exportWh[at] = exportWh;
                }
            }
        }
        return isp;
    }

    function _inService(bytes32 meterId, uint32 isp) private view returns (bool) {
        try _meters.keyAt(meterId, isp) returns (address, address) {
            return true;
        } catch {
            return false;
        }
    }

    // ------------------------------------------------------------------ outcome

    /// What the trader gets; fills in what was delivered.
    function _outcome(Case memory found) private pure returns (Outcome memory outcome) {
        Netting.sort(found.positions);
        Netting.net(found.positions, found.window);
        Rates memory rates = Rates(
            found.terms.shortagePrice,
            found.terms.shortagePenaltyRate,
            found.session.surplusPrice,
            found.session.greenRewardRate,
            found.terms.brownPenaltyRate,
            found.terms.guaranteeRate
        );
        Sums memory sums;
        for (uint256 product = 0; product < found.own.injectedWh.length; ++product) {
            _addProduct(sums, rates, found.own, product, found.window);
        }
        uint256 guarantee = Money.costUp(sums.soldWh, rates.guaranteeRate);
        uint256 charges = Math.min(sums.charges, guarantee + sums.receipts);
        uint256 injected = sums.injectedGreenWh + sums.injectedBrownWh;
        outcome.boughtWh = sums.boughtWh.toUint64();
        outcome.soldWh = sums.soldWh.toUint64();
        outcome.injectedGreenWh = sums.injectedGreenWh.toUint64();
        outcome.injectedBrownWh = sums.injectedBrownWh.toUint64();
        outcome.coveredWh = sums.coveredWh.toUint64();
        outcome.shortageWh = (sums.soldWh - injected - sums.coveredWh).toUint64();
        outcome.surplusWh = (sums.boughtWh - sums.takenWh).toUint64();
        outcome.guarantee = guarantee.toUint128();
        outcome.receipts = sums.receipts.toUint128();
        outcome.charges = charges.toUint128();
        outcome.surplusPayment = sums.surplusPayment.toUint128();
        outcome.greenReward = sums.greenReward.toUint128();
        outcome.payout = (guarantee + sums.receipts - charges + sums.surplusPayment + sums.greenReward).toUint128();
    }

    /// Adds one product to `sums`.
    function _addProduct(
        Sums memory sums,
        Rates memory rates,
        Netting.Position memory own,
        uint256 product,
        Netting.Window memory window
    ) private pure {
        uint256 sold = own.fills.soldWh[product];
        uint256 bought = own.fills.boughtWh[product];
        if (sold | bought == 0) return;
        int256 signedPrice = own.fills.prices[product];
        uint256 price = signedPrice > 0 ? uint256(signedPrice) : 0;
        uint256 taken = own.takenWh[product];
        sums.soldWh += sold;
        sums.boughtWh += bought;
        sums.takenWh += taken;
        sums.surplusPayment += Money.costDown(bought - taken, Math.min(rates.surplusPrice, price));
        sums.receipts += signedPrice < 0 ? Money.costDown(taken, uint256(-signedPrice)) : Money.costDown(sold, price);
        if (sold != 0) _addSale(sums, rates, own, product, price, window);
    }

    /// Adds what of a sale was injected, covered and short.
    function _addSale(
        Sums memory sums,
        Rates memory rates,
        Netting.Position memory own,
        uint256 product,
        uint256 price,
        Netting.Window memory window
    ) private pure {
        uint256 periodCount = own.span.periodCount;
        uint256 injected = own.injectedWh[product];
        uint256 covered = own.coveredWh[product];
        sums.coveredWh += covered;
        if (product >= periodCount) {
            sums.injectedGreenWh += injected;
            sums.greenReward += Money.costDown(injected, rates.greenRewardRate);
        } else {
            sums.injectedBrownWh += injected;
            sums.charges += Money.costUp(injected, rates.brownPenaltyRate);
        }
        uint256 short = own.fills.soldWh[product] - injected - covered;
        if (short == 0) return;
        bool incomplete = Netting.isIncomplete(own, product % periodCount, window);
        sums.charges += Money.costUp(
            short,
            incomplete ? price : Math.max(rates.shortagePrice, price) + rates.shortagePenaltyRate
        );
    }
}
