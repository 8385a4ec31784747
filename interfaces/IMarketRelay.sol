// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Signed orders and rejections of the peer-to-peer energy market
/// @notice What a prosumer can do by transaction, its app can do by an EIP-712 signature that anyone relays. A signature
/// names the sequence number that the bundle has at that time, so it works once; a relayer that keeps one back is passed
/// by with another relayer or with a transaction. Source: eDREAM D2.2 HL-UC02_LL-UC02. Decision 0031.
/// @custom:stop As `IEnergyMarket`: new bundles stop with it, cancelling and rejecting go on.
interface IMarketRelay {
    /// @notice A bundle that its trader signed and anyone may bring. EIP-712
    /// `Bundle(uint64 sessionId,bytes32 connectionId,uint16 sequence,bytes32 bundleHash,uint64 deadline)`, signed by the
    /// owner of the connection (ERC-1271 wallets too); `sequence` is the one that the bundle replaces, an empty bundle
    /// cancels. Domain ("gridpact.market", "1").
    struct SignedBundle {
        bytes32 connectionId;
        bytes previous;
        bytes bundle;
        uint64 deadline;
        bytes signature;
    }

    error SignatureExpired(uint256 index, uint64 deadline, uint256 nowTs);
    error InvalidSignature(uint256 index, address signer);

    /// @notice As `IEnergyMarket.submit` for bundles that their owners signed. Anyone may call; all or none. What stands
    /// already, or is cancelled already, is passed over unchecked, so that nobody can stop the others by bringing one of
    /// them first.
    /// @dev Errors: those of `submit`, {SignatureExpired}, {InvalidSignature}.
    function submitSigned(uint64 sessionId, SignedBundle[] calldata bundles) external;

    /// @notice As `IEnergyMarket.reject`, signed by the owner: EIP-712
    /// `Rejection(uint64 sessionId,bytes32 connectionId,uint16 sequence,uint256 positions)`.
    /// @dev Errors: those of `reject`, {InvalidSignature} with index 0.
    function rejectSigned(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        uint256 positions,
        bytes calldata signature
    ) external;
}
