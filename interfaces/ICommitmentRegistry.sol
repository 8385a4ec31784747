// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Commitments to forecasts, baselines, D-prognoses and optimisation results
/// @notice A root posted before a gate proves later what was known and promised then. Nothing posted can be changed;
/// a better forecast is a new commitment with its own time.
/// @dev Leaf of a baseline (OpenZeppelin standard tree, double hash):
/// `keccak256(bytes.concat(keccak256(abi.encode(BASELINE_LEAF, meterId, firstIsp, ispCount, keccak256(values)))))`
/// with `values` = packed `int32` net Wh per ISP and `BASELINE_LEAF = keccak256("gridpact.baseline.leaf.v1")`.
/// Source: eDREAM D2.2 HL-UC01_LL-UC01 and LL-UC03, BeFlexible SUC06.3 step 1.2 (baselines stored at bidding time).
/// @custom:stop Paused: no new commitment. What was committed can be proven.
/// @custom:trust Nobody: a commitment says who knew what when, not whether it was right. Whoever relies on one checks
/// committer, kind, scope and time.
interface ICommitmentRegistry {
    enum Kind {
        Forecast,
        Baseline,
        DPrognosis,
        Optimisation
    }

    struct Commitment {
        address committer;
        Kind kind;
        uint40 postedAt;
        uint32 firstIsp;
        uint16 ispCount;
        bytes32 root;
        /// Method and version, `keccak256("name@version")`.
        bytes32 method;
        /// What it is about: a congestion point, a pool, a meter.
        bytes32 scope;
    }

    event Committed(
        uint64 indexed commitmentId,
        Kind indexed kind,
        address indexed committer,
        bytes32 scope,
        bytes32 method,
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 root,
        uint32 leafCount,
        uint40 madeAt,
        bytes32 dataHash
    );

    error CommitmentUnknown(uint64 commitmentId);
    error NotAllowedToCommit(address account);
    /// @notice No root, no leaf or no ISP.
    error EmptyCommitment();
    error MadeInFuture(uint40 madeAt, uint256 nowTs);
    error WrongKind(uint64 commitmentId, Kind kind, Kind expected);
    error LeafNotCommitted(uint64 commitmentId, bytes32 leaf);

    /// @notice Posts a root. Only an active DSO, TSO, aggregator, prosumer, meter operator or market operator.
    /// @dev Errors: {NotAllowedToCommit}, {EmptyCommitment}, {MadeInFuture}. Emits: {Committed}.
    /// @param scope What it is about: a congestion point, a pool, a meter.
    /// @param method Method and version, `keccak256("name@version")`.
    /// @param leafCount Number of leaves, for the record.
    /// @param madeAt When the data was made (belief time), not later than now; `postedAt` is what gates go by.
    /// @param dataHash Hash of the full data set kept off chain.
    /// @return commitmentId Counts from 1.
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
    ) external returns (uint64 commitmentId);

    /// @notice A commitment. Errors: {CommitmentUnknown}.
    function commitment(uint64 commitmentId) external view returns (Commitment memory);

    function baselineLeaf(
        bytes32 meterId,
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 valuesHash
    ) external pure returns (bytes32);

    /// @notice Reverts with {LeafNotCommitted} unless the baseline of a meter is under the commitment's root.
    /// @dev Errors: {CommitmentUnknown}, {WrongKind}, {LeafNotCommitted}.
    /// @param valuesHash Hash of the packed baseline.
    function requireBaseline(
        uint64 commitmentId,
        bytes32 meterId,
        bytes32 valuesHash,
        bytes32[] calldata proof
    ) external view;
}
