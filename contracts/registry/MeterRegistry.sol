// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Registry of meters and the keys of their devices
contract MeterRegistry is IMeterRegistry, Module {
    using Checkpoints for Checkpoints.Trace160;

    uint256 private constant SECONDS_PER_ISP = 900;

    IGridRegistry public immutable grid;

    mapping(bytes32 meterId => Meter) private _meters;
    /// Keys before the present one, by the ISP from which they signed: read only for readings older than the present key.
    mapping(bytes32 meterId => Checkpoints.Trace160) private _formerKeys;
    mapping(bytes32 connectionId => bytes32 meterId) private _lastMeterOf;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_
    ) Module(authority_, participants_) {
        grid = grid_;
    }

    /// @inheritdoc IMeterRegistry
    function registerMeter(
        bytes32 meterId,
        bytes32 connectionId,
        address deviceKey,
        uint32 fromIsp
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.MeterOperator) {
        // Zero says "no meter" in `_lastMeterOf`.
        if (meterId == 0) revert ZeroMeterId();
        if (_meters[meterId].operator != address(0)) revert MeterExists(meterId);
        if (deviceKey == address(0)) revert InvalidDeviceKey(deviceKey);
        if (!grid.connection(connectionId).active) revert IGridRegistry.ConnectionUnknown(connectionId);
        // The meter before this one must have ended by now and before `fromIsp`: since no meter ends before the running
        // ISP, ends only grow along a connection and two meters never overlap, whatever `fromIsp` is.
        bytes32 last = _lastMeterOf[connectionId];
        if (meterOf(connectionId) != 0 || fromIsp < _meters[last].endIsp) revert MeterInService(connectionId, last);

        _meters[meterId] = Meter({
            deviceKey: deviceKey,
            keyFromIsp: fromIsp,
            endIsp: 0,
            operator: msg.sender,
            connectionId: connectionId
        });
        _lastMeterOf[connectionId] = meterId;
        emit MeterRegistered(meterId, connectionId, msg.sender, deviceKey, fromIsp);
    }

    /// @inheritdoc IMeterRegistry
    function replaceDeviceKey(
        bytes32 meterId,
        address newKey,
        uint32 fromIsp
    ) external onlyRole(IParticipantRegistry.Role.MeterOperator) {
        Meter storage replaced = _known(meterId);
        if (replaced.operator != msg.sender) revert NotOperatorOf(meterId, msg.sender);
        if (newKey == address(0)) revert InvalidDeviceKey(newKey);
        _requireChangeable(meterId, replaced, fromIsp);
        if (fromIsp <= replaced.keyFromIsp) revert KeyNotLater(fromIsp, replaced.keyFromIsp);

        emit DeviceKeyReplaced(meterId, replaced.deviceKey, newKey, fromIsp);
        _formerKeys[meterId].push(replaced.keyFromIsp, uint160(replaced.deviceKey));
        replaced.deviceKey = newKey;
        replaced.keyFromIsp = fromIsp;
    }

    /// @inheritdoc IMeterRegistry
    function decommissionMeter(bytes32 meterId, uint32 endIsp) external {
        Meter storage ended = _known(meterId);
        if (ended.operator == msg.sender) {
            participants.requireRole(msg.sender, IParticipantRegistry.Role.MeterOperator);
        } else if (grid.congestionPoint(grid.connection(ended.connectionId).congestionPointId).dso == msg.sender) {
            participants.requireRole(msg.sender, IParticipantRegistry.Role.Dso);
        } else {
            revert NotOperatorOf(meterId, msg.sender);
        }
        _requireChangeable(meterId, ended, endIsp);

        ended.endIsp = endIsp;
        emit MeterDecommissioned(meterId, endIsp);
    }

    /// @inheritdoc IMeterRegistry
    function meter(bytes32 meterId) external view returns (Meter memory) {
        return _meters[meterId];
    }

    /// @inheritdoc IMeterRegistry
    function meterOf(bytes32 connectionId) public view returns (bytes32 meterId) {
        meterId = _lastMeterOf[connectionId];
        uint32 endIsp = _meters[meterId].endIsp;
        if (endIsp != 0 && endIsp <= _currentIsp()) return 0;
    }

    /// @inheritdoc IMeterRegistry
    function keyAt(bytes32 meterId, uint32 isp) external view returns (address operator, address deviceKey) {
        Meter storage read = _known(meterId);
        operator = read.operator;
        uint32 endIsp = read.endIsp;
        if (endIsp != 0 && isp >= endIsp) revert MeterOutOfService(meterId, isp);
        deviceKey = isp >= read.keyFromIsp ? read.deviceKey : address(_formerKeys[meterId].upperLookup(isp));
        if (deviceKey == address(0)) revert MeterOutOfService(meterId, isp);
    }

    function _known(bytes32 meterId) private view returns (Meter storage known) {
        known = _meters[meterId];
        if (known.operator == address(0)) revert MeterUnknown(meterId);
    }

    /// The past stays as it was: readings that are anchored may not lose their key or their meter.
    function _requireChangeable(bytes32 meterId, Meter storage changed, uint32 isp) private view {
        if (changed.endIsp != 0) revert MeterOutOfService(meterId, isp);
        if (isp < _currentIsp()) revert IspInPast(isp, _currentIsp());
    }

    function _currentIsp() private view returns (uint256) {
        return block.timestamp / SECONDS_PER_ISP;
    }
}
