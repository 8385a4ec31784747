// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {IModule} from "interfaces/IModule.sol";

/// @title Governance, emergency stop and module flags of every contract of the suite
/// @dev Functions marked `restricted` are open to the AccessManager role of their selector, so that pausing (guardian,
/// at once) and resuming (admin, with delay) are different roles.
abstract contract Governed is IModule, AccessManaged, Pausable {
    /// @inheritdoc IModule
    mapping(address module => bool allowed) public isModule;

    modifier onlyModule() {
        if (!isModule[msg.sender]) revert NotModule(msg.sender);
        _;
    }

    constructor(address authority_) AccessManaged(authority_) {}

    /// @inheritdoc IModule
    function setModule(address module, bool allowed) external restricted {
        isModule[module] = allowed;
        emit ModuleSet(module, allowed);
    }

    /// @inheritdoc IModule
    function pause() external restricted {
        _pause();
    }

    /// @inheritdoc IModule
    function unpause() external restricted {
        _unpause();
    }
}
