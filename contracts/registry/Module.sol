// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Governed} from "contracts/registry/Governed.sol";

/// @title A governed contract that asks the participant registry who may act
abstract contract Module is Governed {
    IParticipantRegistry public immutable participants;

    modifier onlyRole(IParticipantRegistry.Role role) {
        participants.requireRole(msg.sender, role);
        _;
    }

    constructor(address authority_, IParticipantRegistry participants_) Governed(authority_) {
        participants = participants_;
    }
}
