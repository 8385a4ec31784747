// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Agreements between prosumers and aggregators
/// @notice Terms signed by both sides by EIP-712 and registered by anyone: baseline method, availability, power limits,
/// reward and penalty, tolerance, multiplier, notice, validity. One connection has at most one aggregator at a time.
/// Source: eDREAM D2.2 and D2.5 HL-UC01_LL-UC01 and LL-UC02; FR MF03_BR03_UR02_FR06.
/// @dev Signed type, domain ("gridpact.agreements", "1"):
/// `Agreement(Terms terms,uint256 nonce,uint64 deadline)` with {Terms} in field order and `nonce = nonceOf(connectionId)`;
/// amending uses the same type. Notices: `Notice(uint64 agreementId,uint8 action,uint256 nonce,uint64 deadline)` with
/// `nonce = noticeNonceOf(signer)`. Availability: `Availability(uint64 agreementId,uint32 dayFirstIsp,uint128 isps,
/// uint256 nonce,uint64 deadline)`, same nonces. ERC-1271 wallets work for all.
///
/// End of an agreement = the earlier of `validUntil` and the effect of a notice of termination; it needs no transaction.
/// From then on the status is Terminated and the connection is free for another agreement.
///
/// none --register--> Active <--suspend / resume--> Suspended; both --end--> Terminated
/// A notice of termination leaves the status as it is until it takes effect, so it does not lift a suspension. Suspending
/// and terminating need no role: whoever loses its standing can still leave.
/// @custom:stop Paused: no new and no amended agreement. Suspension, termination, availability and return of bonds work.
/// @custom:trust Settlement modules of the clearing house take penalties from a bond by the rules of {IFlexSettlement}.
interface IAgreementRegistry {
    /// @notice What both sides agree on.
    struct Terms {
        bytes32 connectionId;
        address prosumer;
        address aggregator;
        /// `keccak256("name@version")` of the baseline method.
        bytes32 baselineMethod;
        /// Bit p set: available at position p of a market day (0 = local midnight), Monday to Friday.
        uint128 workingDayIsps;
        /// The same for Saturday and Sunday.
        uint128 weekendIsps;
        /// Largest ordered power UP (less net consumption) and DOWN (more), W.
        uint32 maxUpW;
        uint32 maxDownW;
        /// Micro-token per kWh delivered.
        uint32 rewardRate;
        /// Micro-token per kWh of shortfall beyond the tolerance.
        uint32 penaltyRate;
        /// Share of the ordered energy of an ISP that may be missing or in excess, basis points.
        uint16 toleranceBps;
        /// Multiplies reward and penalty, basis points (10,000 = once). eDREAM D2.5 closed loop DR verification.
        uint32 multiplierBps;
        /// Time between an order and its first ordered ISP, s.
        uint32 noticeSeconds;
        /// Time between a notice of termination and its effect, s.
        uint32 terminationNoticeSeconds;
        uint40 validFrom;
        uint40 validUntil;
        /// Largest number of orders per week (Monday to Sunday).
        uint8 weeklyActivations;
        /// Takes part in standby reassignment.
        bool standby;
        /// A missing reading counts as a shortfall instead of as nothing.
        bool missingIsShortfall;
        /// Locked from the prosumer while the agreement lives; most that penalties can take beyond the reward, uToken.
        uint64 bond;
    }

    enum Status {
        None,
        Active,
        Suspended,
        Terminated
    }

    enum Action {
        Suspend,
        Resume,
        Terminate
    }

    struct Standing {
        Status status;
        /// Who suspended; only the same side resumes.
        address suspendedBy;
        /// When a notice of termination takes effect, s; zero when none was given.
        uint40 endsAt;
        /// Counts amendments, from 1.
        uint16 version;
    }

    /// @notice Registered (version 1) or amended.
    event AgreementRegistered(
        uint64 indexed agreementId,
        address indexed prosumer,
        address indexed aggregator,
        uint16 version,
        Terms terms
    );
    /// @notice A notice was given; `Terminated` takes effect at `endsAt`.
    event AgreementStatusChanged(uint64 indexed agreementId, Status indexed status, address indexed by, uint40 endsAt);
    event AvailabilityDeclared(uint64 indexed agreementId, uint32 indexed dayFirstIsp, uint128 isps);
    event BondReturned(uint64 indexed agreementId, address indexed prosumer, uint256 amount);

    error SignatureExpired(uint64 deadline, uint256 nowTs);
    error InvalidSignature(address signer);
    error ConnectionTaken(bytes32 connectionId, uint64 agreementId);
    error NotOwner(bytes32 connectionId, address prosumer);
    error InvalidTerms(string field);
    error AgreementUnknown(uint64 agreementId);
    error NotParty(uint64 agreementId, address caller);
    error NotInForce(uint64 agreementId, Status status, uint40 validFrom, uint40 endsAt, uint256 nowTs);
    error StatusNotAllowed(uint64 agreementId, Status status, Action action);
    error PartyChanged(uint64 agreementId);
    error SuspendedByOther(uint64 agreementId, address suspendedBy);
    error BondStillBound(uint64 agreementId, uint256 until);
    error NoBond(uint64 agreementId);

