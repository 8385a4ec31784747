// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Peer-to-peer energy market: sessions of uniform-price auctions, from order to final match
/// @notice Prosumers buy and sell energy for the delivery periods of a session. Orders are added to a tick book
/// (`contracts/market/TickBook.sol`), cleared provisionally at gate closure, may be rejected for a fee, and are cleared
/// for good afterwards. Nobody's help is needed: every step after an order is open to anyone.
/// Source: eDREAM D2.2 HL-UC02_LL-UC02 to LL-UC04, D2.5 5.2 and MF03_BR04. Decisions 0030 and 0031.
///
/// @dev **Products.** A session of n delivery periods has 2n books: product = type * n + period, type 0 brown and 1
/// green. Green sells need a connection whose producer class is green (`IProducerRegistry.isGreen`). Whoever takes either type
/// buys brown, or orders in both. Orders are 8 bytes, packed as `TickBook` says; their "period" is the product.
///
/// **Times** of a session whose delivery starts at s and ends at e, seconds; a deadline belongs to what ends with it:
///
///   opened .. g = s - gateLeadSeconds          bundles are placed, replaced, cancelled
///   after g .. a = g + acceptanceSeconds <= s  provisional clearing; provisional matches can be rejected
///   after a                                    final clearing of what changed, {finalise}, {claim}
///   after e                                    settlement by meters (`IMarketSettlement`)
///
/// **Bundles.** A connection has at most one bundle in a session; {submit} replaces it as a whole and brings what it
/// replaces. Kept is one word: 232 bits of the hash, a sequence number that counts every change and makes signatures
/// single-use, and flags. The orders themselves are in the event.
///
/// **Escrow** of a bundle, for sums B and S of its buys and sells in Wh, rounded up:
///   sum of worst-case costs at the limit prices (negative prices included, `TickBook.worstCaseCost`)
///   + up((B + S) * feeRate / 1000) + up(S * guaranteeRate / 1000)
/// It goes from the trader's free balance into the one pot of the session, lock {potLockId}. What a final bundle still
/// needs is the same formula over its fills at the clearing prices; {claim} returns the rest, settlement accounts for it.
/// At price p >= 0 a buyer pays up(bought * p / 1000); a seller is paid down(sold * p / 1000) by settlement only. At
/// p < 0 the roles are exchanged. At a rationed tick the Wh of who pays round up and of who is paid down, so that what
/// comes in is never less than what goes out.
///
/// **Solvency.** pot = sum of escrows held + budgets + fees and charges kept. Every payment to a trader is bounded by its
/// own escrow plus revenue; revenues are covered by the buyers' escrow (payer up, receiver down), surplus payments and
/// green rewards by budgets that the operator locked when the session opened, at rates that {finalise} lowers so that
/// they suffice for the whole matched volume. The rest is the operator's when no bundle is left open ({closeSession}).
/// @custom:stop Paused: no new session, schedule or bundle. Cancelling, rejecting, clearing, finalising, claiming work.
/// @custom:trust The market operator sets the terms before anybody trades and cannot change them. It is the balancing
/// party: it sells what sellers do not inject and buys what buyers do not take, at the prices of the terms.
interface IEnergyMarket {
    enum EnergyType {
        Brown,
        Green
    }

    /// @notice Terms of a session; fixed when it opens. Rates and prices in micro-token per kWh.
    struct Terms {
        // Price grid, see `TickBook.Grid`.
        int64 basePrice;
        uint32 priceStep;
        uint16 tickCount;
        /// Smallest quantity of an order, Wh.
        uint32 minQuantityWh;
        // Delivery.
        uint16 ispsPerPeriod;
        /// Delivery periods, 1 .. 128.
        uint16 periodCount;
        // Times, seconds.
        uint32 gateLeadSeconds;
        /// At most `gateLeadSeconds`; zero: no acceptance window.
        uint32 acceptanceSeconds;
        /// From the end of delivery until readings are due.
        uint32 readingsDueSeconds;
        /// From then until bundles can be settled without readings although there are some.
        uint32 settlementSeconds;
        // Rates.
        /// Of each kWh bought and of each kWh sold, to the operator.
        uint32 feeRate;
        /// Of each kWh of a rejected match, at most what the rejection frees.
        uint32 rejectionFeeRate;
        /// Delivery guarantee of each kWh offered.
        uint32 guaranteeRate;
        /// The seller pays this for each kWh sold and not injected.
        uint32 shortagePrice;
        /// On top of it, as a penalty.
        uint32 shortagePenaltyRate;
        /// A buyer is paid this, or less, for each kWh bought and not taken.
        uint32 surplusPrice;
        /// A seller is paid this, or less, for each kWh of green energy delivered.
        uint32 greenRewardRate;
        /// A seller pays this for each kWh of brown energy delivered.
        uint32 brownPenaltyRate;
        /// Locked by the operator for surplus payments and for green rewards, uToken.
        uint128 surplusBudget;
        uint128 rewardBudget;
        /// Connections below this point may trade; zero: all connections.
        bytes32 congestionPointId;
    }

