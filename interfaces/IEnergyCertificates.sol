// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IProducerRegistry} from "interfaces/IProducerRegistry.sol";

/// @title Energy as a digital asset: certificates of final matches, guarantees of origin of what was delivered
/// @notice A final match gives the buyer one certificate token per Wh (ERC-1155), for a delivery period and a type. It
/// can be transferred before and after delivery. When the session is settled it is redeemed for guarantees of origin, as
/// far as meters saw the energy injected, in the mix of producer classes that injected it; a guarantee is retired by
/// whoever claims the use of that energy, once.
/// Source: eDREAM D2.5 5.2 (energy as digital asset, Annex on token standards), MF03_BR01. Decision 0032.
///
/// @dev **Token ids.** From bit 0: sessionId 64, product 16, kind 8 (0 certificate of a match, 1 + producer class
/// guarantee of origin), rest zero.
///
/// **Redeeming.** The auction pairs nobody with anybody, so a product is a pool. Of `amount` certificates, each class c
/// gives down(amount * injected(c) / issued), where injected(c) is what sellers of class c were settled to have injected,
/// and issued is a bound on all certificates of the product: its matched volume, plus, where buyers were rationed and
/// rounded up, one Wh for each order that can have been at the margin. So never more guarantees than metered Wh.
/// Example: 900 Wh matched, 600 solar and 200 hydro injected: 90 certificates give 60 solar and 20 hydro.
/// @custom:stop Paused: no certificate is issued. Transfers, redeeming and retiring work.
/// @custom:trust Registrars are trusted for the producer class of a connection (`IProducerRegistry`).
interface IEnergyCertificates {
    event CertificatesIssued(uint64 indexed sessionId, bytes32 indexed connectionId, address indexed holder);
    /// @notice Injected Wh of a settled seller, by product, added to the pool.
    event InjectionRecorded(
        uint64 indexed sessionId,
        bytes32 indexed connectionId,
        IProducerRegistry.ProducerClass producerClass,
        uint256[] injectedWh
    );
    event Redeemed(address indexed holder, uint256 indexed certificateId, uint256 amount);
    /// @param purpose Salted commitment to what the energy was claimed for, no personal data.
    event Retired(address indexed holder, uint256 indexed guaranteeId, uint256 amount, bytes32 purpose);

    /// @notice Not settled to the end: what was injected is not known yet.
    error SessionNotClosed(uint64 sessionId);
    error NotACertificate(uint256 id);
    error NotAGuarantee(uint256 id);
    error NothingIssued(uint64 sessionId, bytes32 connectionId);

    /// @notice Issues the certificates of a bundle's purchases to the owner of the connection. Anyone, once, after the
    /// final clearing.
    /// @dev Errors: those of `IEnergyMarket.certify`, {NothingIssued}. Emits: `TransferBatch`, {CertificatesIssued}.
    function issue(uint64 sessionId, bytes32 connectionId, bytes calldata bundle) external;

    /// @notice Adds what a settled seller injected. Only a module (`IMarketSettlement`). Emits: {InjectionRecorded}.
    /// @param injectedWh By product.
    function recordInjection(uint64 sessionId, bytes32 connectionId, uint256[] calldata injectedWh) external;

    /// @notice Burns certificates of the caller and gives guarantees of origin for them.
    /// @dev Errors: {NotACertificate}, {SessionNotClosed}, `ERC1155InsufficientBalance`. Emits: {Redeemed}.
    function redeem(uint256 certificateId, uint256 amount) external;

    /// @notice Burns guarantees of origin of the caller: their energy counts as used, once.
    /// @dev Errors: {NotAGuarantee}, `ERC1155InsufficientBalance`. Emits: {Retired}.
    function retire(uint256 guaranteeId, uint256 amount, bytes32 purpose) external;

    /// @notice Wh that sellers of a class injected for a product, of the bundles settled so far.
    function injectedWh(
        uint64 sessionId,
        uint16 product,
        IProducerRegistry.ProducerClass producerClass
    ) external view returns (uint256);

    function certificateId(uint64 sessionId, uint16 product) external pure returns (uint256);

    function guaranteeId(
        uint64 sessionId,
        uint16 product,
        IProducerRegistry.ProducerClass producerClass
    ) external pure returns (uint256);
}
