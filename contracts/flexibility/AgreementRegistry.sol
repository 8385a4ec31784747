// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IAgreementRegistry} from "interfaces/IAgreementRegistry.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Agreements between prosumers and aggregators
/// @dev Bonds: the lock of an agreement holds what {register} and {amend} put there less what settlement took. {amend}
/// fills it up to the agreed bond, {returnBond} pays out what is no longer bound: what enters the lock leaves it.
contract AgreementRegistry is IAgreementRegistry, Module, EIP712 {
    bytes32 private constant TERMS_TYPEHASH = keccak256(
        "Terms(bytes32 connectionId,address prosumer,address aggregator,bytes32 baselineMethod,uint128 workingDayIsps,"
        "uint128 weekendIsps,uint32 maxUpW,uint32 maxDownW,uint32 rewardRate,uint32 penaltyRate,uint16 toleranceBps,"
        "uint32 multiplierBps,uint32 noticeSeconds,uint32 terminationNoticeSeconds,uint40 validFrom,uint40 validUntil,"
        "uint8 weeklyActivations,bool standby,bool missingIsShortfall,uint64 bond)"
    );
    bytes32 private constant AGREEMENT_TYPEHASH = keccak256(
        "Agreement(Terms terms,uint256 nonce,uint64 deadline)"
        "Terms(bytes32 connectionId,address prosumer,address aggregator,bytes32 baselineMethod,uint128 workingDayIsps,"
        "uint128 weekendIsps,uint32 maxUpW,uint32 maxDownW,uint32 rewardRate,uint32 penaltyRate,uint16 toleranceBps,"
        "uint32 multiplierBps,uint32 noticeSeconds,uint32 terminationNoticeSeconds,uint40 validFrom,uint40 validUntil,"
        "uint8 weeklyActivations,bool standby,bool missingIsShortfall,uint64 bond)"
    );
    bytes32 private constant NOTICE_TYPEHASH = keccak256(
        "Notice(uint64 agreementId,uint8 action,uint256 nonce,uint64 deadline)"
    );
    bytes32 private constant AVAILABILITY_TYPEHASH = keccak256(
        "Availability(uint64 agreementId,uint32 dayFirstIsp,uint128 isps,uint256 nonce,uint64 deadline)"
    );

    uint256 private constant SECONDS_PER_ISP = 900;
    /// @dev Positions of the longest market day.
    uint256 private constant MAX_ISPS = 100;
    uint256 private constant BPS = 10_000;
    /// @dev Set in a declaration, so that one without any position differs from none.
    uint256 private constant DECLARED = 1 << 128;

    IGridRegistry private immutable _grid;
    IClearingHouse private immutable _clearingHouse;
    /// @inheritdoc IAgreementRegistry
    uint32 public immutable bondHoldSeconds;

    uint64 private _lastAgreementId;
    /// @dev Seven slots each: the fields of {Terms} pack in the order they are declared.
    mapping(uint64 agreementId => Terms) private _terms;
    mapping(uint64 agreementId => Standing) private _standings;
    mapping(uint64 agreementId => mapping(uint32 dayFirstIsp => uint256)) private _declared;
    /// @inheritdoc IAgreementRegistry
    mapping(uint64 agreementId => uint256) public excessHeldUntil;
    /// @inheritdoc IAgreementRegistry
    mapping(bytes32 connectionId => uint64) public agreementOf;
    /// @inheritdoc IAgreementRegistry
    mapping(bytes32 connectionId => uint256) public nonceOf;
    /// @inheritdoc IAgreementRegistry
    mapping(address signer => uint256) public noticeNonceOf;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        IClearingHouse clearingHouse_,
        uint32 bondHoldSeconds_
    ) Module(authority_, participants_) EIP712("gridpact.agreements", "1") {
        _grid = grid_;
        _clearingHouse = clearingHouse_;
        bondHoldSeconds = bondHoldSeconds_;
    }

    // ------------------------------------------------------------------ signing

    /// @inheritdoc IAgreementRegistry
    function register(
        Terms calldata terms,
        uint64 deadline,
        bytes calldata prosumerSignature,
        bytes calldata aggregatorSignature
    ) external whenNotPaused returns (uint64 agreementId) {
        _requireValid(terms);
        uint64 latest = agreementOf[terms.connectionId];
        if (latest != 0 && block.timestamp < _endOf(latest)) revert ConnectionTaken(terms.connectionId, latest);
        _requireSignedByBoth(terms, deadline, prosumerSignature, aggregatorSignature);

        agreementId = ++_lastAgreementId;
        agreementOf[terms.connectionId] = agreementId;
        _standings[agreementId].status = Status.Active;
        _store(agreementId, terms);
        _clearingHouse.lock(bondLockId(agreementId), terms.prosumer, terms.bond);
    }

    /// @inheritdoc IAgreementRegistry
    function amend(
        uint64 agreementId,
        Terms calldata terms,
        uint64 deadline,
        bytes calldata prosumerSignature,
        bytes calldata aggregatorSignature
    ) external whenNotPaused {
        _requireKnown(agreementId);
        Terms storage current = _terms[agreementId];
        if (
            terms.connectionId != current.connectionId ||
            terms.prosumer != current.prosumer ||
            terms.aggregator != current.aggregator
        ) revert PartyChanged(agreementId);
        if (block.timestamp >= _endOf(agreementId)) _revertNotInForce(agreementId);
        _requireValid(terms);
        _requireSignedByBoth(terms, deadline, prosumerSignature, aggregatorSignature);

        // Open orders count on the bond that they were issued under.
        if (terms.bond < current.bond) excessHeldUntil[agreementId] = block.timestamp + bondHoldSeconds;
        _store(agreementId, terms);
        bytes32 lockId = bondLockId(agreementId);
        uint256 locked = _clearingHouse.lockOf(lockId);
        if (locked < terms.bond) _clearingHouse.lock(lockId, terms.prosumer, terms.bond - locked);
    }

    function _store(uint64 agreementId, Terms calldata terms) private {
        _terms[agreementId] = terms;
        uint16 version = ++_standings[agreementId].version;
        emit AgreementRegistered(agreementId, terms.prosumer, terms.aggregator, version, terms);
    }

    function _requireValid(Terms calldata terms) private view {
        if (terms.validFrom >= terms.validUntil) revert InvalidTerms("validFrom");
        if (terms.validUntil <= block.timestamp) revert InvalidTerms("validUntil");
        if (terms.maxUpW == 0 && terms.maxDownW == 0) revert InvalidTerms("maxUpW");
        if (terms.multiplierBps == 0) revert InvalidTerms("multiplierBps");
        if (terms.toleranceBps > BPS) revert InvalidTerms("toleranceBps");
        if (terms.weeklyActivations == 0) revert InvalidTerms("weeklyActivations");
        uint256 isps = terms.workingDayIsps | terms.weekendIsps;
        if (isps == 0 || isps >> MAX_ISPS != 0) revert InvalidTerms("workingDayIsps");

        IGridRegistry.Connection memory connection = _grid.connection(terms.connectionId);
        if (!connection.active) revert IGridRegistry.ConnectionUnknown(terms.connectionId);
        if (connection.owner != terms.prosumer) revert NotOwner(terms.connectionId, terms.prosumer);
        _requireGoodStanding(terms.prosumer, terms.aggregator);
    }

    function _requireSignedByBoth(
        Terms calldata terms,
        uint64 deadline,
        bytes calldata prosumerSignature,
        bytes calldata aggregatorSignature
    ) private {
        bytes32 termsHash = keccak256(abi.encode(TERMS_TYPEHASH, terms));
        uint256 nonce = nonceOf[terms.connectionId]++;
        bytes32 structHash = keccak256(abi.encode(AGREEMENT_TYPEHASH, termsHash, nonce, deadline));
        _requireSigned(terms.prosumer, structHash, deadline, prosumerSignature);
        _requireSigned(terms.aggregator, structHash, deadline, aggregatorSignature);
    }

    function _requireSigned(
        address signer,
        bytes32 structHash,
        uint64 deadline,
        bytes calldata signature
    ) private view {
        if (block.timestamp > deadline) revert SignatureExpired(deadline, block.timestamp);
        if (!SignatureChecker.isValidSignatureNow(signer, _hashTypedDataV4(structHash), signature)) {
            revert InvalidSignature(signer);
        }
    }

    // ------------------------------------------------------------------ notices

    /// @inheritdoc IAgreementRegistry
    function give(uint64 agreementId, Action action) external {
        _give(agreementId, action, msg.sender);
    }

    /// @inheritdoc IAgreementRegistry
    function giveBySignature(
        uint64 agreementId,
        Action action,
        address party,
        uint64 deadline,
        bytes calldata signature
    ) external {
        uint256 nonce = noticeNonceOf[party]++;
        bytes32 structHash = keccak256(abi.encode(NOTICE_TYPEHASH, agreementId, action, nonce, deadline));
        _requireSigned(party, structHash, deadline, signature);
        _give(agreementId, action, party);
    }

    function _give(uint64 agreementId, Action action, address by) private {
        _requireKnown(agreementId);
        Terms storage terms = _terms[agreementId];
        if (by != terms.prosumer && by != terms.aggregator) revert NotParty(agreementId, by);
        Standing storage standing = _standings[agreementId];
        Status status = _statusOf(agreementId);

        if (action == Action.Suspend) {
            if (status != Status.Active) revert StatusNotAllowed(agreementId, status, action);
            standing.status = Status.Suspended;
            standing.suspendedBy = by;
            emit AgreementStatusChanged(agreementId, Status.Suspended, by, standing.endsAt);
        } else if (action == Action.Resume) {
            if (status != Status.Suspended) revert StatusNotAllowed(agreementId, status, action);
            if (by != standing.suspendedBy) revert SuspendedByOther(agreementId, standing.suspendedBy);
            standing.status = Status.Active;
            standing.suspendedBy = address(0);
            emit AgreementStatusChanged(agreementId, Status.Active, by, standing.endsAt);
        } else {
            if (status == Status.Terminated || standing.endsAt != 0) {
                revert StatusNotAllowed(agreementId, status, action);
            }
            standing.endsAt = uint40(block.timestamp) + terms.terminationNoticeSeconds;
            emit AgreementStatusChanged(agreementId, Status.Terminated, by, standing.endsAt);
        }
    }

    // ------------------------------------------------------------------ availability

    /// @inheritdoc IAgreementRegistry
    function declareAvailability(uint64 agreementId, uint32 dayFirstIsp, uint128 isps) external {
        _requireKnown(agreementId);
        if (msg.sender != _terms[agreementId].prosumer) revert NotParty(agreementId, msg.sender);
        _declare(agreementId, dayFirstIsp, isps);
    }

    /// @inheritdoc IAgreementRegistry
    function declareAvailabilityBySignature(
        uint64 agreementId,
        uint32 dayFirstIsp,
        uint128 isps,
        uint64 deadline,
        bytes calldata signature
    ) external {
        _requireKnown(agreementId);
        address prosumer = _terms[agreementId].prosumer;
        uint256 nonce = noticeNonceOf[prosumer]++;
        bytes32 structHash = keccak256(
            abi.encode(AVAILABILITY_TYPEHASH, agreementId, dayFirstIsp, isps, nonce, deadline)
        );
        _requireSigned(prosumer, structHash, deadline, signature);
        _declare(agreementId, dayFirstIsp, isps);
    }

    function _declare(uint64 agreementId, uint32 dayFirstIsp, uint128 isps) private {
        _declared[agreementId][dayFirstIsp] = DECLARED | isps;
        emit AvailabilityDeclared(agreementId, dayFirstIsp, isps);
    }

    // ------------------------------------------------------------------ bond

    /// @inheritdoc IAgreementRegistry
    function returnBond(uint64 agreementId) external {
        _requireKnown(agreementId);
        bytes32 lockId = bondLockId(agreementId);
        uint256 amount = _clearingHouse.lockOf(lockId);
        if (amount == 0) revert NoBond(agreementId);
        uint256 until = _endOf(agreementId) + bondHoldSeconds;
        if (block.timestamp < until) {
            // Until then only what an amendment made superfluous.
            uint256 bond = _terms[agreementId].bond;
            if (amount > bond) until = excessHeldUntil[agreementId];
            if (amount <= bond || block.timestamp < until) revert BondStillBound(agreementId, until);
            amount -= bond;
        }
        address prosumer = _terms[agreementId].prosumer;
        _clearingHouse.release(lockId, prosumer, amount);
        emit BondReturned(agreementId, prosumer, amount);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IAgreementRegistry
    function termsInForce(uint64 agreementId) external view returns (Terms memory terms) {
        _requireKnown(agreementId);
        terms = _terms[agreementId];
        if (_statusOf(agreementId) != Status.Active || block.timestamp < terms.validFrom) {
            _revertNotInForce(agreementId);
        }
        _requireGoodStanding(terms.prosumer, terms.aggregator);
    }

    /// @inheritdoc IAgreementRegistry
    function termsOf(uint64 agreementId) external view returns (Terms memory) {
        return _terms[agreementId];
    }

    /// @inheritdoc IAgreementRegistry
    function standingOf(uint64 agreementId) external view returns (Standing memory standing) {
        standing = _standings[agreementId];
        standing.status = _statusOf(agreementId);
    }

    /// @inheritdoc IAgreementRegistry
    function availableIsps(uint64 agreementId, uint32 dayFirstIsp) external view returns (uint128) {
        Terms storage terms = _terms[agreementId];
        uint256 weekday = ((dayFirstIsp * SECONDS_PER_ISP + 12 hours) / 1 days + 4) % 7; // 0 = Sunday
        uint256 isps = weekday == 0 || weekday == 6 ? terms.weekendIsps : terms.workingDayIsps;
        uint256 declared = _declared[agreementId][dayFirstIsp];
        if (declared != 0) isps &= declared;

        // First ISP that begins in the validity, first one that does not end in it.
        uint256 from = (terms.validFrom + SECONDS_PER_ISP - 1) / SECONDS_PER_ISP;
        uint256 until = _endOf(agreementId) / SECONDS_PER_ISP;
        if (from > dayFirstIsp) isps &= _fromPosition(from - dayFirstIsp);
        isps &= until > dayFirstIsp ? ~_fromPosition(until - dayFirstIsp) : 0;
        return uint128(isps);
    }

    /// @inheritdoc IAgreementRegistry
    function bondLockId(uint64 agreementId) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), agreementId));
    }

    /// @dev All bits from a position on; none from 256 on.
    function _fromPosition(uint256 position) private pure returns (uint256) {
        return type(uint256).max << position;
    }

    function _endOf(uint64 agreementId) private view returns (uint256) {
        uint256 endsAt = _standings[agreementId].endsAt;
        uint256 validUntil = _terms[agreementId].validUntil;
        return endsAt != 0 && endsAt < validUntil ? endsAt : validUntil;
    }

    function _statusOf(uint64 agreementId) private view returns (Status) {
        Status status = _standings[agreementId].status;
        return status != Status.None && block.timestamp >= _endOf(agreementId) ? Status.Terminated : status;
    }

    function _requireKnown(uint64 agreementId) private view {
        if (_standings[agreementId].status == Status.None) revert AgreementUnknown(agreementId);
    }

    function _requireGoodStanding(address prosumer, address aggregator) private view {
        participants.requireRole(prosumer, IParticipantRegistry.Role.Prosumer);
        participants.requireRole(aggregator, IParticipantRegistry.Role.Aggregator);
    }

    function _revertNotInForce(uint64 agreementId) private view {
        revert NotInForce(
            agreementId,
            _statusOf(agreementId),
            _terms[agreementId].validFrom,
            uint40(_endOf(agreementId)),
            block.timestamp
        );
    }
}
