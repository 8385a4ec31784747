// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title What connections produce with
/// @notice A registrar, as issuing body, says what a connection produces with; whoever sells green energy or gets
/// guarantees of origin is held to it. Source: eDREAM D2.5 5.2 (energy type), RED II Article 19 (guarantees of origin
/// name the energy source).
/// @custom:stop Never paused.
/// @custom:trust Registrars are trusted to know the installations they vouch for.
interface IProducerRegistry {
    enum ProducerClass {
        /// Not said, or nothing.
        Unspecified,
        Solar,
        Wind,
        Hydro,
        Biomass,
        Storage,
        Fossil
    }

    event ProducerClassSet(bytes32 indexed connectionId, ProducerClass producerClass, address indexed registrar);

    /// @notice Says what a connection produces with, for all that is sold and settled from now on. Only a registrar.
    /// @dev Errors: `MissingRole`, `ConnectionUnknown`. Emits: {ProducerClassSet}.
    function setProducerClass(bytes32 connectionId, ProducerClass producerClass) external;

    function producerClassOf(bytes32 connectionId) external view returns (ProducerClass);

    /// @notice Whether a connection produces green energy: solar, wind, hydro or biomass.
    function isGreen(bytes32 connectionId) external view returns (bool);
}
