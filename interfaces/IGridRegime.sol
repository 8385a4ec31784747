// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";

/// @title Grid regime of a congestion point and direct control as the last resort
/// @notice Green: normal. Yellow: congestion forecast, the market is used. Orange: the market fell short, the DSO may
/// order connections directly within their technical limits against the regulated rate. Red: emergency, the market
/// is closed. Source: eDREAM D2.2 HL-UC01_LL-UC09; USEF operating regimes.
/// @dev A regime above Green always has an end; when it has passed, the point is Green again without a transaction.
/// Orange is bound to a request that fell short and lies within its market day; direct orders take direction and day from
/// that request, and their baselines were committed before its gate, like those of offers. When Orange ends early, no new
/// direct order is possible; those issued stand.
/// @custom:stop Paused: no change of regime, no direct order. A regime in force still ends by its time.
/// @custom:trust The DSO decides how to select and when to intervene; what it did and why is on record.
interface IGridRegime {
    enum Regime {
        Green,
        Yellow,
        Orange,
        Red
    }

    struct RegimeState {
        Regime regime;
        uint32 fromIsp;
        /// First ISP that is Green again.
        uint32 untilIsp;
        /// Request that fell short, for Orange; zero otherwise.
        uint64 requestId;
    }

    event RegimeChanged(
        bytes32 indexed congestionPointId,
        Regime indexed regime,
        uint32 fromIsp,
        uint32 untilIsp,
        uint64 requestId,
        string reason
    );
    event DirectControlUsed(
        bytes32 indexed congestionPointId,
        uint64 indexed groupId,
        address indexed dso,
        uint256 connections,
        string reason
    );
    event RegulatedRateSet(uint32 rate);

    error AlreadyGreen(bytes32 congestionPointId);
    error NoShortfallOfMarket(uint64 requestId);
    error RegimePeriod(uint32 fromIsp, uint32 untilIsp, uint256 nowIsp);
    error NotOrange(bytes32 congestionPointId, Regime regime);
    error OutsideRegime(uint256 position, uint32 fromIsp, uint32 untilIsp);
    error OutsideTechnicalLimit(bytes32 connectionId, uint256 position, uint256 quantityWh, uint256 limitWh);
    error ReasonMissing();
    error NoConnections();
    error EmptyDirectOrder(bytes32 connectionId);
    error CurveLength(uint256 length, uint256 expected);
    error BaselineNotUsable(uint64 commitmentId);
    error DirectIspsPassed(uint256 position, uint256 nowTs);

    /// @notice Sets the regime from now for a stated time and reason. Only the DSO of the congestion point. Orange needs
    /// a closed request whose ordered energy is less than requested, for the same point and day.
    /// @dev Errors: `CongestionPointUnknown`, `NotDsoOf`, {ReasonMissing}, {AlreadyGreen}, {RegimePeriod},
    /// {NoShortfallOfMarket}. Emits: {RegimeChanged}.
    /// @param untilIsp First ISP that is Green again; ignored for Green.
    /// @param requestId For Orange the request that fell short; ignored otherwise.
    function setRegime(
        bytes32 congestionPointId,
        Regime regime,
        uint32 untilIsp,
        uint64 requestId,
        string calldata reason
    ) external;

    /// @notice Orders connections directly. Only the DSO, only in Orange, only ISPs of the regime that have not begun,
    /// within technical limits. The compensation at the regulated rate is locked from the DSO.
    /// @dev Energy of an ISP at the technical limit of P watt: down(P / 4) Wh.
    /// Errors: `NotDsoOf`, {ReasonMissing}, {NotOrange}, {BaselineNotUsable}, {NoConnections}, {CurveLength},
    /// {EmptyDirectOrder}, {DirectIspsPassed}, {OutsideRegime}, {OutsideTechnicalLimit}, and those of
    /// {IFlexDispatch.issueDirect}. Emits: {DirectControlUsed}.
    /// @param baselineCommitmentId Baselines of the day, committed before the gate of the request that fell short.
    function orderDirect(
        bytes32 congestionPointId,
        uint64 baselineCommitmentId,
        IFlexDispatch.Direct[] calldata orders,
        string calldata reason
    ) external returns (uint64 groupId);

    /// @notice Compensation of direct control, micro-token per kWh. Only governance.
    function setRegulatedRate(uint32 rate) external;

    function regulatedRate() external view returns (uint32);

    /// @notice Regime now; Green when the last one has ended.
    function regimeOf(bytes32 congestionPointId) external view returns (Regime);

    /// @notice Regime now with its period and reason; all zero when Green.
    function stateOf(bytes32 congestionPointId) external view returns (RegimeState memory);
}
