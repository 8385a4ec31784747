// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";

/// @title Settlement of a whole session in one batch, by a proposer drawn by stake
/// @notice For sessions with many traders: one proposer publishes the root of all outcomes, everybody can check it and
/// challenge any outcome, which the contract then recomputes; traders claim with a proof. It is a shortcut: who is left
/// out of a batch, or does not want to wait for one, settles by its meter through `IMarketSettlement` as always.
/// Source: eDREAM D2.2 HL-UC02_LL-UC04 (one prosumer selected by the stake committed per market session). Decision 0033.
///
/// @dev **Draw.** weight = stake * min(age, ageCap), fixed when the staker commits to a secret, until gate closure. The
/// secrets are revealed between gate closure and the start of delivery; the seed is the exclusive or of
/// keccak256(staker, secret) over all that were revealed, and candidates stand in the order of their commitments, so that
/// the order of reveals does not matter. Whoever commits chooses
/// before it knows any other secret; orders, block producers and PREVRANDAO have no part in it. The last to reveal can only
/// withhold: then it cannot be drawn and pays `revealPenalty`. Turn k goes to the candidate at
/// keccak256(seed, k) mod (weights that had no turn yet).
///
/// **Turns.** The first begins when readings are due, each lasts `turnSeconds`, silence passes it on; after MAX_TURNS, or
/// when nobody is left, anyone with `minimumStake` may propose.
///
/// **Challenge.** Within `challengeSeconds` of a proposal anyone may challenge a leaf with a bond. Until `answerSeconds`
/// later anyone may answer with the meter evidence and what the connection traded in overlapping sessions: the contract
/// recomputes the netted outcome (`IMarketSettlement`, whose window has to be over by then); if it is the proposed one the bond
/// goes to the proposer, otherwise, or without an answer, the stake of the proposer goes to the challenger, the
/// proposal is void and the next turn begins.
///
/// **Stake.** Each proposal that can still be challenged needs `minimumStake` of its own, and none is taken back meanwhile; of
/// n of them each answers for the n-th part of the stake. {conclude}, or the first {claim}, ends that. Decision 0039.
///
/// **Readings that change.** When the meter operator anchors a day of the window again after the proposal, its outcomes may be
/// others now, or not provable for a while. An answer that shows that ends a challenge without a loser: the proposal is void,
/// the bond goes back, the turn of the proposer begins again. A bundle that does not stand is a fraud all the same. What was
/// claimed before is corrected by `IMarketCorrections`. A proposal that could be challenged so late that its readings no longer
/// count when the answer is due is refused; where a pause brings that about, it is void without a loser.
///
/// **Clock.** While the clearing house is paused nobody can lock the bond of a challenge. So the window of a proposal, and how
/// long a candidate's stake is bound, are measured by {clock}, which stands still then: a proposal can be challenged for
/// `challengeSeconds` without a pause, however long one lasts, and is claimed not before. Errors name block times as things
/// stand. Turns, answers and all times of the session go by block time. Decision 0037.
///
/// Leaf (OpenZeppelin standard tree, double hash) over
/// abi.encode(OUTCOME_LEAF, sessionId, connectionId, keccak256(bundle), outcome, keccak256(abi.encodePacked(injectedWh))).
/// @custom:stop Paused: no stake, commitment or proposal. Challenges, answers, claims, unstaking work. Clearing house
/// paused: no challenge either; windows that are open and stakes that are bound wait until it goes on.
/// @custom:trust Nobody: one honest participant that looks is enough.
interface ISettlementProposer {
    struct StakeState {
        uint128 amount;
        /// Average time since which it is staked.
        uint40 since;
        /// It stays until {clock} shows this: a draw that it takes part in may need it.
        uint40 boundUntil;
        /// Proposals that can still fall; it stays until there are none.
        uint16 openProposals;
    }

    struct Proposal {
        address proposer;
        /// It can be challenged while {clock} shows less, and be claimed from then on.
        uint40 challengeUntil;
        uint16 openChallenges;
        /// Counts the proposals of a session, from 1.
        uint16 number;
        /// No challenge is possible any more.
        bool concluded;
        bytes32 root;
    }

