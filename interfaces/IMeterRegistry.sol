// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Registry of meters and the keys of their devices
/// @notice A meter belongs to one connection, is read by one meter operator, and signs with one device key at a time.
/// @dev `meterId` is a salted commitment to the serial number. Source: eDREAM D2.5 4.5.1, BeFlexible SUC06.3
/// (accurate, reliable, certified instruments).
/// @custom:trust A meter operator is trusted to install certified meters and to register the keys they hold.
interface IMeterRegistry {
    struct Meter {
        address deviceKey;
        /// First ISP for which `deviceKey` signs.
        uint32 keyFromIsp;
        /// First ISP without this meter; zero while in service.
        uint32 endIsp;
        address operator;
        bytes32 connectionId;
        /// Key before the last replacement; zero when there was none.
        address previousKey;
        uint32 previousKeyFromIsp;
    }

    event MeterRegistered(
        bytes32 indexed meterId,
        bytes32 indexed connectionId,
        address indexed operator,
        address deviceKey,
        uint32 fromIsp
    );
    event DeviceKeyReplaced(
        bytes32 indexed meterId,
        address indexed oldKey,
        address indexed newKey,
        uint32 fromIsp
    );
    event MeterDecommissioned(bytes32 indexed meterId, uint32 endIsp);

    error MeterExists(bytes32 meterId);
    error MeterUnknown(bytes32 meterId);
    error MeterInService(bytes32 connectionId, bytes32 meterId);
    error NotOperatorOf(bytes32 meterId, address caller);
    error InvalidDeviceKey(address deviceKey);
    error KeyNotLater(uint32 fromIsp, uint32 currentFromIsp);
    error MeterOutOfService(bytes32 meterId, uint32 isp);

    /// @notice Registers the meter of a connection. Only a meter operator; the connection must be active and must
    /// have no other meter in service.
    /// @param fromIsp First ISP that the device signs for.
    function registerMeter(bytes32 meterId, bytes32 connectionId, address deviceKey, uint32 fromIsp) external;

    /// @notice Replaces the device key from an ISP on; earlier readings stay valid under the old key.
    function replaceDeviceKey(bytes32 meterId, address newKey, uint32 fromIsp) external;

    /// @notice Takes a meter out of service from an ISP on; earlier readings stay valid.
    function decommissionMeter(bytes32 meterId, uint32 endIsp) external;

    function meter(bytes32 meterId) external view returns (Meter memory);

    /// @notice Meter in service at a connection; zero when there is none.
    function meterOf(bytes32 connectionId) external view returns (bytes32 meterId);

    /// @notice Operator and device key in force at an ISP. Errors: {MeterUnknown}, {MeterOutOfService}.
    function keyAt(bytes32 meterId, uint32 isp) external view returns (address operator, address deviceKey);
}
