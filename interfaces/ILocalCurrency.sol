// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Payment token for networks that have none of their own
/// @notice A plain ERC-20 with two decimals (cents), issued by governance. Local deployments and closed consortium chains
/// pay with it at the token desk; a network with an established payment token uses that one instead.
/// @custom:stop Cannot be stopped: holders can always transfer.
/// @custom:trust Governance is trusted to issue no more than it holds cover for.
interface ILocalCurrency {
    /// @notice Issues new currency. Only governance. Emits: `Transfer` from the zero address.
    /// @param amount Units of 0.01.
    function mint(address to, uint256 amount) external;
}
