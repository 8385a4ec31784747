// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

/// @title Governance of the suite
/// @notice One OpenZeppelin AccessManager: who may call which restricted function of which contract, with which delay.
/// @custom:stop Nothing to stop: it holds no value. Targets can be closed one by one.
/// @custom:trust The admin appoints everybody else; give it to a multisignature wallet with an execution delay.
contract AccessGovernor is AccessManager {
    constructor(address initialAdmin) AccessManager(initialAdmin) {}
}