    struct Session {
        address operator;
        uint32 firstIsp;
        uint40 gateClosure;
        uint40 acceptBy;
        /// Bundles placed and not settled.
        uint32 openBundles;
        bool finalised;
        bool closed;
        /// Rates that the budgets suffice for, set by {finalise}; at most those of the terms.
        uint32 surplusPrice;
        uint32 greenRewardRate;
    }

    /// @notice State of the bundle of a connection in a session.
    struct BundleState {
        bool placed;
        bool claimed;
        bool certified;
        bool settled;
        uint16 sequence;
        /// First 232 bits of the bundle's keccak256.
        bytes29 hash;
    }

    /// @notice A bundle that its trader signed and anyone may bring. EIP-712
    /// `Bundle(uint64 sessionId,bytes32 connectionId,uint16 sequence,bytes32 bundleHash,uint64 deadline)`, signed by the
    /// owner of the connection (ERC-1271 wallets too); `sequence` is the one that the bundle replaces, an empty bundle
    /// cancels. Domain ("gridpact.market", "1").
    struct SignedBundle {
        bytes32 connectionId;
        bytes previous;
        bytes bundle;
        uint64 deadline;
        bytes signature;
    }

    /// @notice Final fills of a bundle, by product.
    struct Fills {
        uint256[] boughtWh;
        uint256[] soldWh;
        /// Clearing prices, micro-token per kWh; zero without meaning where nothing is filled.
        int256[] prices;
    }

    event ScheduleRegistered(
        uint64 indexed scheduleId,
        address indexed operator,
        Terms terms,
        uint32 firstIsp,
        uint16 everyIsps,
        uint16 sessionCount,
        uint32 openLeadSeconds
    );
    event SessionOpened(
        uint64 indexed sessionId,
        address indexed operator,
        uint32 indexed firstIsp,
        uint64 scheduleId,
        Terms terms
    );
    /// @param bundle Empty: cancelled.
    /// @param escrow Held for the bundle from now on, uToken.
    event BundleSubmitted(
        uint64 indexed sessionId,
        bytes32 indexed connectionId,
        address indexed trader,
        uint16 sequence,
        bytes bundle,
        uint256 escrow
    );
    /// @param result Packed as `TickBook.Result`.
    event ProductCleared(uint64 indexed sessionId, uint16 indexed product, bool isFinal, uint256 result);
    /// @param positions Bit i: order i of the bundle was rejected.
    /// @param bundle What is left of it.
    event MatchRejected(
        uint64 indexed sessionId,
        bytes32 indexed connectionId,
        uint16 sequence,
        uint256 positions,
        bytes bundle,
        uint256 fee,
        uint256 escrow
    );
    event SessionFinalised(
        uint64 indexed sessionId,
        uint256 brownVolumeWh,
        uint256 greenVolumeWh,
        uint32 surplusPrice,
        uint32 greenRewardRate
    );
    /// @param escrow Still held, uToken.
    event BundleClaimed(uint64 indexed sessionId, bytes32 indexed connectionId, uint256 released, uint256 escrow);
    /// @param residual Everything that was left in the pot, to the operator, uToken.
    event SessionClosed(uint64 indexed sessionId, address indexed operator, uint256 residual);

