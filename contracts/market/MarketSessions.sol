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
    /// @dev A week; so a session touches at most eight days (UTC).
    uint256 private constant MAX_DELIVERY_ISPS = 672;
    uint256 private constant ISPS_PER_DAY = 96;
    uint256 private constant MAX_SESSIONS_PER_DAY = 32;
    /// @dev Lanes of schedules start here: above all numbers of sessions, which are lanes of their own.
    uint256 private constant SCHEDULED_LANES = 1 << 48;

    IGridRegistry private immutable _grid;
    IEnergyMarket private immutable _market;

    uint32 private _lastScheduleId;
    mapping(uint64 scheduleId => Schedule) private _schedules;
    mapping(uint64 scheduleId => mapping(uint16 index => uint64 sessionId)) private _opened;
    mapping(uint64 sessionId => IEnergyMarket.Terms) private _terms;
    /// @dev Sessions whose delivery touches a day (UTC), in the order of their opening.
    mapping(bytes32 congestionPointId => mapping(uint256 day => Span[])) private _spans;
    /// @dev Lengths of delivery periods and where they begin, of a day: eight lanes of 32 bits, filled from the lowest;
    /// bits 0-15 length, ISPs, 1 .. 672; bits 16-31 first ISP modulo the length.
    mapping(uint256 day => uint256) private _periodGrids;

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
    function cancelSchedule(uint64 scheduleId) external {
        Schedule storage schedule = _schedules[scheduleId];
        address operator = schedule.operator;
        if (operator == address(0)) revert ScheduleUnknown(scheduleId);
        if (operator != msg.sender) revert NotOperatorOfSchedule(scheduleId, msg.sender, operator);
        if (schedule.sessionCount == 0) revert NotScheduled(scheduleId, 0, 0);
        schedule.sessionCount = 0;
        emit ScheduleCancelled(scheduleId);
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
    function recordSeconds() public pure returns (uint256) {
        return 30 days;
    }

    /// @inheritdoc IMarketSessions
    function correctionSeconds() public pure returns (uint256) {
        return 7 days;
    }

    /// @inheritdoc IMarketSessions
    function overlapping(
        bytes32 congestionPointId,
        uint256 firstIsp,
        uint256 endIsp
    ) external view returns (Span[] memory spans) {
        if (firstIsp >= endIsp) return spans;
        uint256 firstDay = firstIsp / ISPS_PER_DAY;
        uint256 lastDay = (endIsp - 1) / ISPS_PER_DAY;
        uint256 most;
        for (uint256 day = firstDay; day <= lastDay; ++day) {
            most += _spans[congestionPointId][day].length;
            if (congestionPointId != 0) most += _spans[0][day].length;
        }
        spans = new Span[](most);
        uint256 count;
        for (uint256 day = firstDay; day <= lastDay; ++day) {
            count = _addOverlapping(spans, count, congestionPointId, day, firstIsp, endIsp);
            if (congestionPointId != 0) count = _addOverlapping(spans, count, 0, day, firstIsp, endIsp);
        }
        assembly ("memory-safe") {
            mstore(spans, count)
        }
    }

    /// Adds the sessions of a day that overlap a window; one of several days is added on its first in the window.
    function _addOverlapping(
        Span[] memory spans,
        uint256 count,
        bytes32 congestionPointId,
        uint256 day,
        uint256 firstIsp,
        uint256 endIsp
    ) private view returns (uint256) {
        Span[] storage listed = _spans[congestionPointId][day];
        uint256 length = listed.length;
        for (uint256 i = 0; i < length; ++i) {
            Span memory span = listed[i];
            uint256 spanEnd = span.firstIsp + uint256(span.ispsPerPeriod) * span.periodCount;
            if (span.firstIsp >= endIsp || spanEnd <= firstIsp) continue;
            if (Math.max(firstIsp, span.firstIsp) / ISPS_PER_DAY == day) spans[count++] = span;
        }
        return count;
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
        _list(sessionId, terms, firstIsp);
        emit SessionOpened(sessionId, operator, firstIsp, scheduleId, terms);
    }

    /// Enters a session where {overlapping} finds it.
    function _list(uint64 sessionId, IEnergyMarket.Terms memory terms, uint32 firstIsp) private {
        Span memory span = Span(sessionId, firstIsp, terms.ispsPerPeriod, terms.periodCount);
        uint256 lastDay = (firstIsp + _deliveryIsps(terms) - 1) / ISPS_PER_DAY;
        for (uint256 day = firstIsp / ISPS_PER_DAY; day <= lastDay; ++day) {
            _requireNested(day, terms.ispsPerPeriod, firstIsp % terms.ispsPerPeriod);
            Span[] storage listed = _spans[terms.congestionPointId][day];
            if (listed.length == MAX_SESSIONS_PER_DAY) {
                revert DayFull(terms.congestionPointId, day, MAX_SESSIONS_PER_DAY);
            }
            listed.push(span);
        }
    }

    /// Of two lengths of a day the longer is a multiple of the shorter, and its periods begin with one of the shorter:
    /// any two periods lie in each other or apart.
    function _requireNested(uint256 day, uint256 length, uint256 start) private {
        uint256 grids = _periodGrids[day];
        for (uint256 shift = 0; shift < 256; shift += 32) {
            uint256 otherLength = (grids >> shift) & 0xffff;
            uint256 otherStart = (grids >> (shift + 16)) & 0xffff;
            if (otherLength == 0) {
                _periodGrids[day] = grids | (((start << 16) | length) << shift);
                return;
            }
            if (otherLength == length && otherStart == start) return;
            (uint256 coarse, uint256 fine) = length > otherLength ? (length, otherLength) : (otherLength, length);
            if (coarse == fine || coarse % fine != 0 || start % fine != otherStart % fine) {
                revert PeriodsCross(day, length, start, otherLength, otherStart);
            }
        }
        revert PeriodsCross(day, length, start, 0, 0);
    }

    function _requireValid(IEnergyMarket.Terms memory terms, uint256 firstIsp) private pure {
        if (
            terms.gateLeadSeconds < terms.acceptanceSeconds ||
            terms.ispsPerPeriod == 0 ||
            terms.periodCount == 0 ||
            terms.periodCount > MAX_DELIVERY_PERIODS ||
            _deliveryIsps(terms) > MAX_DELIVERY_ISPS ||
            firstIsp + _deliveryIsps(terms) > type(uint32).max
        ) {
            revert TermsInvalid(terms.gateLeadSeconds, terms.acceptanceSeconds, terms.ispsPerPeriod, terms.periodCount);
        }
        uint256 settledAfter = uint256(terms.readingsDueSeconds) + terms.settlementSeconds;
        uint256 limit = recordSeconds() - correctionSeconds();
        if (settledAfter > limit) revert SettlementTooLong(settledAfter, limit);
        TickBook.requireValid(
            TickBook.Grid(terms.basePrice, terms.priceStep, terms.tickCount, 2 * terms.periodCount, terms.minQuantityWh)
        );
    }

    /// Sessions of a schedule that can be under way at once, from opening until no session can need their bundles, and
    /// one more: when the lane of one comes round again, anyone can settle what is left of it. A bundle is needed by
    /// others for {recordSeconds} after the last delivery that is netted with it, which ends less than two of the longest
    /// deliveries later: that of a session and of a period that overlaps both.
    function _lanesOf(Schedule storage schedule, IEnergyMarket.Terms memory terms) private view returns (uint256) {
        uint256 seconds_ = uint256(schedule.openLeadSeconds) + terms.gateLeadSeconds;
        seconds_ += (_deliveryIsps(terms) + 2 * MAX_DELIVERY_ISPS) * SECONDS_PER_ISP + recordSeconds();
        return seconds_ / (schedule.everyIsps * SECONDS_PER_ISP) + 2;
    }

    function _deliveryIsps(IEnergyMarket.Terms memory terms) private pure returns (uint256) {
        return uint256(terms.ispsPerPeriod) * terms.periodCount;
    }
}
