// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Governed} from "contracts/registry/Governed.sol";

/// @title Registry of participants and their roles
contract ParticipantRegistry is IParticipantRegistry, Governed, EIP712 {
    bytes32 private constant APPROVAL_TYPEHASH = keccak256(
        "Approval(address account,bytes32 identityCommitment,uint256 nonce,uint64 deadline)"
    );
    bytes32 private constant ENROLMENT_TYPEHASH = keccak256(
        "Enrolment(address account,bytes32 identityCommitment,uint256 nonce,uint64 deadline)"
    );

    /// One slot: status 8 bits, roles 16 bits (bit `uint8(role)`), nonce 64 bits.
    struct Participant {
        Status status;
        uint16 roles;
        uint64 nonce;
    }

    mapping(address account => Participant) private _participants;

    constructor(address authority_) Governed(authority_) EIP712("gridpact.participants", "1") {}

    /// @inheritdoc IParticipantRegistry
    function registerProsumer(
        address account,
        bytes32 identityCommitment,
        uint64 deadline,
        address registrar,
        bytes calldata registrarSignature,
        bytes calldata accountSignature
    ) external whenNotPaused {
        if (block.timestamp > deadline) revert ApprovalExpired(deadline, block.timestamp);
        requireRole(registrar, Role.Registrar);
        uint256 nonce = _participants[account].nonce++;

        bytes32 approval = _digest(APPROVAL_TYPEHASH, account, identityCommitment, nonce, deadline);
        if (!SignatureChecker.isValidSignatureNow(registrar, approval, registrarSignature)) {
            revert InvalidApproval(registrar);
        }
        // The caller's own transaction is its consent.
        if (msg.sender != account) {
            bytes32 enrolment = _digest(ENROLMENT_TYPEHASH, account, identityCommitment, nonce, deadline);
            if (!SignatureChecker.isValidSignatureNow(account, enrolment, accountSignature)) {
                revert InvalidEnrolment(account);
            }
        }
        _register(account, Role.Prosumer, registrar, identityCommitment);
    }

    /// @inheritdoc IParticipantRegistry
    function registerOrganisation(address account, Role role, bytes32 identityCommitment) external whenNotPaused {
        requireRole(msg.sender, Role.Registrar);
        if (role == Role.None || role == Role.Prosumer || role == Role.Registrar) revert RoleNotAllowed(role);
        _register(account, role, msg.sender, identityCommitment);
    }

    /// @inheritdoc IParticipantRegistry
    function registerRegistrar(address account, bytes32 identityCommitment) external restricted whenNotPaused {
        _register(account, Role.Registrar, msg.sender, identityCommitment);
    }

    /// @inheritdoc IParticipantRegistry
    function setStatus(address account, Status status, bytes32 reason) external {
        requireRole(msg.sender, Role.Registrar);
        if (_holds(account, Role.Registrar)) revert RoleNotAllowed(Role.Registrar);
        _setStatus(account, status, reason);
    }

    /// @inheritdoc IParticipantRegistry
    function setRegistrarStatus(address account, Status status, bytes32 reason) external restricted {
        if (!_holds(account, Role.Registrar)) {
            revert MissingRole(account, Role.Registrar, _participants[account].status);
        }
        _setStatus(account, status, reason);
    }

    /// @inheritdoc IParticipantRegistry
    function requireRole(address account, Role role) public view {
        if (!hasRole(account, role)) revert MissingRole(account, role, _participants[account].status);
    }

    /// @inheritdoc IParticipantRegistry
    function hasRole(address account, Role role) public view returns (bool) {
        return _participants[account].status == Status.Active && _holds(account, role);
    }

    /// @inheritdoc IParticipantRegistry
    function statusOf(address account) external view returns (Status) {
        return _participants[account].status;
    }

    /// @inheritdoc IParticipantRegistry
    function rolesOf(address account) external view returns (uint16) {
        return _participants[account].roles;
    }

    /// @inheritdoc IParticipantRegistry
    function nonceOf(address account) external view returns (uint256) {
        return _participants[account].nonce;
    }

    function _register(address account, Role role, address registrar, bytes32 identityCommitment) private {
        Participant storage participant = _participants[account];
        if (_holds(account, role)) revert AlreadyRegistered(account, role);
        // A new role must not lift a suspension or a revocation.
        if (participant.status == Status.Suspended || participant.status == Status.Revoked) {
            revert StatusNotAllowed(account, participant.status, Status.Active);
        }
        participant.status = Status.Active;
        participant.roles |= _bit(role);
        emit ParticipantRegistered(account, role, registrar, identityCommitment);
    }

    /// Active and Suspended change into each other, both into Revoked; all else is refused.
    function _setStatus(address account, Status wanted, bytes32 reason) private {
        Status current = _participants[account].status;
        if (current == Status.Unknown) revert NotRegistered(account);
        if (current == Status.Revoked || wanted == Status.Unknown || wanted == current) {
            revert StatusNotAllowed(account, current, wanted);
        }
        _participants[account].status = wanted;
        emit ParticipantStatusChanged(account, wanted, msg.sender, reason);
    }

    function _holds(address account, Role role) private view returns (bool) {
        return _participants[account].roles & _bit(role) != 0;
    }

    function _bit(Role role) private pure returns (uint16) {
        return uint16(1 << uint8(role));
    }

    function _digest(
        bytes32 typeHash,
        address account,
        bytes32 identityCommitment,
        uint256 nonce,
        uint64 deadline
    ) private view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(typeHash, account, identityCommitment, nonce, deadline)));
    }
}
