// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMarketCorrections} from "interfaces/IMarketCorrections.sol";
import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";
import {ISettlementProposer} from "interfaces/ISettlementProposer.sol";
import {Debts} from "contracts/clearinghouse/Debts.sol";

/// @title Corrections of settled peer-to-peer trades by newer readings
/// @dev See {IMarketCorrections} for formula and rules. Holds no money and needs no governance.
contract MarketCorrections is IMarketCorrections, Debts {
    IEnergyMarket private immutable _market;
    IMarketSettlement private immutable _settlement;
    ISettlementProposer private immutable _proposer;
    IGridRegistry private immutable _grid;

    /// @dev Sum of all differences, uToken: what was paid first stays where it was paid.
    mapping(uint64 sessionId => mapping(bytes32 connectionId => int256)) private _correctedBy;

    constructor(
        IEnergyMarket market_,
        IMarketSettlement settlement_,
        ISettlementProposer proposer_,
        IGridRegistry grid_,
        IClearingHouse clearingHouse_
    ) Debts(clearingHouse_) {
        _market = market_;
        _settlement = settlement_;
        _proposer = proposer_;
        _grid = grid_;
    }

    /// @inheritdoc IMarketCorrections
    function correct(
        uint64 sessionId,
        bytes32 connectionId,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) external returns (int256 difference) {
        IEnergyMarket.Session memory session = _market.session(sessionId);
        // Closed: the bundle, if it is one, was settled.
        if (!session.closed) revert SessionNotClosed(sessionId);
        (IMarketSettlement.Outcome memory outcome, ) = _settlement.outcomeOf(
            sessionId,
            connectionId,
            positions,
            meterDays
        );
        uint256 paid = paidOf(sessionId, connectionId);
        if (outcome.payout == paid) revert NothingToCorrect(sessionId, connectionId, paid);
        // Payouts are below 2^128.
        difference = int256(uint256(outcome.payout)) - int256(paid);
        _correctedBy[sessionId][connectionId] += difference;
        address trader = _grid.connection(connectionId).owner;
        if (difference > 0) _settleDebt(session.operator, trader, uint256(difference));
        else _settleDebt(trader, session.operator, uint256(-difference));
        emit TraderCorrected(sessionId, connectionId, trader, outcome, difference);
    }

    /// @inheritdoc IMarketCorrections
    function paidOf(uint64 sessionId, bytes32 connectionId) public view returns (uint256) {
        // A bundle is settled once: one of both is zero. With all differences it is the latest payout.
        uint256 first = _settlement.paidOf(sessionId, connectionId) + _proposer.paidOf(sessionId, connectionId);
        return uint256(int256(first) + _correctedBy[sessionId][connectionId]);
    }
}
