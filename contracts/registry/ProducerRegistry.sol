// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {IProducerRegistry} from "interfaces/IProducerRegistry.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title What connections produce with
contract ProducerRegistry is IProducerRegistry, Module {
    IGridRegistry private immutable _grid;

    /// @inheritdoc IProducerRegistry
    mapping(bytes32 connectionId => ProducerClass) public producerClassOf;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_
    ) Module(authority_, participants_) {
        _grid = grid_;
    }

    /// @inheritdoc IProducerRegistry
    function setProducerClass(
        bytes32 connectionId,
        ProducerClass producerClass
    ) external onlyRole(IParticipantRegistry.Role.Registrar) {
        if (!_grid.connection(connectionId).active) revert IGridRegistry.ConnectionUnknown(connectionId);
        producerClassOf[connectionId] = producerClass;
        emit ProducerClassSet(connectionId, producerClass, msg.sender);
    }

    /// @inheritdoc IProducerRegistry
    function isGreen(bytes32 connectionId) external view returns (bool) {
        ProducerClass producerClass = producerClassOf[connectionId];
        return producerClass >= ProducerClass.Solar && producerClass <= ProducerClass.Biomass;
    }
}
