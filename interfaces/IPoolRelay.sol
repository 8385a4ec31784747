// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Signed joining of a post-delivery pool
/// @notice A relayer brings members by the EIP-712 signatures of their owners (ERC-1271 wallets too), domain
/// ("gridpact.pool", "1"):
/// `Joining(uint64 poolId,bytes32 connectionId,uint128 deposit,uint16 buyTick,uint16 sellTick,uint64 deadline)`.
/// A connection joins a pool once, so a signature works once.
/// @custom:stop Works as long as `IPostDeliveryPool.join` does.
interface IPoolRelay {
    struct SignedJoining {
        bytes32 connectionId;
        uint128 deposit;
        uint16 buyTick;
        uint16 sellTick;
        uint64 deadline;
        bytes signature;
    }

    error SignatureExpired(uint256 index, uint64 deadline, uint256 nowTs);
    error InvalidSignature(uint256 index, address expected);

    /// @notice Lets several owners join at once: all or none. Members are passed over unchecked, so that nobody can stop the
    /// others by bringing one of them first.
    /// @dev Errors: {SignatureExpired}, {InvalidSignature} with the position in `joinings`, and those of
    /// `IPostDeliveryPool.join`.
    function joinSigned(uint64 poolId, SignedJoining[] calldata joinings) external;
}
