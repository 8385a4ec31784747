// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Anchored batches of device-signed meter readings
/// @notice A meter operator anchors one Merkle root for any number of meter-days. Whoever settles brings a meter-day
/// with its proof and the signature of the device. A correction is a new version of the same batch.
/// @dev Leaf of a day batch (OpenZeppelin standard tree, double hash):
/// `keccak256(bytes.concat(keccak256(abi.encode(METER_DAY_LEAF, meterId, firstIsp, ispCount, keccak256(values)))))`
/// with `values` = packed (`uint32` import Wh, `uint32` export Wh) per ISP, `0xffffffff` twice when missing, and
/// `METER_DAY_LEAF = keccak256("gridpact.meterday.leaf.v1")`.
/// The device signs EIP-712 `MeterDay(bytes32 meterId,uint32 firstIsp,uint16 ispCount,bytes32 valuesHash)` and
/// `Reading(bytes32 meterId,uint32 isp,uint32 importWh,uint32 exportWh)`; domain ("gridpact.metering", "1").
/// The key in force at the last ISP of the day signs the day; of a meter that leaves service during the day, the key in
/// force at its last ISP. Device keys are plain keys, no contract wallets.
///
/// Rules.
/// - The latest version counts. Nothing of an earlier one is left on chain but its event.
/// - At second t a batch can be challenged while `t < anchoredAt + challengeWindow`, and be settled from after that:
///   at every second one of the two, never both.
/// - A successful challenge rejects the batch and takes min(`challengePenalty`, bond) from its operator: `challengerShareBps`
///   of it, down, to the challenger whose transaction comes first, the rest to `forfeitTo`. The version before does not
///   come back: the operator anchors a new one. An operator that challenges itself, to get at its bond early or before
///   somebody else does, loses more than it takes out, as the share is below one half.
/// - The bond stays until the window of the operator's latest batch has passed.
/// - A suspended operator anchors nothing, but what it has anchored can be challenged and settled from as before, so
///   that nobody loses a reward by the operator's fault; it can withdraw its bond when it is free.
/// - A corrected version may also correct the number of ISPs of the day.
/// Source: eDREAM D2.5 4.5.1 and 4.5.4, BeFlexible SUC06.3.
/// @custom:stop Paused: no anchoring. Challenges, settlement from anchored batches and withdrawal of bonds work.
/// @custom:trust The device key vouches for a value, the operator for completeness; neither alone can change a payment
/// after anchoring. Whoever holds a device key can contradict what it signed and take the challenger's share: the operator
/// answers for its devices with its bond.
interface IMeteringLedger {
    enum BatchStatus {
        None,
        Anchored,
        Rejected
    }

    struct Batch {
        bytes32 root;
        uint40 anchoredAt;
        uint16 ispCount;
        uint32 leafCount;
        /// Counts the versions of an operator and day, from 1.
        uint16 version;
        BatchStatus status;
    }

    /// @notice All readings of one meter over one market day.
    struct MeterDay {
        bytes32 meterId;
        uint32 firstIsp;
        uint16 ispCount;
        bytes values;
        bytes signature;
    }

    /// @notice One reading, signed by the device, usable before its day is over.
    struct Reading {
        bytes32 meterId;
        uint32 isp;
        uint32 importWh;
        uint32 exportWh;
        bytes signature;
    }

    /// @param dataHash Hash of the full data set kept off chain.
    event DayAnchored(
        address indexed operator,
        uint32 indexed firstIsp,
        uint16 indexed version,
        uint16 ispCount,
        bytes32 root,
        uint32 leafCount,
        bytes32 dataHash
    );
    event IntradayAnchored(
        address indexed operator,
        uint32 indexed isp,
        bytes32 root,
        uint32 leafCount,
        bytes32 dataHash
    );
    /// @param reward What the challenger got from the operator's bond, uToken.
    /// @param forfeited What went to `forfeitTo`, uToken.
    event BatchRejected(
        address indexed operator,
        uint32 indexed firstIsp,
        uint16 indexed version,
        address challenger,
        bytes32 meterId,
        uint256 reward,
        uint256 forfeited
    );
    event BondPosted(address indexed operator, uint256 amount);
    event BondWithdrawn(address indexed operator, uint256 amount);

    /// @notice No root or no leaf.
    error EmptyBatch();
    error PeriodNotOver(uint256 endIsp, uint256 nowTs);
    /// @notice Number of ISPs other than the batch's, or outside 1 .. 100 (`expected` is 100 then).
    error PeriodMismatch(uint16 ispCount, uint16 expected);
    error BondTooLow(address operator, uint256 bond, uint256 required);
    error BondInUse(address operator, uint256 until);
    error BatchUnknown(address operator, uint32 firstIsp);
    error BatchNotUsable(address operator, uint32 firstIsp, uint16 version, BatchStatus status);
    error ChallengeWindowOpen(uint256 usableFrom, uint256 nowTs);
    error ChallengeWindowOver(uint256 until, uint256 nowTs);
    error LeafNotAnchored(bytes32 leaf);
    error InvalidDeviceSignature(bytes32 meterId, address expected);
    /// @notice What was brought says the same, or is of another meter or day.
    error NotContradicted(bytes32 meterId);
    /// @notice A reading that says "missing" proves nothing, even signed.
    error ReadingMissing(bytes32 meterId, uint32 isp);
    error ValuesLength(uint256 length, uint256 expected);

