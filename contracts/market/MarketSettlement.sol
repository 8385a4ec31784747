// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IEnergyCertificates} from "interfaces/IEnergyCertificates.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {Curves} from "contracts/metering/Curves.sol";

/// @title Settlement of peer-to-peer trades by metered delivery
/// @dev See {IMarketSettlement} for the formulas, the rounding and the rules. Holds no money and needs no governance.
contract MarketSettlement is IMarketSettlement {
    using Curves for bytes;
    using SafeCast for uint256;

    uint256 private constant ISP_SECONDS = 900;

    IEnergyMarket private immutable _market;
    IEnergyCertificates private immutable _certificates;
    IMeteringLedger private immutable _metering;
    IMeterRegistry private immutable _meters;
    IGridRegistry private immutable _grid;
    IClearingHouse private immutable _clearingHouse;

    /// @dev What a connection took and gave in a delivery period, Wh.
    struct Metered {
        uint256 importWh;
        uint256 exportWh;
        /// An ISP without a reading.
        bool incomplete;
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
        uint256 injectedGreenWh;
        uint256 injectedBrownWh;
        uint256 receipts;
        uint256 charges;
        uint256 surplusPayment;
        uint256 greenReward;
    }

    constructor(
        IEnergyMarket market_,
        IEnergyCertificates certificates_,
        IMeteringLedger metering_,
        IMeterRegistry meters_,
        IGridRegistry grid_,
        IClearingHouse clearingHouse_
    ) {
        _market = market_;
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
        bytes calldata bundle,
        Evidence[] calldata meterDays
    ) external returns (Outcome memory outcome) {
        (IEnergyMarket.Session memory session, IEnergyMarket.Terms memory terms) = _delivered(sessionId);
        Metered[] memory metered = _measure(connectionId, session, terms, meterDays);
        return _settle(sessionId, connectionId, bundle, session, terms, metered, true);
    }

    /// @inheritdoc IMarketSettlement
    function settleMissing(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) external returns (Outcome memory) {
        IEnergyMarket.Session memory session = _market.session(sessionId);
        IEnergyMarket.Terms memory terms = _market.termsOf(sessionId);
        uint256 until = _settleBy(session, terms);
        if (block.timestamp < until) revert ReadingsStillDue(sessionId, until, block.timestamp);
        Metered[] memory metered = new Metered[](terms.periodCount);
        for (uint256 i = 0; i < metered.length; ++i) metered[i].incomplete = true;
        return _settle(sessionId, connectionId, bundle, session, terms, metered, false);
    }

    /// @inheritdoc IMarketSettlement
    function outcomeOf(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        Evidence[] calldata meterDays
    ) external view returns (Outcome memory outcome, uint256[] memory injectedWh) {
        (IEnergyMarket.Session memory session, IEnergyMarket.Terms memory terms) = _delivered(sessionId);
        Metered[] memory metered = _measure(connectionId, session, terms, meterDays);
        return _outcome(_market.fillsOf(sessionId, bundle), _rates(session, terms), metered);
    }

    /// @inheritdoc IMarketSettlement
    function settleBy(uint64 sessionId) external view returns (uint256) {
        return _settleBy(_market.session(sessionId), _market.termsOf(sessionId));
    }

    function _settle(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        IEnergyMarket.Session memory session,
        IEnergyMarket.Terms memory terms,
        Metered[] memory metered,
        bool byMeters
    ) private returns (Outcome memory outcome) {
        // Marks the bundle as settled: a second settlement reverts there.
        (IEnergyMarket.Fills memory fills, ) = _market.settle(sessionId, connectionId, bundle);
        uint256[] memory injectedWh;
        (outcome, injectedWh) = _outcome(fills, _rates(session, terms), metered);
        if (outcome.injectedGreenWh + outcome.injectedBrownWh != 0) {
            _certificates.recordInjection(sessionId, connectionId, injectedWh);
        }
        address trader = _grid.connection(connectionId).owner;
        _clearingHouse.release(_market.potLockId(sessionId), trader, outcome.payout);
        emit TraderSettled(sessionId, connectionId, trader, byMeters, outcome);
    }

    function _delivered(
        uint64 sessionId
    ) private view returns (IEnergyMarket.Session memory session, IEnergyMarket.Terms memory terms) {
        session = _market.session(sessionId);
        terms = _market.termsOf(sessionId);
        uint256 end = _deliveryEnd(session, terms);
        if (block.timestamp < end) revert DeliveryNotOver(sessionId, end, block.timestamp);
    }

    function _deliveryEnd(
        IEnergyMarket.Session memory session,
        IEnergyMarket.Terms memory terms
    ) private pure returns (uint256) {
        return (session.firstIsp + uint256(terms.ispsPerPeriod) * terms.periodCount) * ISP_SECONDS;
    }

    function _settleBy(
        IEnergyMarket.Session memory session,
        IEnergyMarket.Terms memory terms
    ) private pure returns (uint256) {
        return _deliveryEnd(session, terms) + terms.readingsDueSeconds + terms.settlementSeconds;
    }

    function _rates(
        IEnergyMarket.Session memory session,
        IEnergyMarket.Terms memory terms
    ) private pure returns (Rates memory) {
        return
            Rates(
                terms.shortagePrice,
                terms.shortagePenaltyRate,
                session.surplusPrice,
                session.greenRewardRate,
                terms.brownPenaltyRate,
                terms.guaranteeRate
            );
    }

    /// Sums of the periods, from days that follow each other. A day is left for the next one at its end, or where its
    /// meter has no reading because it was not in service.
    function _measure(
        bytes32 connectionId,
        IEnergyMarket.Session memory session,
        IEnergyMarket.Terms memory terms,
        Evidence[] calldata meterDays
    ) private view returns (Metered[] memory metered) {
        metered = new Metered[](terms.periodCount);
        uint256 isp = session.firstIsp;
        uint256 end = isp + uint256(terms.ispsPerPeriod) * terms.periodCount;
        for (uint256 k = 0; k < meterDays.length && isp < end; ++k) {
            IMeteringLedger.MeterDay calldata day = meterDays[k].day;
            if (_meters.meter(day.meterId).connectionId != connectionId) {
                revert MeterOfOtherConnection(day.meterId, connectionId);
            }
            // Checks the length of the readings too.
            _metering.requireDay(day, meterDays[k].proof);
            if (isp < day.firstIsp) revert IspNotCovered(isp.toUint32());
            uint256 dayEnd = Math.min(uint256(day.firstIsp) + day.ispCount, end);
            for (; isp < dayEnd; ++isp) {
                Metered memory period = metered[(isp - session.firstIsp) / terms.ispsPerPeriod];
                (uint256 importWh, uint256 exportWh, bool missing) = day.values.reading(isp - day.firstIsp);
                if (missing) {
                    if (!_inService(day.meterId, isp.toUint32())) break;
                    period.incomplete = true;
                } else {
                    period.importWh += importWh;
                    period.exportWh += exportWh;
                }
            }
        }
        if (isp < end) revert IspNotCovered(isp.toUint32());
    }

    function _inService(bytes32 meterId, uint32 isp) private view returns (bool) {
        try _meters.keyAt(meterId, isp) returns (address, address) {
            return true;
        } catch {
            return false;
        }
    }

    /// @return outcome What the trader gets.
    /// @return injectedWh Delivered Wh by product.
    function _outcome(
        IEnergyMarket.Fills memory fills,
        Rates memory rates,
        Metered[] memory metered
    ) private pure returns (Outcome memory outcome, uint256[] memory injectedWh) {
        injectedWh = new uint256[](2 * metered.length);
        Sums memory sums;
        for (uint256 period = 0; period < metered.length; ++period) {
            // Green first: it is what rewards and guarantees of origin go by.
            uint256 green = metered.length + period;
            injectedWh[green] = _addProduct(sums, fills, rates, metered[period], green, true);
            injectedWh[period] = _addProduct(sums, fills, rates, metered[period], period, false);
        }
        uint256 guarantee = Money.costUp(sums.soldWh, rates.guaranteeRate);
        uint256 charges = Math.min(sums.charges, guarantee + sums.receipts);
        outcome.boughtWh = sums.boughtWh.toUint64();
        outcome.soldWh = sums.soldWh.toUint64();
        outcome.injectedGreenWh = sums.injectedGreenWh.toUint64();
        outcome.injectedBrownWh = sums.injectedBrownWh.toUint64();
        outcome.shortageWh = (sums.soldWh - sums.injectedGreenWh - sums.injectedBrownWh).toUint64();
        outcome.surplusWh = (sums.boughtWh - sums.takenWh).toUint64();
        outcome.guarantee = guarantee.toUint128();
        outcome.receipts = sums.receipts.toUint128();
        outcome.charges = charges.toUint128();
        outcome.surplusPayment = sums.surplusPayment.toUint128();
        outcome.greenReward = sums.greenReward.toUint128();
        outcome.payout = (guarantee + sums.receipts - charges + sums.surplusPayment + sums.greenReward).toUint128();
    }

    /// Adds one product of one period to `sums` and takes the energy that it used from `left`.
    function _addProduct(
        Sums memory sums,
        IEnergyMarket.Fills memory fills,
        Rates memory rates,
        Metered memory left,
        uint256 product,
        bool green
    ) private pure returns (uint256 injectedWh) {
        uint256 sold = fills.soldWh[product];
        uint256 bought = fills.boughtWh[product];
        if (sold | bought == 0) return 0;
        int256 signedPrice = fills.prices[product];
        uint256 price = signedPrice > 0 ? uint256(signedPrice) : 0;

        injectedWh = Math.min(left.exportWh, sold);
        left.exportWh -= injectedWh;
        uint256 taken = left.incomplete ? bought : Math.min(left.importWh, bought);
        left.importWh -= Math.min(left.importWh, taken);
        sums.soldWh += sold;
        sums.boughtWh += bought;
        sums.takenWh += taken;
        if (green) {
            sums.injectedGreenWh += injectedWh;
            sums.greenReward += Money.costDown(injectedWh, rates.greenRewardRate);
        } else {
            sums.injectedBrownWh += injectedWh;
            sums.charges += Money.costUp(injectedWh, rates.brownPenaltyRate);
        }
        sums.surplusPayment += Money.costDown(bought - taken, Math.min(rates.surplusPrice, price));
        sums.receipts += signedPrice < 0 ? Money.costDown(taken, uint256(-signedPrice)) : Money.costDown(sold, price);
        sums.charges += Money.costUp(
            sold - injectedWh,
            left.incomplete ? price : Math.max(rates.shortagePrice, price) + rates.shortagePenaltyRate
        );
    }
}
