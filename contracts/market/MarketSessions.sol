// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMarketSessions} from "interfaces/IMarketSessions.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {TickBook} from "contracts/market/TickBook.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Sessions of the peer-to-peer energy market: terms, and series of sessions that anybody may open
/// @dev Holds no money: `EnergyMarket.openFor` locks the operator's budgets.
contract MarketSessions is IMarketSessions, Module {
    uint256 private constant SECONDS_PER_ISP = 900;
    uint256 private constant MAX_DELIVERY_PERIODS = 128;
    /// @dev Lanes of schedules start here: above all numbers of sessions, which are lanes of their own.
    uint256 private constant SCHEDULED_LANES = 1 << 48;

    IGridRegistry private immutable _grid;
    IEnergyMarket private immutable _market;

    uint32 private _lastScheduleId;
    mapping(uint64 scheduleId => Schedule) private _schedules;
    mapping(uint64 scheduleId => mapping(uint16 index => uint64 sessionId)) private _opened;
    mapping(uint64 sessionId => IEnergyMarket.Terms) private _terms;

    struct Schedule {
        address operator;
        uint32 firstIsp;
        uint16 everyIsps;
        uint16 sessionCount;
        uint32 openLeadSeconds;
        IEnergyMarket.Terms terms;
    }

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        IEnergyMarket market_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _market = market_;
    }

    /// @inheritdoc IMarketSessions
    function open(IEnergyMarket.Terms calldata terms, uint32 firstIsp) external returns (uint64 sessionId) {
        return _open(terms, firstIsp, msg.sender, 0, 0);
    }

    /// @inheritdoc IMarketSessions
    function registerSchedule(
        IEnergyMarket.Terms calldata terms,
        uint32 firstIsp,
        uint16 everyIsps,
        uint16 sessionCount,
        uint32 openLeadSeconds
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.MarketOperator) returns (uint64 scheduleId) {
        if (everyIsps == 0 || sessionCount == 0) revert ScheduleInvalid(everyIsps, sessionCount);
        _requireValid(terms, firstIsp + uint256(everyIsps) * (sessionCount - 1));
        scheduleId = ++_lastScheduleId;
        _schedules[scheduleId] = Schedule(msg.sender, firstIsp, everyIsps, sessionCount, openLeadSeconds, terms);
        emit ScheduleRegistered(scheduleId, msg.sender, terms, firstIsp, everyIsps, sessionCount, openLeadSeconds);
    }

    /// @inheritdoc IMarketSessions
    function openScheduled(uint64 scheduleId, uint16 index) external returns (uint64 sessionId) {
        Schedule storage schedule = _schedules[scheduleId];
        if (schedule.operator == address(0)) revert ScheduleUnknown(scheduleId);
        if (index >= schedule.sessionCount) revert NotScheduled(scheduleId, index, schedule.sessionCount);
        if (_opened[scheduleId][index] != 0) revert AlreadyOpened(scheduleId, index, _opened[scheduleId][index]);
        IEnergyMarket.Terms memory terms = schedule.terms;
        uint32 firstIsp = schedule.firstIsp + uint32(index) * schedule.everyIsps;
        uint256 opensBefore = uint256(schedule.openLeadSeconds) + terms.gateLeadSeconds;
        uint256 start = firstIsp * SECONDS_PER_ISP;
        if (block.timestamp + opensBefore < start) revert TooEarly(start - opensBefore, block.timestamp);
        uint256 lane = (uint256(scheduleId) << 16) | (index % _lanesOf(schedule, terms));
        sessionId = _open(terms, firstIsp, schedule.operator, scheduleId, uint56(SCHEDULED_LANES + lane));
        _opened[scheduleId][index] = sessionId;
    }

    /// @inheritdoc IMarketSessions
    function termsOf(uint64 sessionId) external view returns (IEnergyMarket.Terms memory) {
        return _terms[sessionId];
    }

    function _open(
        IEnergyMarket.Terms memory terms,
        uint32 firstIsp,
        address operator,
        uint64 scheduleId,
        uint56 lane
    ) private whenNotPaused returns (uint64 sessionId) {
        participants.requireRole(operator, IParticipantRegistry.Role.MarketOperator);
        _requireValid(terms, firstIsp);
        uint256 start = firstIsp * SECONDS_PER_ISP;
        // A gate before 1970 has passed too.
        uint256 gateClosure = start - Math.min(start, terms.gateLeadSeconds);
        if (block.timestamp > gateClosure) revert GatePassed(gateClosure, block.timestamp);
        bytes32 congestionPointId = terms.congestionPointId;
        if (congestionPointId != 0 && !_grid.congestionPoint(congestionPointId).active) {
            revert IGridRegistry.CongestionPointUnknown(congestionPointId);
        }
        sessionId = _market.openFor(terms, firstIsp, operator, lane);
        _terms[sessionId] = terms;
        emit SessionOpened(sessionId, operator, firstIsp, scheduleId, terms);
    }

    function _requireValid(IEnergyMarket.Terms memory terms, uint256 firstIsp) private pure {
        if (
            terms.gateLeadSeconds < terms.acceptanceSeconds ||
            terms.ispsPerPeriod == 0 ||
            terms.periodCount == 0 ||
            terms.periodCount > MAX_DELIVERY_PERIODS ||
            firstIsp + _deliveryIsps(terms) > type(uint32).max
        ) {
            revert TermsInvalid(terms.gateLeadSeconds, terms.acceptanceSeconds, terms.ispsPerPeriod, terms.periodCount);
        }
        TickBook.requireValid(
            TickBook.Grid(terms.basePrice, terms.priceStep, terms.tickCount, 2 * terms.periodCount, terms.minQuantityWh)
        );
    }

    /// Sessions of a schedule that can be under way at once, from opening to the settlement deadline, and one more: when
    /// the lane of one comes round again, anyone can settle what is left of it.
    function _lanesOf(Schedule storage schedule, IEnergyMarket.Terms memory terms) private view returns (uint256) {
        uint256 seconds_ = uint256(schedule.openLeadSeconds) + terms.gateLeadSeconds;
        seconds_ += _deliveryIsps(terms) * SECONDS_PER_ISP;
        seconds_ += uint256(terms.readingsDueSeconds) + terms.settlementSeconds;
        return seconds_ / (schedule.everyIsps * SECONDS_PER_ISP) + 2;
    }

    function _deliveryIsps(IEnergyMarket.Terms memory terms) private pure returns (uint256) {
        return uint256(terms.ispsPerPeriod) * terms.periodCount;
    }
}