    error SessionUnknown(uint64 sessionId);
    /// @notice Gate lead shorter than the acceptance window, no ISP, too many periods, or a delivery that ends after the
    /// range of ISP numbers.
    error TermsInvalid(uint32 gateLeadSeconds, uint32 acceptanceSeconds, uint16 ispsPerPeriod, uint16 periodCount);
    error GateClosed(uint64 sessionId, uint256 gateClosure, uint256 nowTs);
    error GateStillOpen(uint64 sessionId, uint256 gateClosure, uint256 nowTs);
    error AcceptanceOpen(uint64 sessionId, uint256 acceptBy, uint256 nowTs);
    error AcceptanceOver(uint64 sessionId, uint256 acceptBy, uint256 nowTs);
    error ScheduleUnknown(uint64 scheduleId);
    error ScheduleInvalid(uint16 everyIsps, uint16 sessionCount);
    error NotScheduled(uint64 scheduleId, uint16 index, uint16 sessionCount);
    error AlreadyOpened(uint64 scheduleId, uint16 index, uint64 sessionId);
    error TooEarly(uint256 opensAt, uint256 nowTs);
    error NotOwnerOf(bytes32 connectionId, address caller);
    error OutsideArea(bytes32 connectionId, bytes32 congestionPointId, bytes32 expected);
    /// @notice A green sell from a connection that does not produce green energy.
    error NotGreenProducer(bytes32 connectionId, uint256 position);
    /// @notice What was brought is not what stands.
    error BundleMismatch(uint64 sessionId, bytes32 connectionId, bytes29 stored);
    error NothingToChange(uint64 sessionId, bytes32 connectionId);
    error SignatureExpired(uint256 index, uint64 deadline, uint256 nowTs);
    error InvalidSignature(uint256 index, address signer);
    error SequenceExhausted(uint64 sessionId, bytes32 connectionId);
    error NoPositions();
    /// @notice Beyond the bundle, or without a provisional fill.
    error NotMatched(uint256 position);
    error AlreadyCleared(uint64 sessionId, uint16 product);
    error ProductNotCleared(uint64 sessionId, uint16 product);
    error AlreadyFinalised(uint64 sessionId);
    error NotFinalised(uint64 sessionId);
    error AlreadyClaimed(uint64 sessionId, bytes32 connectionId);
    error AlreadySettled(uint64 sessionId, bytes32 connectionId);
    error AlreadyCertified(uint64 sessionId, bytes32 connectionId);
    error BundlesOpen(uint64 sessionId, uint32 openBundles);
    error AlreadyClosed(uint64 sessionId);

    // ------------------------------------------------------------------ sessions

    /// @notice Opens a session. Only a market operator, which becomes its balancing party; locks its budgets.
    /// @dev Errors: `MissingRole`, {TermsInvalid}, `GridInvalid`, {GateClosed} (the gate would have passed),
    /// `CongestionPointUnknown`, `InsufficientBalance`. Emits: {SessionOpened}.
    /// @param firstIsp First ISP of delivery.
    function open(Terms calldata terms, uint32 firstIsp) external returns (uint64 sessionId);

    /// @notice Registers a series of equal sessions that anyone may open, each `openLeadSeconds` before its gate at the
    /// earliest. Only a market operator. Errors: as {open}, {ScheduleInvalid}. Emits: {ScheduleRegistered}.
    function registerSchedule(
        Terms calldata terms,
        uint32 firstIsp,
        uint16 everyIsps,
        uint16 sessionCount,
        uint32 openLeadSeconds
    ) external returns (uint64 scheduleId);

    /// @notice Opens session `index` of a schedule with the operator's budgets. Anyone may call.
    /// @dev Errors: {ScheduleUnknown}, {NotScheduled}, {AlreadyOpened}, {TooEarly}, and those of {open} (also when the
    /// operator is no longer active). Emits: {SessionOpened}.
    function openScheduled(uint64 scheduleId, uint16 index) external returns (uint64 sessionId);

    // ------------------------------------------------------------------ orders

    /// @notice Places, replaces or cancels (`bundle` empty) the bundle of a connection. Only its owner, an active prosumer
    /// unless it cancels. Until gate closure.
    /// @dev Escrow that the new bundle needs less is released, more is locked. Errors: {SessionUnknown}, {GateClosed},
    /// {NotOwnerOf}, `ConnectionUnknown`, {OutsideArea}, {BundleMismatch}, {NothingToChange}, {NotGreenProducer},
    /// those of `TickBook`, `InsufficientBalance`. Emits: {BundleSubmitted}.
    /// @param previous The bundle that stands, empty when there is none.
    function submit(uint64 sessionId, bytes32 connectionId, bytes calldata previous, bytes calldata bundle) external;

