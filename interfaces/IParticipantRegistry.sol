// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Registry of participants and their roles
/// @notice Says who may act, in which role, and whether they are in good standing. Every module asks it on every
/// call, so that a suspension or a revocation takes effect at once everywhere.
/// @dev No personal data: an identity is a salted commitment, `keccak256(abi.encode(salt, identity document hash))`,
/// opened only off chain. Source: eDREAM D2.2 HL-UC01_LL-UC01, D2.5 MF03_BR01_UR03_FR03 (control and permission).
/// @custom:stop Paused: nobody is admitted. Suspension, revocation and reinstatement work, standing can be read.
/// @custom:trust Registrars are trusted to know whom they admit; governance is trusted to appoint registrars.
interface IParticipantRegistry {
    /// @notice Roles of the field. One account may hold several.
    enum Role {
        None,
        Dso,
        Tso,
        Aggregator,
        Prosumer,
        MeterOperator,
        MarketOperator,
        Registrar,
        Auditor
    }

    /// @notice Standing of an account. `Revoked` is final.
    enum Status {
        Unknown,
        Active,
        Suspended,
        Revoked
    }

    event ParticipantRegistered(
        address indexed account,
        Role indexed role,
        address indexed registrar,
        bytes32 identityCommitment
    );
    event ParticipantStatusChanged(address indexed account, Status indexed status, address indexed by, bytes32 reason);

    error AlreadyRegistered(address account, Role role);
    error NotRegistered(address account);
    error MissingRole(address account, Role role, Status status);
    error RoleNotAllowed(Role role);
    error StatusNotAllowed(address account, Status current, Status wanted);
    error ApprovalExpired(uint64 deadline, uint256 nowTs);
    error InvalidApproval(address registrar);
    error InvalidEnrolment(address account);

    /// @notice Admits a prosumer with its own consent and a registrar's approval; anyone may relay it.
    /// @dev EIP-712 types: `Approval(address account,bytes32 identityCommitment,uint256 nonce,uint64 deadline)` signed
    /// by `registrar`, `Enrolment(address account,bytes32 identityCommitment,uint256 nonce,uint64 deadline)` signed by
    /// `account` (may be empty when `account` itself calls). ERC-1271 wallets work for both.
    /// Errors: {ApprovalExpired}, {MissingRole} (of the registrar), {InvalidApproval}, {InvalidEnrolment},
    /// {AlreadyRegistered}, {StatusNotAllowed} (a suspended or revoked account gains no role).
    /// Emits: {ParticipantRegistered}.
    function registerProsumer(
        address account,
        bytes32 identityCommitment,
        uint64 deadline,
        address registrar,
        bytes calldata registrarSignature,
        bytes calldata accountSignature
    ) external;

    /// @notice Admits an organisation in a role other than `Prosumer` and `Registrar`. Only an active registrar.
    /// @dev Errors: {MissingRole} (of the caller), {RoleNotAllowed}, {AlreadyRegistered}, {StatusNotAllowed}.
    /// Emits: {ParticipantRegistered}.
    function registerOrganisation(address account, Role role, bytes32 identityCommitment) external;

    /// @notice Appoints a registrar. Only governance.
    /// @dev Errors: {AlreadyRegistered}, {StatusNotAllowed}. Emits: {ParticipantRegistered}.
    function registerRegistrar(address account, bytes32 identityCommitment) external;

    /// @notice Suspends, reinstates or revokes an account in all its roles at once. Only an active registrar;
    /// an account that holds `Registrar` can be changed by governance alone (see {setRegistrarStatus}).
    /// @dev Active and Suspended change into each other, both into Revoked; all else is refused.
    /// Errors: {MissingRole} (of the caller), {RoleNotAllowed}, {NotRegistered}, {StatusNotAllowed}.
    /// Emits: {ParticipantStatusChanged}.
    /// @param reason Code of the reason, for the record.
    function setStatus(address account, Status status, bytes32 reason) external;

    /// @notice As {setStatus}, for registrars. Only governance.
    /// @dev Errors: {MissingRole} (the account is no registrar), {StatusNotAllowed}. Emits: {ParticipantStatusChanged}.
    function setRegistrarStatus(address account, Status status, bytes32 reason) external;

    /// @notice True when the account holds the role and is active.
    function hasRole(address account, Role role) external view returns (bool);

    /// @notice Reverts with {MissingRole} unless {hasRole}.
    function requireRole(address account, Role role) external view;

    function statusOf(address account) external view returns (Status);

    /// @notice Bit `uint8(role)` is set for every role of the account, whatever its standing.
    function rolesOf(address account) external view returns (uint16);

    /// @notice Next nonce of an account's enrolment and approval.
    function nonceOf(address account) external view returns (uint256);
}
