// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ICommitmentRegistry} from "interfaces/ICommitmentRegistry.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {IGridRegime} from "interfaces/IGridRegime.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Curves} from "contracts/metering/Curves.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Grid regime of a congestion point and direct control as the last resort
contract GridRegime is IGridRegime, Module {
    using Curves for bytes;

    uint256 private constant SECONDS_PER_ISP = 900;
    uint256 private constant ISPS_PER_HOUR = 4;

    IGridRegistry private immutable _grid;
    ICommitmentRegistry private immutable _commitments;
    IFlexMarket private immutable _market;
    IFlexDispatch private immutable _dispatch;

    /// @inheritdoc IGridRegime
    uint32 public regulatedRate;
    mapping(bytes32 congestionPointId => RegimeState) private _states;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        ICommitmentRegistry commitments_,
        IFlexMarket market_,
        IFlexDispatch dispatch_,
        uint32 regulatedRate_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _commitments = commitments_;
        _market = market_;
        _dispatch = dispatch_;
        _setRegulatedRate(regulatedRate_);
    }

    /// @inheritdoc IGridRegime
    function setRegime(
        bytes32 congestionPointId,
        Regime regime,
        uint32 untilIsp,
        uint64 requestId,
        string calldata reason
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Dso) {
        _requireDsoOf(congestionPointId);
        if (bytes(reason).length == 0) revert ReasonMissing();

        uint32 nowIsp = _nowIsp();
        RegimeState memory state;
        if (regime == Regime.Green) {
            if (regimeOf(congestionPointId) == Regime.Green) revert AlreadyGreen(congestionPointId);
        } else {
            if (untilIsp <= nowIsp) revert RegimePeriod(nowIsp, untilIsp, nowIsp);
            state = RegimeState(regime, nowIsp, untilIsp, 0);
            if (regime == Regime.Orange) {
                _requireShortfall(congestionPointId, requestId, nowIsp, untilIsp);
                state.requestId = requestId;
            }
        }
        _states[congestionPointId] = state;
        emit RegimeChanged(congestionPointId, regime, nowIsp, state.untilIsp, state.requestId, reason);
    }

    /// @inheritdoc IGridRegime
    function orderDirect(
        bytes32 congestionPointId,
        uint64 baselineCommitmentId,
        IFlexDispatch.Direct[] calldata orders,
        string calldata reason
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Dso) returns (uint64 groupId) {
        _requireDsoOf(congestionPointId);
        if (bytes(reason).length == 0) revert ReasonMissing();
        RegimeState memory state = stateOf(congestionPointId);
        if (state.regime != Regime.Orange) revert NotOrange(congestionPointId, state.regime);
        IFlexMarket.RequestTerms memory terms = _market.request(state.requestId).terms;
        _requireBaseline(baselineCommitmentId, terms);
        if (orders.length == 0) revert NoConnections();
        for (uint256 i = 0; i < orders.length; ++i) _requireAllowed(orders[i], state, terms);

        groupId = _issue(congestionPointId, terms, baselineCommitmentId, orders);
        emit DirectControlUsed(congestionPointId, groupId, msg.sender, orders.length, reason);
    }

    /// @inheritdoc IGridRegime
    function setRegulatedRate(uint32 rate) external restricted {
        _setRegulatedRate(rate);
    }

    /// @inheritdoc IGridRegime
    function regimeOf(bytes32 congestionPointId) public view returns (Regime) {
        return stateOf(congestionPointId).regime;
    }

    /// @inheritdoc IGridRegime
    function stateOf(bytes32 congestionPointId) public view returns (RegimeState memory state) {
        RegimeState storage last = _states[congestionPointId];
        if (_nowIsp() < last.untilIsp) state = last;
    }

    function _issue(
        bytes32 congestionPointId,
        IFlexMarket.RequestTerms memory terms,
        uint64 baselineCommitmentId,
        IFlexDispatch.Direct[] calldata orders
    ) private returns (uint64) {
        return
            _dispatch.issueDirect(
                msg.sender,
                congestionPointId,
                terms.direction,
                terms.dayFirstIsp,
                terms.ispCount,
                regulatedRate,
                baselineCommitmentId,
                orders
            );
    }

    function _setRegulatedRate(uint32 rate) private {
        regulatedRate = rate;
        emit RegulatedRateSet(rate);
    }

    /// @dev The market was used for this point, closed, and ordered less than the DSO asked for.
    function _requireShortfall(
        bytes32 congestionPointId,
        uint64 requestId,
        uint32 nowIsp,
        uint32 untilIsp
    ) private view {
        IFlexMarket.Request memory asked = _market.request(requestId);
        if (
            (asked.status != IFlexMarket.RequestStatus.Selected && asked.status != IFlexMarket.RequestStatus.Expired) ||
            asked.terms.congestionPointId != congestionPointId ||
            asked.dso != msg.sender ||
            asked.orderedWh >= asked.requestedWh
        ) revert NoShortfallOfMarket(requestId);
        if (nowIsp < asked.terms.dayFirstIsp || untilIsp > asked.terms.dayFirstIsp + asked.terms.ispCount) {
            revert RegimePeriod(nowIsp, untilIsp, nowIsp);
        }
    }

    function _requireBaseline(uint64 commitmentId, IFlexMarket.RequestTerms memory terms) private view {
        ICommitmentRegistry.Commitment memory committed = _commitments.commitment(commitmentId);
        if (
            committed.kind != ICommitmentRegistry.Kind.Baseline ||
            committed.firstIsp != terms.dayFirstIsp ||
            committed.ispCount != terms.ispCount ||
            committed.postedAt > terms.gateClosure
        ) revert BaselineNotUsable(commitmentId);
    }

    /// @dev Dispatch checks that the connection is below the point and may be activated; the regime, what it may be asked.
    function _requireAllowed(
        IFlexDispatch.Direct calldata order,
        RegimeState memory state,
        IFlexMarket.RequestTerms memory terms
    ) private view {
        bytes calldata quantitiesWh = order.quantitiesWh;
        if (!quantitiesWh.isQuantities(terms.ispCount)) {
            revert CurveLength(quantitiesWh.length, 4 * uint256(terms.ispCount));
        }
        IGridRegistry.Connection memory connection = _grid.connection(order.connectionId);
        uint256 limitWh =
            (terms.direction == IFlexMarket.Direction.Up ? connection.technicalUpW : connection.technicalDownW) /
                ISPS_PER_HOUR;
        uint256 nowIsp = _nowIsp();
        bool any = false;
        for (uint256 p = 0; p < terms.ispCount; ++p) {
            uint256 quantityWh = quantitiesWh.quantity(p);
            if (quantityWh == 0) continue;
            any = true;
            // The regime is in force, so every ISP that has not begun lies after its first one.
            if (terms.dayFirstIsp + p <= nowIsp) revert DirectIspsPassed(p, block.timestamp);
            if (terms.dayFirstIsp + p >= state.untilIsp) revert OutsideRegime(p, state.fromIsp, state.untilIsp);
            if (quantityWh > limitWh) revert OutsideTechnicalLimit(order.connectionId, p, quantityWh, limitWh);
        }
        if (!any) revert EmptyDirectOrder(order.connectionId);
    }

    function _requireDsoOf(bytes32 congestionPointId) private view {
        IGridRegistry.CongestionPoint memory point = _grid.congestionPoint(congestionPointId);
        if (!point.active) revert IGridRegistry.CongestionPointUnknown(congestionPointId);
        if (point.dso != msg.sender) revert IGridRegistry.NotDsoOf(congestionPointId, msg.sender);
    }

    function _nowIsp() private view returns (uint32) {
        return uint32(block.timestamp / SECONDS_PER_ISP);
    }
}
