// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title What every module of the suite can do
/// @notice Governance by OpenZeppelin AccessManager; a guardian pauses at once, only governance resumes.
interface IModule {
    event ModuleSet(address indexed module, bool allowed);

    error NotModule(address caller);

    /// @notice Lets another contract of the suite call the functions meant for modules. Only governance.
    function setModule(address module, bool allowed) external;

    function isModule(address module) external view returns (bool);

    /// @notice Emergency stop. What stays possible is said per contract under `@custom:stop`.
    function pause() external;

    function unpause() external;
}
