// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IEnergyCertificates} from "interfaces/IEnergyCertificates.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {ISettlementProposer} from "interfaces/ISettlementProposer.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Settlement of a whole session in one batch, by a proposer drawn by stake
/// @dev Money is in locks of the clearing house: one of each staker, one of each open challenge.
/// A stake stays while a proposal counts on it: until {conclude}, which waits for all challenges, or until the proposal falls.
contract SettlementProposer is ISettlementProposer, Module {
    using SafeCast for uint256;

    bytes32 private constant OUTCOME_LEAF = keccak256("gridpact.outcome.leaf.v1");
    uint256 private constant ISP_SECONDS = 900;
    /// @dev In the place of a commitment that was revealed or punished.
    bytes32 private constant ANSWERED = bytes32(type(uint256).max);
    uint256 private constant MAX_CANDIDATES = 64;
    uint256 private constant MAX_TURNS = 3;

    struct Settings {
        uint32 ageCapSeconds;
        uint32 turnSeconds;
        uint32 challengeSeconds;
        uint32 answerSeconds;
        uint128 minimumStake;
        uint128 revealPenalty;
        uint128 challengeBond;
        /// Of each claim to the proposer, at most the payout.
        uint128 claimFee;
    }

    /// @dev In the order of their commitments, which nobody can change once a secret is known.
    struct Candidate {
        address staker;
        uint88 weight;
        bool revealed;
    }

    struct Draw {
        bytes32 seed;
        Candidate[] candidates;
        /// Turn of the latest proposal, and block time of it.
        uint16 proposedTurn;
        uint40 proposedAt;
        /// First turn after a proposal that fell, and when it began; zero before.
        uint16 firstTurn;
        uint40 turnsFrom;
    }

    struct Challenge {
        uint64 sessionId;
        uint16 proposalNumber;
        uint40 answerBy;
        address challenger;
        bytes32 leaf;
    }

    IEnergyMarket private immutable _market;
    IMarketSettlement private immutable _settlement;
    IEnergyCertificates private immutable _certificates;
    IGridRegistry private immutable _grid;
    IClearingHouse private immutable _clearingHouse;

    Settings public settings;

    /// @inheritdoc ISettlementProposer
    mapping(uint64 sessionId => mapping(bytes32 connectionId => uint256)) public paidOf;

    mapping(address staker => StakeState) private _stakes;
    mapping(uint64 sessionId => Draw) private _draws;
    mapping(uint64 sessionId => mapping(address staker => bytes32)) private _commitments;
    mapping(uint64 sessionId => Proposal) private _proposals;
    mapping(uint64 challengeId => Challenge) private _challenges;
    uint64 private _challengeCount;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IEnergyMarket market_,
        IMarketSettlement settlement_,
        IEnergyCertificates certificates_,
        IGridRegistry grid_,
        IClearingHouse clearingHouse_,
        Settings memory settings_
    ) Module(authority_, participants_) {
        _market = market_;
        _settlement = settlement_;
        _certificates = certificates_;
        _grid = grid_;
        _clearingHouse = clearingHouse_;
        settings = settings_;
    }

    // ------------------------------------------------------------------ stake

    /// @inheritdoc ISettlementProposer
    function stake(uint256 amount) external whenNotPaused {
        StakeState storage held = _stakes[msg.sender];
        uint256 total = held.amount + amount;
        if (total < settings.minimumStake) revert StakeTooLow(msg.sender, total, settings.minimumStake);
        // New tokens have no age: the average of all.
        uint256 age = held.amount == 0 ? 0 : ((block.timestamp - held.since) * held.amount) / total;
        held.amount = total.toUint128();
        held.since = uint40(block.timestamp - age);
        _clearingHouse.lock(stakeLockId(msg.sender), msg.sender, amount);
        emit Staked(msg.sender, amount, total);
    }

    /// @inheritdoc ISettlementProposer
    function unstake(uint256 amount) external {
        StakeState storage held = _stakes[msg.sender];
        uint256 until = _blockTimeOf(held.boundUntil);
        if (block.timestamp < until) revert StakeBound(msg.sender, until, block.timestamp);
        if (held.openProposals != 0) revert ProposalsOpen(msg.sender, held.openProposals);
        if (amount > held.amount) revert StakeTooLow(msg.sender, held.amount, amount);
        uint256 left = held.amount - amount;
        if (left != 0 && left < settings.minimumStake) revert StakeTooLow(msg.sender, left, settings.minimumStake);
        held.amount = uint128(left);
        _clearingHouse.release(stakeLockId(msg.sender), msg.sender, amount);
        emit Unstaked(msg.sender, amount, left);
    }

    // ------------------------------------------------------------------ draw

    /// @inheritdoc ISettlementProposer
    function commit(uint64 sessionId, bytes32 commitment) external whenNotPaused {
        IEnergyMarket.Session memory session = _market.session(sessionId);
        if (session.operator == address(0)) revert IEnergyMarket.SessionUnknown(sessionId);
        if (block.timestamp > session.gateClosure) {
            revert CommitClosed(sessionId, session.gateClosure, block.timestamp);
        }
        StakeState storage held = _stakes[msg.sender];
        if (held.amount < settings.minimumStake) revert StakeTooLow(msg.sender, held.amount, settings.minimumStake);
        // Neither is a hash that anybody could have; both would escape the penalty.
        if (commitment == 0 || commitment == ANSWERED) revert CommitmentInvalid(commitment);
        if (_commitments[sessionId][msg.sender] != 0) revert AlreadyCommitted(sessionId, msg.sender);
        Candidate[] storage candidates = _draws[sessionId].candidates;
        if (candidates.length == MAX_CANDIDATES) revert TooManyCandidates(sessionId, MAX_CANDIDATES);
        _commitments[sessionId][msg.sender] = commitment;
        // Days of 10^-3 token, so that 88 bits are plenty; everybody's is rounded the same way.
        uint256 age = Math.min(block.timestamp - held.since, settings.ageCapSeconds);
        uint256 weight = ((held.amount / 1e3) * age) / 1 days;
        candidates.push(Candidate(msg.sender, weight.toUint88(), false));
        uint256 until = _turnsEnd(sessionId) - _clearingHouse.pausedSeconds();
        if (until > held.boundUntil) held.boundUntil = uint40(until);
        emit SecretCommitted(sessionId, msg.sender, commitment, weight);
    }

    /// @inheritdoc ISettlementProposer
    function reveal(uint64 sessionId, address staker, bytes32 secret) external {
        IEnergyMarket.Session memory session = _market.session(sessionId);
        uint256 until = uint256(session.firstIsp) * ISP_SECONDS;
        if (block.timestamp <= session.gateClosure || block.timestamp >= until) {
            revert RevealNotOpen(sessionId, session.gateClosure, until, block.timestamp);
        }
        if (_commitments[sessionId][staker] != keccak256(abi.encode(sessionId, staker, secret))) {
            revert SecretMismatch(sessionId, staker);
        }
        _commitments[sessionId][staker] = ANSWERED;
        Draw storage draw = _draws[sessionId];
        draw.seed ^= keccak256(abi.encode(staker, secret));
        uint256 position = 0;
        while (draw.candidates[position].staker != staker) ++position;
        draw.candidates[position].revealed = true;
        emit SecretRevealed(sessionId, staker, secret);
    }

    /// @inheritdoc ISettlementProposer
    function punishSilence(uint64 sessionId, address staker) external {
        IEnergyMarket.Session memory session = _market.session(sessionId);
        uint256 until = uint256(session.firstIsp) * ISP_SECONDS;
        if (block.timestamp < until) {
            revert RevealNotOpen(sessionId, session.gateClosure, until, block.timestamp);
        }
        bytes32 committed = _commitments[sessionId][staker];
        if (committed == 0 || committed == ANSWERED) revert NothingToPunish(sessionId, staker);
        _commitments[sessionId][staker] = ANSWERED;
        uint256 penalty = Math.min(settings.revealPenalty, _stakes[staker].amount);
        _stakes[staker].amount -= uint128(penalty);
        _clearingHouse.release(stakeLockId(staker), session.operator, penalty);
        emit SilencePunished(sessionId, staker, penalty);
    }

    // ------------------------------------------------------------------ proposals

    /// @inheritdoc ISettlementProposer
    function propose(uint64 sessionId, bytes32 root, uint32 leafCount, bytes32 dataHash) external whenNotPaused {
        if (root == 0 || leafCount == 0) revert EmptyProposal();
        Proposal storage proposal = _proposals[sessionId];
        if (proposal.proposer != address(0)) revert AlreadyProposed(sessionId, proposal.proposer);
        uint256 turn = _turn(sessionId);
        address expected = _drawn(_draws[sessionId], turn);
        if (expected != address(0) && expected != msg.sender) revert NotYourTurn(sessionId, msg.sender, expected);
        uint256 lastAnswer = block.timestamp + settings.challengeSeconds + settings.answerSeconds;
        uint256 until = _settlement.readingsUntil(sessionId);
        if (lastAnswer > until) revert ProposalTooLate(sessionId, until, lastAnswer);
        StakeState storage held = _stakes[msg.sender];
        uint256 needed = settings.minimumStake * (uint256(held.openProposals) + 1);
        if (held.amount < needed) revert StakeTooLow(msg.sender, held.amount, needed);
        ++held.openProposals;
        _draws[sessionId].proposedTurn = uint16(turn);
        _draws[sessionId].proposedAt = uint40(block.timestamp);
        proposal.proposer = msg.sender;
        proposal.challengeUntil = uint40(clock() + settings.challengeSeconds);
        proposal.root = root;
        uint16 number = ++proposal.number;
        emit BatchProposed(sessionId, msg.sender, number, root, leafCount, dataHash);
    }

    /// @inheritdoc ISettlementProposer
    function challenge(
        uint64 sessionId,
        ProposedOutcome calldata proposed,
        bytes32[] calldata proof
    ) external returns (uint64 challengeId) {
        Proposal storage proposal = _standing(sessionId);
        uint256 until = _blockTimeOf(proposal.challengeUntil);
        if (block.timestamp >= until) revert ChallengeWindowOver(sessionId, until, block.timestamp);
        bytes32 leaf = _requireLeaf(sessionId, proposal.root, proposed, proof);
        challengeId = ++_challengeCount;
        _challenges[challengeId] = Challenge(
            sessionId,
            proposal.number,
            uint40(block.timestamp + settings.answerSeconds),
            msg.sender,
            leaf
        );
        ++proposal.openChallenges;
        _clearingHouse.lock(challengeLockId(challengeId), msg.sender, settings.challengeBond);
        emit OutcomeChallenged(sessionId, challengeId, msg.sender, proposed.connectionId);
    }

    /// @inheritdoc ISettlementProposer
    function answer(
        uint64 challengeId,
        ProposedOutcome calldata proposed,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) external {
        Challenge memory open = _openChallenge(challengeId);
        if (leafOf(open.sessionId, proposed) != open.leaf) revert AnswerMismatch(challengeId);
        Proposal storage proposal = _proposals[open.sessionId];
        if (!_isProposal(proposal, open.proposalNumber)) {
            _void(challengeId, open);
            return;
        }
        if (!_bundleStands(open.sessionId, proposed)) {
            _proveFraud(challengeId, open, proposal);
        } else if (_isOutdated(open.sessionId, proposed.connectionId, meterDays)) {
            _voidProposal(challengeId, open, proposal);
        } else if (_isTrue(open.sessionId, proposed, positions, meterDays)) {
            delete _challenges[challengeId];
            --proposal.openChallenges;
            uint256 bond = settings.challengeBond;
            _clearingHouse.release(challengeLockId(challengeId), proposal.proposer, bond);
            emit ChallengeRejected(open.sessionId, challengeId, bond);
        } else {
            _proveFraud(challengeId, open, proposal);
        }
    }

    /// @inheritdoc ISettlementProposer
    function expireChallenge(uint64 challengeId) external {
        Challenge memory open = _openChallenge(challengeId);
        Proposal storage proposal = _proposals[open.sessionId];
        if (!_isProposal(proposal, open.proposalNumber)) {
            _void(challengeId, open);
            return;
        }
        if (block.timestamp < open.answerBy) revert AnswerStillDue(challengeId, open.answerBy, block.timestamp);
        // After a long pause a challenge can come so late that readings no longer count when its answer is due.
        if (open.answerBy > _settlement.readingsUntil(open.sessionId)) _voidProposal(challengeId, open, proposal);
        else _proveFraud(challengeId, open, proposal);
    }

    /// @inheritdoc ISettlementProposer
    function conclude(uint64 sessionId) external {
        Proposal storage proposal = _standing(sessionId);
        if (proposal.concluded) revert AlreadyConcluded(sessionId);
        _conclude(sessionId, proposal);
    }

    /// @inheritdoc ISettlementProposer
    function claim(uint64 sessionId, ProposedOutcome calldata proposed, bytes32[] calldata proof) external {
        Proposal storage proposal = _standing(sessionId);
        if (!proposal.concluded) _conclude(sessionId, proposal);
        _requireLeaf(sessionId, proposal.root, proposed, proof);
        // Marks the bundle as settled: it cannot be settled by meter as well.
        _market.settle(sessionId, proposed.connectionId, proposed.bundle);
        IMarketSettlement.Outcome calldata outcome = proposed.outcome;
        if (outcome.injectedGreenWh + outcome.injectedBrownWh != 0) {
            _certificates.recordInjection(sessionId, proposed.connectionId, proposed.injectedWh);
        }
        paidOf[sessionId][proposed.connectionId] = outcome.payout;
        address trader = _grid.connection(proposed.connectionId).owner;
        uint256 fee = Math.min(settings.claimFee, outcome.payout);
        bytes32 pot = _market.potLockId(sessionId);
        _clearingHouse.release(pot, trader, outcome.payout - fee);
        if (fee != 0) _clearingHouse.release(pot, proposal.proposer, fee);
        emit OutcomeClaimed(sessionId, proposed.connectionId, trader, outcome, fee);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc ISettlementProposer
    function stakeOf(address staker) external view returns (StakeState memory) {
        return _stakes[staker];
    }

    /// @inheritdoc ISettlementProposer
    function proposalOf(uint64 sessionId) external view returns (Proposal memory) {
        return _proposals[sessionId];
    }

    /// @inheritdoc ISettlementProposer
    function clock() public view returns (uint256) {
        return block.timestamp - _clearingHouse.pausedSeconds();
    }

    /// @inheritdoc ISettlementProposer
    function proposerOf(uint64 sessionId) public view returns (address) {
        return _drawn(_draws[sessionId], _turn(sessionId));
    }

    /// @inheritdoc ISettlementProposer
    function leafOf(uint64 sessionId, ProposedOutcome calldata proposed) public pure returns (bytes32) {
        bytes32 inner = keccak256(
            abi.encode(
                OUTCOME_LEAF,
                sessionId,
                proposed.connectionId,
                keccak256(proposed.bundle),
                proposed.outcome,
                keccak256(abi.encodePacked(proposed.injectedWh))
            )
        );
        return keccak256(bytes.concat(inner));
    }

    /// @inheritdoc ISettlementProposer
    function stakeLockId(address staker) public pure returns (bytes32) {
        return keccak256(abi.encode("SettlementProposer.stake", staker));
    }

    /// @inheritdoc ISettlementProposer
    function challengeLockId(uint64 challengeId) public pure returns (bytes32) {
        return keccak256(abi.encode("SettlementProposer.challenge", challengeId));
    }

    // ------------------------------------------------------------------ inside

    /// Block time of a moment of the clock, as things stand: while the clearing house is paused it moves on.
    function _blockTimeOf(uint256 clockTime) private view returns (uint256) {
        return clockTime + _clearingHouse.pausedSeconds();
    }

    /// From now on no challenge is possible: the stake no longer answers for the proposal.
    function _conclude(uint64 sessionId, Proposal storage proposal) private {
        uint256 until = _blockTimeOf(proposal.challengeUntil);
        if (block.timestamp < until) revert ChallengeWindowOpen(sessionId, until, block.timestamp);
        if (proposal.openChallenges != 0) revert ChallengesOpen(sessionId, proposal.openChallenges);
        proposal.concluded = true;
        --_stakes[proposal.proposer].openProposals;
        emit ProposalConcluded(sessionId, proposal.number);
    }

    function _readingsDue(uint64 sessionId) private view returns (uint256) {
        IEnergyMarket.Terms memory terms = _market.termsOf(sessionId);
        uint256 endIsp = _market.session(sessionId).firstIsp + uint256(terms.ispsPerPeriod) * terms.periodCount;
        return endIsp * ISP_SECONDS + terms.readingsDueSeconds;
    }

    /// Turn that runs, MAX_TURNS when it is anybody's.
    function _turn(uint64 sessionId) private view returns (uint256) {
        Draw storage draw = _draws[sessionId];
        uint256 from = draw.turnsFrom == 0 ? _readingsDue(sessionId) : draw.turnsFrom;
        if (block.timestamp < from) revert ReadingsStillDue(sessionId, from, block.timestamp);
        return Math.min(MAX_TURNS, draw.firstTurn + (block.timestamp - from) / settings.turnSeconds);
    }

    /// When a stake that takes part in the draw of a session is free, unless it proposes or the clock stands still.
    function _turnsEnd(uint64 sessionId) private view returns (uint256) {
        uint256 turns =
            MAX_TURNS * (uint256(settings.turnSeconds) + settings.challengeSeconds + settings.answerSeconds);
        return _readingsDue(sessionId) + turns;
    }

    /// Candidate of a turn: each turn draws from those that had none, in proportion to their weights.
    function _drawn(Draw storage draw, uint256 turn) private view returns (address) {
        if (turn == MAX_TURNS) return address(0);
        uint256 count = draw.candidates.length;
        Candidate[] memory left = new Candidate[](count);
        uint256 total;
        for (uint256 i = 0; i < count; ++i) {
            left[i] = draw.candidates[i];
            if (!left[i].revealed) left[i].weight = 0;
            total += left[i].weight;
        }
        for (uint256 k = 0; total != 0; ++k) {
            uint256 point = uint256(keccak256(abi.encode(draw.seed, k))) % total;
            uint256 i = 0;
            for (; point >= left[i].weight; ++i) point -= left[i].weight;
            if (k == turn) return left[i].staker;
            total -= left[i].weight;
            left[i].weight = 0;
        }
        return address(0);
    }

    function _standing(uint64 sessionId) private view returns (Proposal storage proposal) {
        proposal = _proposals[sessionId];
        if (proposal.proposer == address(0)) revert NotProposed(sessionId);
    }

    function _isProposal(Proposal storage proposal, uint16 number) private view returns (bool) {
        return proposal.proposer != address(0) && proposal.number == number;
    }

    function _openChallenge(uint64 challengeId) private view returns (Challenge memory open) {
        open = _challenges[challengeId];
        if (open.challenger == address(0)) revert ChallengeUnknown(challengeId);
    }

    function _requireLeaf(
        uint64 sessionId,
        bytes32 root,
        ProposedOutcome calldata proposed,
        bytes32[] calldata proof
    ) private pure returns (bytes32 leaf) {
        leaf = leafOf(sessionId, proposed);
        if (!MerkleProof.verifyCalldata(proof, root, leaf)) revert OutcomeNotProposed(sessionId, leaf);
    }

    function _bundleStands(uint64 sessionId, ProposedOutcome calldata proposed) private view returns (bool) {
        IEnergyMarket.BundleState memory state = _market.bundleOf(sessionId, proposed.connectionId);
        return state.placed && state.hash == bytes25(keccak256(proposed.bundle));
    }

    /// Whether readings that an outcome may rest on were anchored again since it was proposed.
    function _isOutdated(
        uint64 sessionId,
        bytes32 connectionId,
        IMarketSettlement.Evidence[] calldata meterDays
    ) private view returns (bool) {
        return _settlement.anchoredAgain(sessionId, connectionId, meterDays, _draws[sessionId].proposedAt);
    }

    /// Whether the meters lead to the proposed outcome.
    function _isTrue(
        uint64 sessionId,
        ProposedOutcome calldata proposed,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) private view returns (bool) {
        (IMarketSettlement.Outcome memory outcome, uint256[] memory injectedWh) = _settlement.outcomeOf(
            sessionId,
            proposed.connectionId,
            positions,
            meterDays
        );
        return
            keccak256(abi.encode(outcome)) == keccak256(abi.encode(proposed.outcome)) &&
            keccak256(abi.encode(injectedWh)) == keccak256(abi.encode(proposed.injectedWh));
    }

    function _void(uint64 challengeId, Challenge memory open) private {
        delete _challenges[challengeId];
        _clearingHouse.release(challengeLockId(challengeId), open.challenger, settings.challengeBond);
        emit ChallengeVoided(open.sessionId, challengeId);
    }

    /// Nobody is at fault: the turn of the proposer begins again, the bond goes back.
    function _voidProposal(uint64 challengeId, Challenge memory open, Proposal storage proposal) private {
        emit ProposalVoided(open.sessionId, open.proposalNumber, proposal.proposer);
        _fall(open.sessionId, proposal, 0);
        _void(challengeId, open);
    }

    /// The stake, or its part for this proposal, goes to the challenger; the next turn begins now.
    function _proveFraud(uint64 challengeId, Challenge memory open, Proposal storage proposal) private {
        address proposer = proposal.proposer;
        StakeState storage held = _stakes[proposer];
        uint256 amount = held.amount / held.openProposals;
        held.amount -= uint128(amount);
        delete _challenges[challengeId];
        _fall(open.sessionId, proposal, 1);
        _clearingHouse.release(stakeLockId(proposer), open.challenger, amount);
        _clearingHouse.release(challengeLockId(challengeId), open.challenger, settings.challengeBond);
        emit FraudProven(open.sessionId, challengeId, proposer, open.challenger, amount);
    }

    /// @param turns How many turns later the next one is.
    function _fall(uint64 sessionId, Proposal storage proposal, uint16 turns) private {
        --_stakes[proposal.proposer].openProposals;
        proposal.proposer = address(0);
        proposal.openChallenges = 0;
        Draw storage draw = _draws[sessionId];
        draw.firstTurn = draw.proposedTurn + turns;
        draw.turnsFrom = uint40(block.timestamp);
    }
}
