// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";

/// @title Sessions of the peer-to-peer energy market: terms, and series of sessions that anybody may open
/// @notice Day-ahead (24 periods of 4 ISPs), intraday (8 of 2) or any other whole number of ISPs. What follows the opening
/// is in `IEnergyMarket`. Decision 0031.
///
/// @dev **Overlaps.** A session lasts at most a week. At most 32 sessions of an area deliver on the same day (UTC), so that
/// settlement can look at all that a connection may have traded in ({overlapping}). Delivery periods of a day nest: any
/// two lie in each other or apart, whatever their sessions, so that what is netted together never grows beyond the
/// longest period. Quarter hours, half hours, hours and pairs of hours do; hours and three quarters of an hour do not.
/// Readings and standing bundles are good for {recordSeconds} after delivery. Every bundle can be settled, and so the session
/// be closed, {correctionSeconds} before that: by the settlement deadline of the terms, or by the end of the window that it is
/// netted in, which is less than a week after delivery. What then remains is for `IMarketCorrections`.
/// @custom:stop Paused: no new session or schedule. Cancelling a schedule works.
/// @custom:trust A market operator answers for its terms and its budgets; it cannot change them.
interface IMarketSessions {
    /// @notice When a session delivers: `periodCount` periods of `ispsPerPeriod` ISPs from `firstIsp` on.
    struct Span {
        uint64 sessionId;
        uint32 firstIsp;
        uint16 ispsPerPeriod;
        uint16 periodCount;
    }

    event ScheduleRegistered(
        uint64 indexed scheduleId,
        address indexed operator,
        IEnergyMarket.Terms terms,
        uint32 firstIsp,
        uint16 everyIsps,
        uint16 sessionCount,
        uint32 openLeadSeconds
    );
    event ScheduleCancelled(uint64 indexed scheduleId);
    event SessionOpened(
        uint64 indexed sessionId,
        address indexed operator,
        uint32 indexed firstIsp,
        uint64 scheduleId,
        IEnergyMarket.Terms terms
    );
    /// @notice Gate lead shorter than the acceptance window, no ISP, too many periods, more than 672 ISPs, or a delivery
    /// that ends after the range of ISP numbers.
    error TermsInvalid(uint32 gateLeadSeconds, uint32 acceptanceSeconds, uint16 ispsPerPeriod, uint16 periodCount);
    /// @notice The gate would have passed already.
    error GatePassed(uint256 gateClosure, uint256 nowTs);
    /// @notice Readings due and settlement together are longer than bundles stay on record less {correctionSeconds}.
    error SettlementTooLong(uint256 seconds_, uint256 limit);
    /// @param day Unix days.
    error DayFull(bytes32 congestionPointId, uint256 day, uint256 limit);
    /// @notice Periods of `length` ISPs beginning at `start` modulo it would cut those of another session of the day; other
    /// length zero: there are eight lengths on that day already.
    error PeriodsCross(uint256 day, uint256 length, uint256 start, uint256 otherLength, uint256 otherStart);
    error ScheduleUnknown(uint64 scheduleId);
    error NotOperatorOfSchedule(uint64 scheduleId, address caller, address operator);
    error ScheduleInvalid(uint16 everyIsps, uint16 sessionCount);
    error NotScheduled(uint64 scheduleId, uint16 index, uint16 sessionCount);
    error AlreadyOpened(uint64 scheduleId, uint16 index, uint64 sessionId);
    error TooEarly(uint256 opensAt, uint256 nowTs);

    /// @notice Opens a session. Only a market operator, which becomes its balancing party; locks its budgets.
    /// @dev Errors: `MissingRole`, {TermsInvalid}, {SettlementTooLong}, `GridInvalid`, {GatePassed},
    /// `CongestionPointUnknown`, `InsufficientBalance`, {PeriodsCross}, {DayFull}. Emits: {SessionOpened}.
    /// @param firstIsp First ISP of delivery.
    function open(IEnergyMarket.Terms calldata terms, uint32 firstIsp) external returns (uint64 sessionId);

    /// @notice Registers a series of equal sessions that anyone may open, each `openLeadSeconds` before its gate at the
    /// earliest. Only a market operator. Errors: `MissingRole`, {ScheduleInvalid}, {TermsInvalid}, {SettlementTooLong},
    /// `GridInvalid`.
    /// Emits: {ScheduleRegistered}.
    function registerSchedule(
        IEnergyMarket.Terms calldata terms,
        uint32 firstIsp,
        uint16 everyIsps,
        uint16 sessionCount,
        uint32 openLeadSeconds
    ) external returns (uint64 scheduleId);

    /// @notice No further session of a schedule is opened, for good. Only its operator, paused or not; sessions that are open
    /// go on. Errors: {ScheduleUnknown}, {NotOperatorOfSchedule}, {NotScheduled} (cancelled before).
    /// Emits: {ScheduleCancelled}.
    function cancelSchedule(uint64 scheduleId) external;

    /// @notice Opens session `index` of a schedule with the operator's budgets. Anyone may call.
    /// @dev Errors: {ScheduleUnknown}, {NotScheduled}, {AlreadyOpened}, {TooEarly}, and those of {open} (also when the
    /// operator is no longer active). Emits: {SessionOpened}.
    function openScheduled(uint64 scheduleId, uint16 index) external returns (uint64 sessionId);

    /// @notice Terms of a session; all zero when there is none.
    function termsOf(uint64 sessionId) external view returns (IEnergyMarket.Terms memory);

    /// @notice Sessions that deliver in a window and are open to connections of an area: its own and those of all areas, by
    /// day, in the order of their opening.
    /// @param congestionPointId Zero: only sessions of all areas.
    /// @param firstIsp First ISP of the window.
    /// @param endIsp ISP after its last.
    function overlapping(
        bytes32 congestionPointId,
        uint256 firstIsp,
        uint256 endIsp
    ) external view returns (Span[] memory);

    /// @notice How long after delivery bundles of a session stay on record and readings count, seconds.
    function recordSeconds() external pure returns (uint256);

    /// @notice How much of {recordSeconds} is left for corrections at least, when everybody takes its time, seconds.
    function correctionSeconds() external pure returns (uint256);
}
