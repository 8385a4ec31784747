// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {ICommitmentRegistry} from "interfaces/ICommitmentRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Commitments to forecasts, baselines, D-prognoses and optimisation results
contract CommitmentRegistry is ICommitmentRegistry, Module {
    bytes32 private constant BASELINE_LEAF = keccak256("gridpact.baseline.leaf.v1");

    /// Roles that know something worth committing: all but registrar and auditor.
    uint16 private constant COMMITTER_ROLES = uint16(
        (1 << uint8(IParticipantRegistry.Role.Dso)) |
            (1 << uint8(IParticipantRegistry.Role.Tso)) |
            (1 << uint8(IParticipantRegistry.Role.Aggregator)) |
            (1 << uint8(IParticipantRegistry.Role.Prosumer)) |
            (1 << uint8(IParticipantRegistry.Role.MeterOperator)) |
            (1 << uint8(IParticipantRegistry.Role.MarketOperator))
    );

    uint64 private _count;
    mapping(uint64 commitmentId => Commitment) private _commitments;

    constructor(address authority_, IParticipantRegistry participants_) Module(authority_, participants_) {}

    /// @inheritdoc ICommitmentRegistry
    function commit(
        Kind kind,
        bytes32 scope,
        bytes32 method,
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 root,
        uint32 leafCount,
        uint40 madeAt,
        bytes32 dataHash
    ) external whenNotPaused returns (uint64 commitmentId) {
        if (
            participants.statusOf(msg.sender) != IParticipantRegistry.Status.Active ||
            participants.rolesOf(msg.sender) & COMMITTER_ROLES == 0
        ) revert NotAllowedToCommit(msg.sender);
        if (root == 0 || leafCount == 0 || ispCount == 0) revert EmptyCommitment();
        if (madeAt > block.timestamp) revert MadeInFuture(madeAt, block.timestamp);

        commitmentId = ++_count;
        _commitments[commitmentId] = Commitment({
            committer: msg.sender,
            kind: kind,
            postedAt: uint40(block.timestamp),
            firstIsp: firstIsp,
            ispCount: ispCount,
            root: root,
            method: method,
            scope: scope
        });
        emit Committed(
            commitmentId,
            kind,
            msg.sender,
            scope,
            method,
            firstIsp,
            ispCount,
            root,
            leafCount,
            madeAt,
            dataHash
        );
    }

    /// @inheritdoc ICommitmentRegistry
    function commitment(uint64 commitmentId) external view returns (Commitment memory) {
        return _known(commitmentId);
    }

    /// @inheritdoc ICommitmentRegistry
    function requireBaseline(
        uint64 commitmentId,
        bytes32 meterId,
        bytes32 valuesHash,
        bytes32[] calldata proof
    ) external view {
        Commitment storage committed = _known(commitmentId);
        if (committed.kind != Kind.Baseline) revert WrongKind(commitmentId, committed.kind, Kind.Baseline);
        bytes32 leaf = baselineLeaf(meterId, committed.firstIsp, committed.ispCount, valuesHash);
        if (!MerkleProof.verifyCalldata(proof, committed.root, leaf)) revert LeafNotCommitted(commitmentId, leaf);
    }

    /// @inheritdoc ICommitmentRegistry
    function baselineLeaf(
        bytes32 meterId,
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 valuesHash
    ) public pure returns (bytes32) {
        bytes32 inner = keccak256(abi.encode(BASELINE_LEAF, meterId, firstIsp, ispCount, valuesHash));
        return keccak256(bytes.concat(inner));
    }

    function _known(uint64 commitmentId) private view returns (Commitment storage known) {
        known = _commitments[commitmentId];
        if (known.committer == address(0)) revert CommitmentUnknown(commitmentId);
    }
}