    /// @notice As {submit} for bundles that their owners signed. Anyone may call; all or none.
    /// @dev Errors: as {submit}, {SignatureExpired}, {InvalidSignature}.
    function submitSigned(uint64 sessionId, SignedBundle[] calldata bundles) external;

    /// @notice As {submit}, for a module that checked the owner's standing rules. Only a module.
    function submitFor(uint64 sessionId, bytes32 connectionId, bytes calldata previous, bytes calldata bundle) external;

    // ------------------------------------------------------------------ clearing

    /// @notice Clears products `first` .. `last`, reading at most `maxTicks` ticks of each. Anyone, after gate closure.
    /// @dev Until `acceptBy` provisional and once for each product; afterwards final, for products whose book changed
    /// since or that were never cleared. Products that need nothing are passed over. Errors: {SessionUnknown},
    /// {GateStillOpen}, {AlreadyFinalised}, `PeriodOutsideSession`. Emits: {ProductCleared} for each that is finished.
    /// @return finished Whether all of them are cleared now.
    function clear(uint64 sessionId, uint16 first, uint16 last, uint256 maxTicks) external returns (bool finished);

    /// @notice Takes provisionally matched orders off the book for a fee. Only the owner of the connection, after its
    /// products were cleared, until `acceptBy`. Silence accepts.
    /// @dev Errors: {GateStillOpen}, {AcceptanceOver}, {NotOwnerOf}, {BundleMismatch}, {NoPositions}, {NotMatched},
    /// `NotCleared`. Emits: {MatchRejected}.
    /// @param positions Bit i: order i of the bundle.
    function reject(uint64 sessionId, bytes32 connectionId, bytes calldata bundle, uint256 positions) external;

    /// @notice As {reject}, signed by the owner: EIP-712
    /// `Rejection(uint64 sessionId,bytes32 connectionId,uint16 sequence,uint256 positions)`.
    function rejectSigned(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        uint256 positions,
        bytes calldata signature
    ) external;

    /// @notice Ends the auction when all products are finally cleared: fixes the rates that the budgets suffice for.
    /// Anyone, after `acceptBy`. Errors: {AcceptanceOpen}, {AlreadyFinalised}, {ProductNotCleared}.
    /// Emits: {SessionFinalised}.
    function finalise(uint64 sessionId) external;

    // ------------------------------------------------------------------ after the auction

    /// @notice Returns to the trader the escrow that the final match does not need. Anyone, once.
    /// @dev Errors: {NotFinalised}, {BundleMismatch}, {AlreadyClaimed}, {AlreadySettled}. Emits: {BundleClaimed}.
    function claim(uint64 sessionId, bytes32 connectionId, bytes calldata bundle) external;

    /// @notice Marks a bundle as settled and says what was traded. Only a module (`IMarketSettlement`).
    /// @dev Errors: {NotFinalised}, {BundleMismatch}, {AlreadySettled}.
    /// @return fills Final fills.
    /// @return escrow Held for it in the pot, uToken.
    function settle(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) external returns (Fills memory fills, uint256 escrow);

    /// @notice Marks the purchases of a bundle as certified and says what they are. Only a module
    /// (`IEnergyCertificates`). Errors: {NotFinalised}, {BundleMismatch}, {AlreadyCertified}.
    function certify(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) external returns (Fills memory fills);

    /// @notice Pays what is left of the pot to the operator when every bundle is settled. Anyone.
    /// @dev Errors: {NotFinalised}, {BundlesOpen}, {AlreadyClosed}. Emits: {SessionClosed}.
    function closeSession(uint64 sessionId) external;

    // ------------------------------------------------------------------ views

    function session(uint64 sessionId) external view returns (Session memory);

    function termsOf(uint64 sessionId) external view returns (Terms memory);

    function bundleOf(uint64 sessionId, bytes32 connectionId) external view returns (BundleState memory);

    /// @notice Result of a product, packed as `TickBook.Result`; zero when it was never cleared.
    function resultOf(uint64 sessionId, uint16 product) external view returns (uint256);

    /// @notice Fills of any bundle by the results as they stand. Errors: `NotCleared`.
    function fillsOf(uint64 sessionId, bytes calldata bundle) external view returns (Fills memory);

    /// @notice Escrow of a bundle when it is placed, uToken.
    function escrowOf(uint64 sessionId, bytes calldata bundle) external view returns (uint256);

    /// @notice Lock that holds the money of a session in the clearing house.
    function potLockId(uint64 sessionId) external view returns (bytes32);
}
