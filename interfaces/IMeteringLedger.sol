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
/// The key in force at the last ISP of the day signs the day.
///
/// Rules. The latest version counts. It can be settled from once its challenge window has passed. A successful
/// challenge rejects it, pays the challenger from the operator's bond, and the batch before it does not come back:
/// the operator must anchor a new version. Source: eDREAM D2.5 4.5.1 and 4.5.4, BeFlexible SUC06.3.
/// @custom:stop Paused: no anchoring. Challenges and settlement from anchored batches work.
/// @custom:trust The device key vouches for a value, the operator for completeness; neither alone can change a payment
/// after anchoring.
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
    event BatchRejected(
        address indexed operator,
        uint32 indexed firstIsp,
        uint16 indexed version,
        address challenger,
        bytes32 meterId,
        uint256 reward
    );
    event BondPosted(address indexed operator, uint256 amount);
    event BondWithdrawn(address indexed operator, uint256 amount);

    error EmptyBatch();
    error PeriodNotOver(uint32 endIsp, uint256 nowTs);
    error PeriodMismatch(uint16 ispCount, uint16 expected);
    error BondTooLow(address operator, uint256 bond, uint256 required);
    error BondInUse(address operator, uint256 until);
    error BatchUnknown(address operator, uint32 firstIsp);
    error BatchNotUsable(address operator, uint32 firstIsp, uint16 version, BatchStatus status);
    error ChallengeWindowOpen(uint256 usableFrom, uint256 nowTs);
    error ChallengeWindowOver(uint256 until, uint256 nowTs);
    error LeafNotAnchored(bytes32 leaf);
    error InvalidDeviceSignature(bytes32 meterId, address expected);
    error NotContradicted(bytes32 meterId);
    error ValuesLength(uint256 length, uint256 expected);

    /// @notice Locks a bond of the calling meter operator in the clearing house.
    function postBond(uint256 amount) external;

    /// @notice Returns a bond when no batch of the operator can be challenged any more.
    function withdrawBond(uint256 amount) external;

    /// @notice Anchors the day batch of the calling meter operator, or a correction of it as the next version.
    /// @dev One per operator and market day, whatever the number of meters. Only after the day is over.
    function anchorDay(
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 root,
        uint32 leafCount,
        bytes32 dataHash
    ) external returns (uint16 version);

    /// @notice Anchors one root for all meters of a site for one ISP, for use before the day is over.
    function anchorIntraday(uint32 isp, bytes32 root, uint32 leafCount, bytes32 dataHash) external;

    /// @notice Rejects a day batch that says of a meter and ISP something else than the device signed.
    function challengeContradiction(
        address operator,
        MeterDay calldata day,
        bytes32[] calldata proof,
        Reading calldata reading
    ) external;

    /// @notice Rejects a day batch that holds two different days of the same meter.
    function challengeDuplicate(
        address operator,
        MeterDay calldata first,
        bytes32[] calldata firstProof,
        MeterDay calldata second,
        bytes32[] calldata secondProof
    ) external;

    /// @notice Checks a meter-day for settlement: latest version, challenge window over, proof, device signature.
    /// @return version Version of the batch that holds it.
    function requireDay(MeterDay calldata day, bytes32[] calldata proof) external view returns (uint16 version);

    /// @notice Checks the device signature of one reading. Errors: {InvalidDeviceSignature}.
    function requireReading(Reading calldata reading) external view;

    /// @notice Latest version of the batch of an operator and day.
    function batch(address operator, uint32 firstIsp) external view returns (Batch memory);

    function meterDayLeaf(
        bytes32 meterId,
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 valuesHash
    ) external pure returns (bytes32);

    function challengeWindow() external view returns (uint32 secondsAfterAnchoring);

    function bondOf(address operator) external view returns (uint256);
}
