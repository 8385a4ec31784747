// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Common reference: congestion points, the aggregators active there, and connections
contract GridRegistry is IGridRegistry, Module {
    mapping(bytes32 congestionPointId => CongestionPoint) private _congestionPoints;
    mapping(bytes32 connectionId => Connection) private _connections;
    mapping(bytes32 congestionPointId => mapping(address aggregator => bool)) private _aggregatorActive;

    constructor(address authority_, IParticipantRegistry participants_) Module(authority_, participants_) {}

    /// @inheritdoc IGridRegistry
    function declareCongestionPoint(
        bytes32 congestionPointId,
        uint64 capacityW
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Dso) {
        if (_congestionPoints[congestionPointId].dso != address(0)) revert CongestionPointExists(congestionPointId);
        _congestionPoints[congestionPointId] = CongestionPoint(msg.sender, true, capacityW);
        emit CongestionPointDeclared(congestionPointId, msg.sender, capacityW);
    }

    /// @inheritdoc IGridRegistry
    function withdrawCongestionPoint(bytes32 congestionPointId) external onlyRole(IParticipantRegistry.Role.Dso) {
        _requireActive(congestionPointId);
        _requireDsoOf(congestionPointId);
        _congestionPoints[congestionPointId].active = false;
        emit CongestionPointWithdrawn(congestionPointId);
    }

    /// @inheritdoc IGridRegistry
    function activateAggregator(
        bytes32 congestionPointId
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Aggregator) {
        _requireActive(congestionPointId);
        if (_aggregatorActive[congestionPointId][msg.sender]) {
            revert AggregatorAlreadyActive(congestionPointId, msg.sender);
        }
        _aggregatorActive[congestionPointId][msg.sender] = true;
        emit AggregatorActivated(congestionPointId, msg.sender);
    }

    /// @inheritdoc IGridRegistry
    function deactivateAggregator(bytes32 congestionPointId) external {
        if (!_aggregatorActive[congestionPointId][msg.sender])
            revert AggregatorNotActive(congestionPointId, msg.sender);
        _aggregatorActive[congestionPointId][msg.sender] = false;
        emit AggregatorDeactivated(congestionPointId, msg.sender);
    }

    /// @inheritdoc IGridRegistry
    function registerConnection(
        bytes32 connectionId,
        bytes32 congestionPointId,
        address owner,
        uint32 technicalUpW,
        uint32 technicalDownW
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Dso) {
        _requireActive(congestionPointId);
        _requireDsoOf(congestionPointId);
        if (_connections[connectionId].owner != address(0)) revert ConnectionExists(connectionId);
        participants.requireRole(owner, IParticipantRegistry.Role.Prosumer);
        _connections[connectionId] = Connection({
            owner: owner,
            technicalUpW: technicalUpW,
            technicalDownW: technicalDownW,
            light: StaticLight.Green,
            active: true,
            congestionPointId: congestionPointId
        });
        emit ConnectionRegistered(connectionId, congestionPointId, owner, technicalUpW, technicalDownW);
    }

    /// @inheritdoc IGridRegistry
    function moveConnection(
        bytes32 connectionId,
        bytes32 congestionPointId
    ) external onlyRole(IParticipantRegistry.Role.Dso) {
        Connection storage moved = _ownGridConnection(connectionId);
        _requireActive(congestionPointId);
        _requireDsoOf(congestionPointId);
        moved.congestionPointId = congestionPointId;
        emit ConnectionMoved(connectionId, congestionPointId);
    }

    /// @inheritdoc IGridRegistry
    function decommissionConnection(bytes32 connectionId) external onlyRole(IParticipantRegistry.Role.Dso) {
        _ownGridConnection(connectionId).active = false;
        emit ConnectionDecommissioned(connectionId);
    }

    /// @inheritdoc IGridRegistry
    function setStaticLight(
        bytes32 connectionId,
        StaticLight light,
        bytes32 reason
    ) external onlyRole(IParticipantRegistry.Role.Dso) {
        _ownGridConnection(connectionId).light = light;
        emit StaticLightSet(connectionId, light, reason);
    }

    /// @inheritdoc IGridRegistry
    function congestionPoint(bytes32 congestionPointId) external view returns (CongestionPoint memory) {
        return _congestionPoints[congestionPointId];
    }

    /// @inheritdoc IGridRegistry
    function ownerOf(bytes32 connectionId) external view returns (address owner, bool active) {
        Connection storage known = _connections[connectionId];
        return (known.owner, known.active);
    }

    /// @inheritdoc IGridRegistry
    function connection(bytes32 connectionId) external view returns (Connection memory) {
        return _connections[connectionId];
    }

    /// @inheritdoc IGridRegistry
    function isAggregatorActive(bytes32 congestionPointId, address aggregator) external view returns (bool) {
        return _congestionPoints[congestionPointId].active && _aggregatorActive[congestionPointId][aggregator];
    }

    /// An active connection in the grid of the calling DSO; its congestion point may be withdrawn.
    function _ownGridConnection(bytes32 connectionId) private view returns (Connection storage own) {
        own = _connections[connectionId];
        if (!own.active) revert ConnectionUnknown(connectionId);
        _requireDsoOf(own.congestionPointId);
    }

    function _requireActive(bytes32 congestionPointId) private view {
        if (!_congestionPoints[congestionPointId].active) revert CongestionPointUnknown(congestionPointId);
    }

    function _requireDsoOf(bytes32 congestionPointId) private view {
        if (_congestionPoints[congestionPointId].dso != msg.sender) revert NotDsoOf(congestionPointId, msg.sender);
    }
}
