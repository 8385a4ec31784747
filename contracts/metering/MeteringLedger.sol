// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {Curves} from "contracts/metering/Curves.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Anchored batches of device-signed meter readings
/// @dev Gas of {anchorDay} does not depend on the number of meters: two slots for the batch, one for the operator, one
/// event. At each second a batch can be either challenged or settled from, never both: the window is half open,
/// `[anchoredAt, anchoredAt + challengeWindow)`.
contract MeteringLedger is IMeteringLedger, Module, EIP712 {
    using Curves for bytes;

    bytes32 private constant METER_DAY_LEAF = keccak256("gridpact.meterday.leaf.v1");
    bytes32 private constant METER_DAY_TYPEHASH = keccak256(
        "MeterDay(bytes32 meterId,uint32 firstIsp,uint16 ispCount,bytes32 valuesHash)"
    );
    bytes32 private constant READING_TYPEHASH = keccak256(
        "Reading(bytes32 meterId,uint32 isp,uint32 importWh,uint32 exportWh)"
    );
    uint256 private constant SECONDS_PER_ISP = 900;
    uint16 private constant MAX_ISPS = 100;

    /// One slot, read and written by every {anchorDay}.
    struct Operator {
        /// What the lock {bondLockId} holds in the clearing house, uToken.
        uint128 bond;
        /// End of the challenge window of the latest anchored batch.
        uint40 bondInUseUntil;
    }

    IMeterRegistry public immutable meters;
    IClearingHouse public immutable clearingHouse;
    /// @inheritdoc IMeteringLedger
    uint32 public immutable challengeWindow;
    /// @inheritdoc IMeteringLedger
    uint256 public immutable minimumBond;
    /// @inheritdoc IMeteringLedger
    uint256 public immutable challengePenalty;
    /// @inheritdoc IMeteringLedger
    uint256 public constant challengerShareBps = 4_000;
    /// @inheritdoc IMeteringLedger
    address public immutable forfeitTo;

    mapping(address operator => Operator) private _operators;
    mapping(address operator => mapping(uint32 firstIsp => Batch)) private _batches;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IMeterRegistry meters_,
        IClearingHouse clearingHouse_,
        uint32 challengeWindowSeconds,
        uint256 minimumBond_,
        uint256 challengePenalty_,
        address forfeitTo_
    ) Module(authority_, participants_) EIP712("gridpact.metering", "1") {
        meters = meters_;
        clearingHouse = clearingHouse_;
        challengeWindow = challengeWindowSeconds;
        minimumBond = minimumBond_;
        challengePenalty = challengePenalty_;
        forfeitTo = forfeitTo_;
    }

    // ---------------------------------------------------------------------------------------------------- bonds

    /// @inheritdoc IMeteringLedger
    function postBond(uint256 amount) external onlyRole(IParticipantRegistry.Role.MeterOperator) {
        _operators[msg.sender].bond += SafeCast.toUint128(amount);
        emit BondPosted(msg.sender, amount);
        clearingHouse.lock(bondLockId(msg.sender), msg.sender, amount);
    }

    /// @inheritdoc IMeteringLedger
    function withdrawBond(uint256 amount) external {
        Operator storage operator = _operators[msg.sender];
        if (block.timestamp < operator.bondInUseUntil) revert BondInUse(msg.sender, operator.bondInUseUntil);
        if (amount > operator.bond) revert BondTooLow(msg.sender, operator.bond, amount);
        operator.bond -= uint128(amount);
        emit BondWithdrawn(msg.sender, amount);
        clearingHouse.release(bondLockId(msg.sender), msg.sender, amount);
    }

    // -------------------------------------------------------------------------------------------------- anchoring

    /// @inheritdoc IMeteringLedger
    function anchorDay(
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 root,
        uint32 leafCount,
        bytes32 dataHash
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.MeterOperator) returns (uint16 version) {
        if (ispCount == 0 || ispCount > MAX_ISPS) revert PeriodMismatch(ispCount, MAX_ISPS);
        _requireBatch(uint256(firstIsp) + ispCount, root, leafCount);
        Operator storage operator = _operators[msg.sender];
        if (operator.bond < minimumBond) revert BondTooLow(msg.sender, operator.bond, minimumBond);

        version = _batches[msg.sender][firstIsp].version + 1;
        _batches[msg.sender][firstIsp] = Batch({
            root: root,
            anchoredAt: uint40(block.timestamp),
            ispCount: ispCount,
            leafCount: leafCount,
            version: version,
            status: BatchStatus.Anchored
        });
        operator.bondInUseUntil = uint40(block.timestamp + challengeWindow);
        emit DayAnchored(msg.sender, firstIsp, version, ispCount, root, leafCount, dataHash);
    }

    /// @inheritdoc IMeteringLedger
    function anchorIntraday(
        uint32 isp,
        bytes32 root,
        uint32 leafCount,
        bytes32 dataHash
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.MeterOperator) {
        _requireBatch(uint256(isp) + 1, root, leafCount);
        emit IntradayAnchored(msg.sender, isp, root, leafCount, dataHash);
    }

    // ------------------------------------------------------------------------------------------------- challenges

    /// @inheritdoc IMeteringLedger
    function challengeContradiction(
        address operator,
        MeterDay calldata day,
        bytes32[] calldata proof,
        Reading calldata reading
    ) external {
        _requireChallengeable(_requireLeaf(operator, day, keccak256(day.values), proof));
        requireReading(reading);
        unchecked {
            // An ISP before the day wraps to a position that is far beyond it.
            uint256 position = uint256(reading.isp) - day.firstIsp;
            if (reading.meterId != day.meterId || position >= day.ispCount) revert NotContradicted(day.meterId);
            (uint256 importWh, uint256 exportWh, ) = day.values.reading(position);
            if (importWh == reading.importWh && exportWh == reading.exportWh) revert NotContradicted(day.meterId);
        }
        _reject(operator, day.firstIsp, day.meterId);
    }

    /// @inheritdoc IMeteringLedger
    function challengeDuplicate(
        address operator,
        MeterDay calldata first,
        bytes32[] calldata firstProof,
        MeterDay calldata second,
        bytes32[] calldata secondProof
    ) external {
        (bytes32 firstHash, bytes32 secondHash) = (keccak256(first.values), keccak256(second.values));
        if (first.meterId != second.meterId || first.firstIsp != second.firstIsp || firstHash == secondHash) {
            revert NotContradicted(first.meterId);
        }
        _requireChallengeable(_requireLeaf(operator, first, firstHash, firstProof));
        _requireLeaf(operator, second, secondHash, secondProof);
        _reject(operator, first.firstIsp, first.meterId);
    }

    // ----------------------------------------------------------------------------------------------- verification

    /// @inheritdoc IMeteringLedger
    function requireDay(MeterDay calldata day, bytes32[] calldata proof) external view returns (uint16 version) {
        (address operator, address deviceKey) = _signerOfDay(day.meterId, day.firstIsp, day.ispCount);
        bytes32 valuesHash = keccak256(day.values);
        Batch memory anchored = _requireLeaf(operator, day, valuesHash, proof);
        uint256 usableFrom = _windowEnd(anchored);
        if (block.timestamp < usableFrom) revert ChallengeWindowOpen(usableFrom, block.timestamp);
        bytes32 structHash = keccak256(
            abi.encode(METER_DAY_TYPEHASH, day.meterId, day.firstIsp, day.ispCount, valuesHash)
        );
        _requireSignature(day.meterId, deviceKey, structHash, day.signature);
        return anchored.version;
    }

    /// @inheritdoc IMeteringLedger
    function requireReading(Reading calldata reading) public view {
        if (reading.importWh == Curves.MISSING || reading.exportWh == Curves.MISSING) {
            revert ReadingMissing(reading.meterId, reading.isp);
        }
        (, address deviceKey) = meters.keyAt(reading.meterId, reading.isp);
        bytes32 structHash = keccak256(
            abi.encode(READING_TYPEHASH, reading.meterId, reading.isp, reading.importWh, reading.exportWh)
        );
        _requireSignature(reading.meterId, deviceKey, structHash, reading.signature);
    }

    // ------------------------------------------------------------------------------------------------------ views

    /// @inheritdoc IMeteringLedger
    function batch(address operator, uint32 firstIsp) external view returns (Batch memory) {
        return _batches[operator][firstIsp];
    }

    /// @inheritdoc IMeteringLedger
    function standsFor(bytes32 meterId, uint32 firstIsp, uint16 ispCount) external view returns (bool) {
        Batch storage anchored = _batches[meters.meter(meterId).operator][firstIsp];
        return anchored.status == BatchStatus.Anchored && anchored.ispCount == ispCount;
    }

    /// @inheritdoc IMeteringLedger
    function bondOf(address operator) external view returns (uint256) {
        return _operators[operator].bond;
    }

    /// @inheritdoc IMeteringLedger
    function bondInUseUntil(address operator) external view returns (uint256) {
        return _operators[operator].bondInUseUntil;
    }

    /// @inheritdoc IMeteringLedger
    function bondLockId(address operator) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), operator));
    }

    /// @inheritdoc IMeteringLedger
    function meterDayLeaf(
        bytes32 meterId,
        uint32 firstIsp,
        uint16 ispCount,
        bytes32 valuesHash
    ) public pure returns (bytes32) {
        bytes32 inner = keccak256(abi.encode(METER_DAY_LEAF, meterId, firstIsp, ispCount, valuesHash));
        return keccak256(bytes.concat(inner));
    }

    // --------------------------------------------------------------------------------------------------- internal

    function _requireBatch(uint256 endIsp, bytes32 root, uint32 leafCount) private view {
        if (root == 0 || leafCount == 0) revert EmptyBatch();
        if (block.timestamp < endIsp * SECONDS_PER_ISP) revert PeriodNotOver(endIsp, block.timestamp);
    }

    /// Latest version of the batch, if it stands and holds the day.
    function _requireLeaf(
        address operator,
        MeterDay calldata day,
        bytes32 valuesHash,
        bytes32[] calldata proof
    ) private view returns (Batch memory anchored) {
        anchored = _batches[operator][day.firstIsp];
        if (anchored.status != BatchStatus.Anchored) {
            if (anchored.status == BatchStatus.None) revert BatchUnknown(operator, day.firstIsp);
            revert BatchNotUsable(operator, day.firstIsp, anchored.version, anchored.status);
        }
        if (day.ispCount != anchored.ispCount) revert PeriodMismatch(day.ispCount, anchored.ispCount);
        if (!day.values.isReadings(day.ispCount)) revert ValuesLength(day.values.length, 8 * uint256(day.ispCount));
        bytes32 leaf = meterDayLeaf(day.meterId, day.firstIsp, day.ispCount, valuesHash);
        if (!MerkleProof.verifyCalldata(proof, anchored.root, leaf)) revert LeafNotAnchored(leaf);
    }

    function _requireChallengeable(Batch memory anchored) private view {
        uint256 until = _windowEnd(anchored);
        if (block.timestamp >= until) revert ChallengeWindowOver(until, block.timestamp);
    }

    function _windowEnd(Batch memory anchored) private view returns (uint256) {
        return uint256(anchored.anchoredAt) + challengeWindow;
    }

    function _reject(address operator, uint32 firstIsp, bytes32 meterId) private {
        Batch storage rejected = _batches[operator][firstIsp];
        rejected.status = BatchStatus.Rejected;
        uint256 penalty = Math.min(challengePenalty, _operators[operator].bond);
        uint256 reward = Money.shareDown(penalty, challengerShareBps);
        _operators[operator].bond -= uint128(penalty);
        emit BatchRejected(operator, firstIsp, rejected.version, msg.sender, meterId, reward, penalty - reward);
        clearingHouse.release(bondLockId(operator), msg.sender, reward);
        clearingHouse.release(bondLockId(operator), forfeitTo, penalty - reward);
    }

    /// Operator of the meter and the key that signs its day: the one in force at the last ISP that the meter was in
    /// service.
    function _signerOfDay(bytes32 meterId, uint32 firstIsp, uint16 ispCount) private view returns (address, address) {
        uint32 lastIsp;
        unchecked {
            // A period of no ISPs or one that wraps is no batch's.
            lastIsp = firstIsp + ispCount - 1;
        }
        try meters.keyAt(meterId, lastIsp) returns (address operator, address deviceKey) {
            return (operator, deviceKey);
        } catch {
            uint32 endIsp = meters.meter(meterId).endIsp;
            // Not in service at any ISP of the day: the registry answers with its own error.
            return meters.keyAt(meterId, endIsp > firstIsp && endIsp <= lastIsp ? endIsp - 1 : lastIsp);
        }
    }

    function _requireSignature(
        bytes32 meterId,
        address deviceKey,
        bytes32 structHash,
        bytes calldata signature
    ) private view {
        // A signature of which nobody can be recovered gives zero, which is no device key.
        (address signer, , ) = ECDSA.tryRecover(_hashTypedDataV4(structHash), signature);
        if (signer != deviceKey) revert InvalidDeviceSignature(meterId, deviceKey);
    }
}
