// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Registry of meters and the keys of their devices
/// @notice A meter belongs to one connection, is read by one meter operator, and signs with one device key at a time.
/// @dev `meterId` is a salted commitment to the serial number. Source: eDREAM D2.5 4.5.1, BeFlexible SUC06.3
/// (accurate, reliable, certified instruments).
/// The connection of a meter never has two meters at the same ISP, and what was in force in the past never changes:
/// keys are replaced and meters taken out of service from the running ISP at the earliest, every former key is kept.
/// @custom:stop Paused: no new meter. Key replacement and decommissioning work.
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
    }

    event MeterRegistered(
        bytes32 indexed meterId,
        bytes32 indexed connectionId,
        address indexed operator,
        address deviceKey,
        uint32 fromIsp
    );
    event DeviceKeyReplaced(bytes32 indexed meterId, address indexed oldKey, address indexed newKey, uint32 fromIsp);
    event MeterDecommissioned(bytes32 indexed meterId, uint32 endIsp);

    error ZeroMeterId();
    error MeterExists(bytes32 meterId);
    error MeterUnknown(bytes32 meterId);
    /// @notice The connection has a meter that is in service, or was at the first ISP of the new one.
    error MeterInService(bytes32 connectionId, bytes32 meterId);
    error NotOperatorOf(bytes32 meterId, address caller);
    error InvalidDeviceKey(address deviceKey);
    error KeyNotLater(uint32 fromIsp, uint32 currentFromIsp);
    /// @notice The meter is not in service at that ISP: before its first or after its last.
    error MeterOutOfService(bytes32 meterId, uint32 isp);
    error IspInPast(uint32 isp, uint256 currentIsp);

    /// @notice Registers the meter of a connection. Only a meter operator; the connection must be active and must
    /// have no other meter in service.
    /// @dev Commissioning may be recorded late: `fromIsp` may lie in the past, but not before the end of the meter that
    /// was there. Errors: {ZeroMeterId}, {MeterExists}, {InvalidDeviceKey}, `ConnectionUnknown`,
    /// {MeterInService}. Emits: {MeterRegistered}.
    /// @param fromIsp First ISP that the device signs for.
    function registerMeter(bytes32 meterId, bytes32 connectionId, address deviceKey, uint32 fromIsp) external;

    /// @notice Replaces the device key from an ISP on; earlier readings stay valid under the old key.
    /// @dev Only its operator. Errors: {MeterUnknown}, {NotOperatorOf}, {InvalidDeviceKey}, {MeterOutOfService} (the
    /// meter was decommissioned), {IspInPast}, {KeyNotLater}. Emits: {DeviceKeyReplaced}.
    /// @param fromIsp First ISP that the new key signs for; the running one at the earliest, and after the first ISP of
    /// the key it replaces.
    function replaceDeviceKey(bytes32 meterId, address newKey, uint32 fromIsp) external;

    /// @notice Takes a meter out of service from an ISP on; earlier readings stay valid.
    /// @dev Only its operator, or the DSO of the connection: an operator may be gone. Errors: {MeterUnknown},
    /// {NotOperatorOf}, {MeterOutOfService} (already decommissioned), {IspInPast}. Emits: {MeterDecommissioned}.
    /// @param endIsp First ISP without the meter, the running one at the earliest.
    function decommissionMeter(bytes32 meterId, uint32 endIsp) external;

    /// @notice A meter; all zero when it was never registered.
    function meter(bytes32 meterId) external view returns (Meter memory);

    /// @notice Meter of a connection that is not out of service at the running ISP; zero when there is none.
    function meterOf(bytes32 connectionId) external view returns (bytes32 meterId);

    /// @notice Operator and device key in force at an ISP. Errors: {MeterUnknown}, {MeterOutOfService}.
    function keyAt(bytes32 meterId, uint32 isp) external view returns (address operator, address deviceKey);
}
