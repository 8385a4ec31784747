// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IBilateralTrades} from "interfaces/IBilateralTrades.sol";
import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";
import {IPoolReports} from "interfaces/IPoolReports.sol";
import {IPostDeliveryPool} from "interfaces/IPostDeliveryPool.sol";
import {Money} from "contracts/clearinghouse/Money.sol";

/// @title Positions of members of a post-delivery pool, by their meters and their trades
/// @dev See {IPoolReports} for the formulas and the rules. Holds no money and needs no governance.
contract PoolReports is IPoolReports {
    using SafeCast for uint256;

    IPostDeliveryPool private immutable _pool;
    IBilateralTrades private immutable _trades;
    IMarketSettlement private immutable _settlement;

    /// @dev What a connection gave less what it took in a delivery period, beside its positions in auctions, Wh.
    struct Metered {
        int256 netWh;
        /// An ISP without a reading.
        bool incomplete;
    }

    /// @dev What positions go by.
    struct Limits {
        uint256 retailPrice;
        /// What whoever feeds in pays at the worst, uToken per kWh.
        uint256 feedInCost;
        /// What the deposit still pays for, thousandths of a uToken.
        uint256 left;
        uint256 buyTick;
        uint256 sellTick;
    }

    constructor(IPostDeliveryPool pool_, IBilateralTrades trades_, IMarketSettlement settlement_) {
        _pool = pool_;
        _trades = trades_;
        _settlement = settlement_;
    }

    /// @inheritdoc IPoolReports
    function report(
        uint64 poolId,
        bytes32 connectionId,
        IBilateralTrades.Trade[] calldata trades,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) external returns (bytes memory position) {
        uint256 credit;
        (position, credit) = positionOf(poolId, connectionId, trades, positions, meterDays);
        emit MemberReported(poolId, connectionId, msg.sender);
        _pool.record(poolId, connectionId, position, credit);
    }

    /// @inheritdoc IPoolReports
    function settleUnreported(uint64 poolId, bytes32 connectionId, IBilateralTrades.Trade[] calldata trades) external {
        (uint256[] memory soldWh, uint256[] memory boughtWh, uint256 credit) = _trades.positionOf(
            poolId,
            connectionId,
            trades
        );
        uint256 owedWh;
        for (uint256 period = 0; period < soldWh.length; ++period) {
            owedWh += soldWh[period] - Math.min(soldWh[period], boughtWh[period]);
        }
        uint256 retailPrice = uint256(int256(_pool.termsOf(poolId).retailPrice));
        credit += _pool.memberOf(poolId, connectionId).credit;
        _pool.settleUnreported(poolId, connectionId, credit, Money.costUp(owedWh, retailPrice));
    }

    /// @inheritdoc IPoolReports
    function positionOf(
        uint64 poolId,
        bytes32 connectionId,
        IBilateralTrades.Trade[] calldata trades,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) public view returns (bytes memory position, uint256 credit) {
        Metered[] memory metered = _measure(poolId, connectionId, positions, meterDays);
        uint256[] memory soldWh;
        uint256[] memory boughtWh;
        (soldWh, boughtWh, credit) = _trades.positionOf(poolId, connectionId, trades);
        Limits memory limits = _limits(poolId, connectionId);
        credit += limits.left / Money.WH_PER_KWH;
        position = _position(metered, soldWh, boughtWh, limits);
    }

    function _limits(uint64 poolId, bytes32 connectionId) private view returns (Limits memory) {
        IPostDeliveryPool.Terms memory terms = _pool.termsOf(poolId);
        IPostDeliveryPool.Member memory member = _pool.memberOf(poolId, connectionId);
        int256 feedInPrice = terms.feedInPrice;
        return
            Limits(
                uint256(int256(terms.retailPrice)),
                feedInPrice < 0 ? uint256(-feedInPrice) : 0,
                member.credit * Money.WH_PER_KWH,
                member.buyTick,
                member.sellTick
            );
    }

    function _position(
        Metered[] memory metered,
        uint256[] memory soldWh,
        uint256[] memory boughtWh,
        Limits memory limits
    ) private pure returns (bytes memory position) {
        position = new bytes(8 * metered.length + 24); // so that a whole word can be written for each order
        uint256 end;
        for (uint256 period = 0; period < metered.length; ++period) {
            uint256 order = _orderOf(metered[period], soldWh[period], boughtWh[period], limits);
            if (order == 0) continue;
            assembly ("memory-safe") {
                mstore(add(add(position, 0x20), end), shl(192, or(order, shl(56, period))))
                end := add(end, 8)
            }
        }
        assembly ("memory-safe") {
            mstore(position, end)
        }
    }

    /// @return order As `TickBook` packs it, without the period; zero: neither surplus nor demand.
    function _orderOf(
        Metered memory metered,
        uint256 soldWh,
        uint256 boughtWh,
        Limits memory limits
    ) private pure returns (uint256 order) {
        int256 unsoldWh = metered.netWh - int256(soldWh);
        int256 leftWh = unsoldWh + int256(boughtWh);
        if (leftWh > 0 && metered.incomplete) leftWh = unsoldWh > 0 ? unsoldWh : int256(0);
        if (leftWh > 0) {
            uint256 surplusWh = _admit(uint256(leftWh), boughtWh, limits.feedInCost, limits);
            if (surplusWh != 0) order = (1 << 48) | (limits.sellTick << 32) | surplusWh.toUint32();
        } else if (leftWh < 0) {
            uint256 demandWh = _admit(uint256(-leftWh), soldWh, limits.retailPrice, limits);
            if (demandWh != 0) order = (limits.buyTick << 32) | demandWh.toUint32();
        }
    }

    /// What is covered by trades, and of the rest as much as the deposit still pays for at the worst price.
    function _admit(
        uint256 energyWh,
        uint256 coveredWh,
        uint256 worstPrice,
        Limits memory limits
    ) private pure returns (uint256) {
        if (worstPrice == 0 || energyWh <= coveredWh) return energyWh;
        uint256 restWh = Math.min(energyWh - coveredWh, limits.left / worstPrice);
        limits.left -= restWh * worstPrice;
        return coveredWh + restWh;
    }

    /// Sums of the periods over what no position in an auction used.
    function _measure(
        uint64 poolId,
        bytes32 connectionId,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) private view returns (Metered[] memory metered) {
        IPostDeliveryPool.Terms memory terms = _pool.termsOf(poolId);
        uint256 isps = uint256(terms.ispsPerPeriod) * terms.periodCount;
        (uint256[] memory importWh, uint256[] memory exportWh, bool[] memory missing) = _settlement.leftOf(
            connectionId,
            terms.firstIsp,
            isps.toUint16(),
            positions,
            meterDays
        );
        metered = new Metered[](terms.periodCount);
        for (uint256 isp = 0; isp < isps; ++isp) {
            Metered memory period = metered[isp / terms.ispsPerPeriod];
            // Readings are below 2^32.
            period.netWh += int256(exportWh[isp]) - int256(importWh[isp]);
            if (missing[isp]) period.incomplete = true;
        }
    }
}