    /// @notice One leaf of a proposal.
    struct ProposedOutcome {
        bytes32 connectionId;
        bytes bundle;
        IMarketSettlement.Outcome outcome;
        uint256[] injectedWh;
    }

    event Staked(address indexed staker, uint256 amount, uint256 total);
    event Unstaked(address indexed staker, uint256 amount, uint256 left);
    event SecretCommitted(uint64 indexed sessionId, address indexed staker, bytes32 commitment, uint256 weight);
    event SecretRevealed(uint64 indexed sessionId, address indexed staker, bytes32 secret);
    event SilencePunished(uint64 indexed sessionId, address indexed staker, uint256 penalty);
    event BatchProposed(
        uint64 indexed sessionId,
        address indexed proposer,
        uint16 number,
        bytes32 root,
        uint32 leafCount,
        bytes32 dataHash
    );
    event OutcomeChallenged(
        uint64 indexed sessionId,
        uint64 indexed challengeId,
        address indexed challenger,
        bytes32 connectionId
    );
    event ChallengeRejected(uint64 indexed sessionId, uint64 indexed challengeId, uint256 bond);
    event FraudProven(
        uint64 indexed sessionId,
        uint64 indexed challengeId,
        address indexed proposer,
        address challenger,
        uint256 stake
    );
    event ChallengeVoided(uint64 indexed sessionId, uint64 indexed challengeId);
    /// @notice The proposal fell, and nobody is at fault.
    event ProposalVoided(uint64 indexed sessionId, uint16 number, address indexed proposer);
    /// @notice The proposal stands: no challenge is possible any more.
    event ProposalConcluded(uint64 indexed sessionId, uint16 number);
    event OutcomeClaimed(
        uint64 indexed sessionId,
        bytes32 indexed connectionId,
        address indexed trader,
        IMarketSettlement.Outcome outcome,
        uint256 fee
    );

    error StakeTooLow(address staker, uint256 stake, uint256 minimum);
    error StakeBound(address staker, uint256 until, uint256 nowTs);
    error CommitClosed(uint64 sessionId, uint256 gateClosure, uint256 nowTs);
    error CommitmentInvalid(bytes32 commitment);
    error AlreadyCommitted(uint64 sessionId, address staker);
    error TooManyCandidates(uint64 sessionId, uint256 limit);
    error RevealNotOpen(uint64 sessionId, uint256 from, uint256 until, uint256 nowTs);
    error SecretMismatch(uint64 sessionId, address staker);
    error NothingToPunish(uint64 sessionId, address staker);
    error NotYourTurn(uint64 sessionId, address caller, address expected);
    error ReadingsStillDue(uint64 sessionId, uint256 until, uint256 nowTs);
    /// @notice Its last answer could be due when readings no longer count.
    error ProposalTooLate(uint64 sessionId, uint256 until, uint256 lastAnswerTs);
    error ProposalsOpen(address staker, uint16 openProposals);
    error AlreadyConcluded(uint64 sessionId);
    error AlreadyProposed(uint64 sessionId, address proposer);
    error EmptyProposal();
    error NotProposed(uint64 sessionId);
    error ChallengeWindowOver(uint64 sessionId, uint256 until, uint256 nowTs);
    error ChallengeWindowOpen(uint64 sessionId, uint256 until, uint256 nowTs);
    error ChallengesOpen(uint64 sessionId, uint16 openChallenges);
    error OutcomeNotProposed(uint64 sessionId, bytes32 leaf);
    error ChallengeUnknown(uint64 challengeId);
    error AnswerStillDue(uint64 challengeId, uint256 until, uint256 nowTs);
    error AnswerMismatch(uint64 challengeId);

    /// @notice Adds to the caller's stake. Errors: {StakeTooLow} (below the minimum), `InsufficientBalance`.
    /// Emits: {Staked}.
    function stake(uint256 amount) external;

    /// @notice Takes stake back that no session needs. Errors: {StakeBound}, {ProposalsOpen}, {StakeTooLow} (more than there is, or a rest
    /// below the minimum). Emits: {Unstaked}.
    function unstake(uint256 amount) external;

    /// @notice Takes part in the draw of a session. Errors: {StakeTooLow}, {CommitClosed}, {CommitmentInvalid},
    /// {AlreadyCommitted}, {TooManyCandidates}. Emits: {SecretCommitted}.
    /// @param commitment keccak256(abi.encode(sessionId, caller, secret)).
    function commit(uint64 sessionId, bytes32 commitment) external;