    /// @notice Registers an agreement that both sides signed. Locks the prosumer's bond. Anyone may call.
    /// @dev The connection must be active and owned by the prosumer, its latest agreement ended, both parties active.
    /// {InvalidTerms} names the first field that breaks a rule: validity not empty and not over, some power, a multiplier,
    /// tolerance at most 10,000, some weekly activation, some available ISP and none beyond position 99.
    /// Errors: {SignatureExpired}, {InvalidTerms}, `ConnectionUnknown`, {NotOwner}, `MissingRole`, {ConnectionTaken},
    /// {InvalidSignature}, `InsufficientBalance`. Emits: {AgreementRegistered}.
    /// @param deadline Last second in which the signatures count.
    function register(
        Terms calldata terms,
        uint64 deadline,
        bytes calldata prosumerSignature,
        bytes calldata aggregatorSignature
    ) external returns (uint64 agreementId);

    /// @notice Replaces the terms, signed again by both sides; same connection and parties. Orders already issued
    /// keep the terms they were issued under. The bond is topped up to the new amount; what a lower one makes superfluous
    /// stays for `bondHoldSeconds`, as long as an order that counted on it can be settled, and then leaves by {returnBond}.
    /// @dev Also while suspended, and during a notice, which it does not withdraw.
    /// Errors: as {register}, {AgreementUnknown}, {PartyChanged}, {NotInForce} once ended. Emits: {AgreementRegistered}.
    function amend(
        uint64 agreementId,
        Terms calldata terms,
        uint64 deadline,
        bytes calldata prosumerSignature,
        bytes calldata aggregatorSignature
    ) external;

    /// @notice Suspends, resumes or terminates; only a party. Termination takes effect after the agreed notice.
    /// @dev Errors: {AgreementUnknown}, {NotParty}, {StatusNotAllowed} (ended, notice already given, nothing to suspend or
    /// resume), {SuspendedByOther}. Emits: {AgreementStatusChanged}.
    function give(uint64 agreementId, Action action) external;

    /// @notice As {give}, signed by a party and relayed by anyone.
    function giveBySignature(
        uint64 agreementId,
        Action action,
        address party,
        uint64 deadline,
        bytes calldata signature
    ) external;

    /// @notice The prosumer narrows its availability for one market day; positions outside the agreed windows stay out.
    /// The latest declaration of a day counts. Orders already issued stand.
    /// @dev Errors: {AgreementUnknown}, {NotParty}. Emits: {AvailabilityDeclared}.
    function declareAvailability(uint64 agreementId, uint32 dayFirstIsp, uint128 isps) external;

    /// @notice As {declareAvailability}, signed by the prosumer and relayed by anyone.
    function declareAvailabilityBySignature(
        uint64 agreementId,
        uint32 dayFirstIsp,
        uint128 isps,
        uint64 deadline,
        bytes calldata signature
    ) external;

    /// @notice Returns to the prosumer what is no longer bound: of an ended agreement all, once its orders can no longer
    /// be settled; before, what an amendment made superfluous, once it was held as long. Anyone may call.
    /// @dev Errors: {AgreementUnknown}, {BondStillBound}, {NoBond}. Emits: {BondReturned}.
    function returnBond(uint64 agreementId) external;

    /// @notice Terms in force now.
    /// @dev Errors: {AgreementUnknown}, {NotInForce} (suspended, not yet or no longer valid), `MissingRole` (a party is not
    /// in good standing).
    function termsInForce(uint64 agreementId) external view returns (Terms memory);

    /// @notice Latest terms, in force or not; all zero when there is no such agreement.
    function termsOf(uint64 agreementId) external view returns (Terms memory);

    /// @notice Status now; all zero when there is no such agreement.
    function standingOf(uint64 agreementId) external view returns (Standing memory);

    /// @notice Positions of a market day in which the connection may be ordered (bit p = position p): agreed, declared,
    /// and wholly between `validFrom` and the end of the agreement.
    /// @dev The weekday is that of the middle of the market day, so that the local midnights of all zones between UTC-12 and
    /// UTC+12 fall on their own date.
    function availableIsps(uint64 agreementId, uint32 dayFirstIsp) external view returns (uint128);

    /// @notice Latest agreement of a connection; zero when there never was one.
    function agreementOf(bytes32 connectionId) external view returns (uint64);

    /// @notice Lock that holds an agreement's bond in the clearing house.
    function bondLockId(uint64 agreementId) external view returns (bytes32);

    /// @notice Next nonce of the agreements of a connection.
    function nonceOf(bytes32 connectionId) external view returns (uint256);

    /// @notice Next nonce of the notices and declarations of a party.
    function noticeNonceOf(address signer) external view returns (uint256);

    /// @notice How long a bond stays locked after the end, or after it was lowered, s. {IFlexDispatch} issues no order
    /// whose corrections could come later.
    function bondHoldSeconds() external view returns (uint32);

    /// @notice When what the latest lowering of a bond made superfluous can leave, unix seconds; zero when never lowered.
    function excessHeldUntil(uint64 agreementId) external view returns (uint256);
}