    /// @notice Locks a bond of the calling meter operator in the clearing house.
    /// @dev Errors: `MissingRole`, `InsufficientBalance`. Emits: {BondPosted}.
    /// @param amount uToken.
    function postBond(uint256 amount) external;

    /// @notice Returns a bond to the caller when none of its batches can be challenged any more. Needs no role.
    /// @dev Errors: {BondInUse}, {BondTooLow}. Emits: {BondWithdrawn}.
    /// @param amount uToken.
    function withdrawBond(uint256 amount) external;

    /// @notice Anchors the day batch of the calling meter operator, or a correction of it as the next version.
    /// @dev One per operator and market day, whatever the number of meters. Only after the day is over, with a bond of at
    /// least `minimumBond`. Errors: `MissingRole`, {PeriodMismatch}, {EmptyBatch}, {PeriodNotOver}, {BondTooLow}.
    /// Emits: {DayAnchored}.
    /// @param firstIsp ISP of local midnight.
    /// @param ispCount 92, 96 or 100; any number from 1 to 100 is taken.
    /// @param root Root over the leaves of all meter-days.
    /// @param leafCount Number of leaves, for the record.
    /// @param dataHash Hash of the full data set kept off chain.
    /// @return version Counts from 1.
    function anchorDay(
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 root,
        uint32 leafCount,
        bytes32 dataHash
    ) external returns (uint16 version);

    /// @notice Anchors one root for all meters of a site for one ISP, for use before the day is over.
    /// @dev A timestamp for the record: readings are used by their own signatures, so it needs no bond and no storage.
    /// Errors: `MissingRole`, {EmptyBatch}, {PeriodNotOver}. Emits: {IntradayAnchored}.
    function anchorIntraday(uint32 isp, bytes32 root, uint32 leafCount, bytes32 dataHash) external;

    /// @notice Rejects a day batch that says of a meter and ISP something else than the device signed; also "missing"
    /// where there is a reading, since the operator vouches for completeness. Anyone may call.
    /// @dev The signature of the day does not matter: the leaf is the operator's word.
    /// Errors: {BatchUnknown}, {BatchNotUsable}, {PeriodMismatch}, {ValuesLength}, {LeafNotAnchored},
    /// {ChallengeWindowOver}, {NotContradicted} and those of {requireReading}. Emits: {BatchRejected}.
    function challengeContradiction(
        address operator,
        MeterDay calldata day,
        bytes32[] calldata proof,
        Reading calldata reading
    ) external;

    /// @notice Rejects a day batch that holds two different days of the same meter. Anyone may call.
    /// @dev Errors: as {challengeContradiction}, without those of a reading. Emits: {BatchRejected}.
    function challengeDuplicate(
        address operator,
        MeterDay calldata first,
        bytes32[] calldata firstProof,
        MeterDay calldata second,
        bytes32[] calldata secondProof
    ) external;

    /// @notice Checks a meter-day for settlement: latest version, challenge window over, proof, device signature.
    /// @dev Errors: `MeterUnknown`, `MeterOutOfService`, {BatchUnknown}, {BatchNotUsable}, {PeriodMismatch},
    /// {ValuesLength}, {LeafNotAnchored}, {ChallengeWindowOpen}, {InvalidDeviceSignature}.
    /// @return version Version of the batch that holds it.
    function requireDay(MeterDay calldata day, bytes32[] calldata proof) external view returns (uint16 version);

    /// @notice Checks the device signature of one reading.
    /// @dev Errors: {ReadingMissing}, `MeterUnknown`, `MeterOutOfService`, {InvalidDeviceSignature}.
    function requireReading(Reading calldata reading) external view;

    /// @notice Latest version of the batch of an operator and day; all zero when there is none.
    function batch(address operator, uint32 firstIsp) external view returns (Batch memory);

    /// @notice Whether a batch of the meter's operator stands for a market day: anchored and not rejected, also while it can
    /// still be challenged. Whether the meter's day is in it, only its proof says.
    function standsFor(bytes32 meterId, uint32 firstIsp, uint16 ispCount) external view returns (bool);

    function meterDayLeaf(
        bytes32 meterId,
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 valuesHash
    ) external pure returns (bytes32);

    function challengeWindow() external view returns (uint32 secondsAfterAnchoring);

    /// @notice Smallest bond with which an operator may anchor, uToken.
    function minimumBond() external view returns (uint256);

    /// @notice Most that a successful challenge takes from the operator's bond, uToken.
    function challengePenalty() external view returns (uint256);

    /// @notice Share of the penalty that the challenger gets, basis points.
    function challengerShareBps() external view returns (uint256);

    /// @notice Account that the rest of the penalty goes to, named by governance when the ledger is deployed.
    function forfeitTo() external view returns (address);

    function bondOf(address operator) external view returns (uint256);

    /// @notice When the bond of an operator becomes free, unix seconds.
    function bondInUseUntil(address operator) external view returns (uint256);

    /// @notice Lock that holds an operator's bond in the clearing house.
    function bondLockId(address operator) external view returns (bytes32);
}