    /// @notice Reveals a secret. Anyone may bring it for its staker. Errors: {RevealNotOpen}, {SecretMismatch}.
    /// Emits: {SecretRevealed}.
    function reveal(uint64 sessionId, address staker, bytes32 secret) external;

    /// @notice Takes the penalty of a staker that did not reveal, for the operator of the session. Anyone, from the start
    /// of delivery on. Errors: {RevealNotOpen}, {NothingToPunish}. Emits: {SilencePunished}.
    function punishSilence(uint64 sessionId, address staker) external;

    /// @notice Publishes the outcomes of a session. Only whose turn it is. Errors: {ReadingsStillDue}, {NotYourTurn},
    /// {StakeTooLow} (less than the minimum for this and each other proposal that can fall), {AlreadyProposed},
    /// {EmptyProposal}, {ProposalTooLate}. Emits: {BatchProposed}.
    function propose(uint64 sessionId, bytes32 root, uint32 leafCount, bytes32 dataHash) external;

    /// @notice Questions one outcome of a proposal, with a bond. Errors: {NotProposed}, {ChallengeWindowOver},
    /// {OutcomeNotProposed}, `InsufficientBalance`. Emits: {OutcomeChallenged}.
    function challenge(
        uint64 sessionId,
        ProposedOutcome calldata proposed,
        bytes32[] calldata proof
    ) external returns (uint64 challengeId);

    /// @notice Has the contract recompute a challenged outcome. Anyone. Errors: {ChallengeUnknown}, {AnswerMismatch}
    /// (another outcome than the challenged one), those of `IMarketSettlement.outcomeOf`.
    /// Emits: {ChallengeRejected}, {FraudProven}, or {ProposalVoided} and {ChallengeVoided} when a day of `meterDays` was
    /// anchored again after the proposal.
    /// @param positions As for `IMarketSettlement.settle`.
    function answer(
        uint64 challengeId,
        ProposedOutcome calldata proposed,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) external;

    /// @notice Ends a challenge that nobody answered, as proven, or one of a proposal that is void already, with the bond
    /// back. Anyone. Errors: {ChallengeUnknown}, {AnswerStillDue}. Emits: {FraudProven} or {ChallengeVoided}, the latter after
    /// {ProposalVoided} when readings no longer counted at the end of the time to answer.
    function expireChallenge(uint64 challengeId) external;

    /// @notice Ends the time in which a proposal can fall, so that the stake no longer answers for it. Anyone, after the
    /// challenge window and all challenges. Errors: {NotProposed}, {AlreadyConcluded}, {ChallengeWindowOpen},
    /// {ChallengesOpen}. Emits: {ProposalConcluded}.
    function conclude(uint64 sessionId) external;

    /// @notice Settles a trader by a proposal that stood. Anyone, after the challenge window.
    /// @dev Errors: {NotProposed}, {ChallengeWindowOpen}, {ChallengesOpen}, {OutcomeNotProposed}, those of
    /// `IEnergyMarket.settle`. Emits: {OutcomeClaimed}; the first one {ProposalConcluded} before it.
    function claim(uint64 sessionId, ProposedOutcome calldata proposed, bytes32[] calldata proof) external;

    function stakeOf(address staker) external view returns (StakeState memory);

    function proposalOf(uint64 sessionId) external view returns (Proposal memory);

    /// @notice Whose turn it is; zero: anyone with the minimum stake. Errors: {ReadingsStillDue}.
    function proposerOf(uint64 sessionId) external view returns (address);

    /// @notice Block time less `IClearingHouse.pausedSeconds`.
    function clock() external view returns (uint256);

    /// @notice What {claim} paid for a bundle, fee included, uToken; zero when it was not settled by a batch. Corrections
    /// are not in it: see `IMarketCorrections.paidOf`.
    function paidOf(uint64 sessionId, bytes32 connectionId) external view returns (uint256);

    function leafOf(uint64 sessionId, ProposedOutcome calldata proposed) external pure returns (bytes32);

    function stakeLockId(address staker) external view returns (bytes32);

    function challengeLockId(uint64 challengeId) external view returns (bytes32);
}
