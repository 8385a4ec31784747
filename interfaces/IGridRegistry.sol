// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Common reference: congestion points, the aggregators active there, and connections
/// @notice The Common Reference Operator's registry of eDREAM D2.2 3.3.1: a DSO declares a congestion point and the
/// connections below it, aggregators of the region become active there.
/// @dev A connection is known by a salted commitment to its point-of-delivery code; location and address stay off chain.
/// @custom:stop Paused: no new congestion point, active aggregator or connection. What exists can be withdrawn,
/// deactivated, moved, decommissioned and given another static light.
/// @custom:trust A DSO is trusted for the topology and the technical limits of its own grid.
interface IGridRegistry {
    /// @notice Static traffic light from prequalification: `Red` connections may not be activated at all,
    /// `Yellow` only against congestion at their own point.
    enum StaticLight {
        Green,
        Yellow,
        Red
    }

    struct CongestionPoint {
        address dso;
        bool active;
        /// Rated capacity of the congested element, W.
        uint64 capacityW;
    }

    struct Connection {
        address owner;
        /// Largest power by which a direct order may lower net consumption, W.
        uint32 technicalUpW;
        /// Largest power by which a direct order may raise net consumption, W.
        uint32 technicalDownW;
        StaticLight light;
        bool active;
        bytes32 congestionPointId;
    }

    event CongestionPointDeclared(bytes32 indexed congestionPointId, address indexed dso, uint64 capacityW);
    event CongestionPointWithdrawn(bytes32 indexed congestionPointId);
    event AggregatorActivated(bytes32 indexed congestionPointId, address indexed aggregator);
    event AggregatorDeactivated(bytes32 indexed congestionPointId, address indexed aggregator);
    event ConnectionRegistered(
        bytes32 indexed connectionId,
        bytes32 indexed congestionPointId,
        address indexed owner,
        uint32 technicalUpW,
        uint32 technicalDownW
    );
    event ConnectionMoved(bytes32 indexed connectionId, bytes32 indexed congestionPointId);
    event ConnectionDecommissioned(bytes32 indexed connectionId);
    event StaticLightSet(bytes32 indexed connectionId, StaticLight light, bytes32 reason);

    error CongestionPointExists(bytes32 congestionPointId);
    /// @notice Never declared, or withdrawn.
    error CongestionPointUnknown(bytes32 congestionPointId);
    error NotDsoOf(bytes32 congestionPointId, address caller);
    error AggregatorNotActive(bytes32 congestionPointId, address aggregator);
    error AggregatorAlreadyActive(bytes32 congestionPointId, address aggregator);
    error ConnectionExists(bytes32 connectionId);
    /// @notice Never registered, or decommissioned.
    error ConnectionUnknown(bytes32 connectionId);

    /// @notice Declares a congestion point. Only a DSO, which becomes its DSO.
    /// @dev An id is used once, also after withdrawal. Errors: {CongestionPointExists}.
    /// Emits: {CongestionPointDeclared}.
    /// @param congestionPointId Salted commitment to the network element.
    /// @param capacityW Rated capacity of the element, W.
    function declareCongestionPoint(bytes32 congestionPointId, uint64 capacityW) external;

    /// @notice Closes a congestion point: no new request, offer or connection; what is open runs to its end.
    /// @dev Only its DSO. Errors: {CongestionPointUnknown}, {NotDsoOf}. Emits: {CongestionPointWithdrawn}.
    function withdrawCongestionPoint(bytes32 congestionPointId) external;

    /// @notice The calling aggregator becomes active at a congestion point and may offer there.
    /// @dev Errors: {CongestionPointUnknown}, {AggregatorAlreadyActive}. Emits: {AggregatorActivated}.
    function activateAggregator(bytes32 congestionPointId) external;

    /// @notice The caller is no longer active at a congestion point. Needs no role, so that leaving is always possible.
    /// @dev Errors: {AggregatorNotActive}. Emits: {AggregatorDeactivated}.
    function deactivateAggregator(bytes32 congestionPointId) external;

    /// @notice Registers a connection below a congestion point. Only its DSO; `owner` must be an active prosumer.
    /// @dev An id is used once, also after decommissioning; a new owner gets a commitment with a new salt. The static
    /// light starts green. Errors: {CongestionPointUnknown}, {NotDsoOf}, {ConnectionExists}.
    /// Emits: {ConnectionRegistered}.
    /// @param connectionId Salted commitment to the point-of-delivery code.
    /// @param technicalUpW Largest power by which a direct order may lower net consumption, W.
    /// @param technicalDownW Largest power by which a direct order may raise net consumption, W.
    function registerConnection(
        bytes32 connectionId,
        bytes32 congestionPointId,
        address owner,
        uint32 technicalUpW,
        uint32 technicalDownW
    ) external;

    /// @notice Moves a connection below another congestion point of the same DSO (switching, new topology).
    /// @dev Errors: {ConnectionUnknown}, {CongestionPointUnknown}, {NotDsoOf}. Emits: {ConnectionMoved}.
    function moveConnection(bytes32 connectionId, bytes32 congestionPointId) external;

    /// @notice Takes a connection out of the registry for good. Only its DSO.
    /// @dev Errors: {ConnectionUnknown}, {NotDsoOf}. Emits: {ConnectionDecommissioned}.
    function decommissionConnection(bytes32 connectionId) external;

    /// @notice Sets the result of prequalification. Only the DSO of the connection.
    /// @dev Errors: {ConnectionUnknown}, {NotDsoOf}. Emits: {StaticLightSet}.
    /// @param reason Code of the reason, for the record.
    function setStaticLight(bytes32 connectionId, StaticLight light, bytes32 reason) external;

    /// @notice A congestion point; all zero when it was never declared.
    function congestionPoint(bytes32 congestionPointId) external view returns (CongestionPoint memory);

    /// @notice Owner of a connection, and whether it is in the registry still; zero when it was never registered.
    function ownerOf(bytes32 connectionId) external view returns (address owner, bool active);

    /// @notice A connection; all zero when it was never registered.
    function connection(bytes32 connectionId) external view returns (Connection memory);

    /// @notice True when the aggregator is active at a congestion point that is not withdrawn. Says nothing about its
    /// standing, which is the participant registry's.
    function isAggregatorActive(bytes32 congestionPointId, address aggregator) external view returns (bool);
}
