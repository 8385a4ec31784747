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
/// replaces. Kept is one word: 200 bits of the hash, the session, a sequence number that counts every change and makes
/// signatures single-use, and flags. The orders themselves are in the event. A bundle has at most 256 orders. Sessions
/// of a schedule that are a whole settlement period apart share the word: see {NotSettledYet} and {certify}.
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
/// @custom:stop Paused: no new session or bundle. Cancelling, rejecting, clearing, finalising, claiming work.
/// @custom:trust The market operator sets the terms before anybody trades and cannot change them. It is the balancing
/// party: it sells what sellers do not inject and buys what buyers do not take, at the prices of the terms.
interface IEnergyMarket {
    enum EnergyType {
        Brown,
        Green
    }

    /// @notice Terms of a session (`IMarketSessions.termsOf`); fixed when it opens. Rates and prices in micro-token per kWh.
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
        /// Those of the terms until {finalise}, then what the budgets suffice for, at most those of the terms.
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
        /// First 200 bits of the bundle's keccak256.
        bytes25 hash;
    }

    /// @notice Final fills of a bundle, by product.
    struct Fills {
        uint256[] boughtWh;
        uint256[] soldWh;
        /// Clearing prices, micro-token per kWh; zero without meaning where nothing is filled.
        int256[] prices;
    }

    /// @notice A bundle to be claimed.
    struct Claim {
        bytes32 connectionId;
        bytes bundle;
    }

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
    error GateClosed(uint64 sessionId, uint256 gateClosure, uint256 nowTs);
    error GateStillOpen(uint64 sessionId, uint256 gateClosure, uint256 nowTs);
    error AcceptanceOpen(uint64 sessionId, uint256 acceptBy, uint256 nowTs);
    error AcceptanceOver(uint64 sessionId, uint256 acceptBy, uint256 nowTs);
    error NotOwnerOf(bytes32 connectionId, address caller);
    error OutsideArea(bytes32 connectionId, bytes32 congestionPointId, bytes32 expected);
    /// @notice A green sell from a connection that does not produce green energy.
    error NotGreenProducer(bytes32 connectionId, uint256 position);
    /// @notice What was brought is not what stands.
    error BundleMismatch(uint64 sessionId, bytes32 connectionId, bytes25 stored);
    error BundleTooLong(uint256 orders, uint256 limit);
    /// @notice The bundle of a session of the same schedule whose settlement deadline has passed has to be settled first.
    error NotSettledYet(uint64 sessionId, bytes32 connectionId);
    error NothingToChange(uint64 sessionId, bytes32 connectionId);
    error SequenceExhausted(uint64 sessionId, bytes32 connectionId);
    error NoPositions();
    /// @notice Beyond the bundle, or without a provisional fill.
    error NotMatched(uint256 position);
    error ProductNotCleared(uint64 sessionId, uint16 product);
    error AlreadyFinalised(uint64 sessionId);
    error NotFinalised(uint64 sessionId);
    error AlreadyClaimed(uint64 sessionId, bytes32 connectionId);
    error AlreadySettled(uint64 sessionId, bytes32 connectionId);
    error AlreadyCertified(uint64 sessionId, bytes32 connectionId);
    error BundlesOpen(uint64 sessionId, uint32 openBundles);
    error AlreadyClosed(uint64 sessionId);

    // ------------------------------------------------------------------ sessions

    /// @notice Opens the auction of a session whose terms were checked, with the operator's budgets. Only a module
    /// (`IMarketSessions`). Errors: `GridInvalid`, `InsufficientBalance`.
    /// @param firstIsp First ISP of delivery.
    /// @param lane Sessions with the same lane keep the bundles of a connection in the same place, one after the other;
    /// zero: a lane of its own.
    function openFor(
        Terms calldata terms,
        uint32 firstIsp,
        address operator,
        uint56 lane
    ) external returns (uint64 sessionId);

    // ------------------------------------------------------------------ orders

    /// @notice Places, replaces or cancels (`bundle` empty) the bundle of a connection. Only its owner, an active prosumer
    /// unless it cancels. Until gate closure.
    /// @dev Escrow that the new bundle needs less is released, more is locked. Errors: {SessionUnknown}, {GateClosed},
    /// {NotOwnerOf}, `EnforcedPause`, `ConnectionUnknown`, {OutsideArea}, `MissingRole`, {NotSettledYet}, {BundleMismatch},
    /// {NothingToChange}, {BundleTooLong}, {NotGreenProducer}, {SequenceExhausted}, those of `TickBook`,
    /// `InsufficientBalance`. Emits: {BundleSubmitted}.
    /// @param previous The bundle that stands, empty when there is none.
    function submit(uint64 sessionId, bytes32 connectionId, bytes calldata previous, bytes calldata bundle) external;

    /// @notice As {submit}, for a module that checked the owner's signature (`IMarketRelay`) or standing rules
    /// (`ITradingRules`). Only a module.
    function submitFor(uint64 sessionId, bytes32 connectionId, bytes calldata previous, bytes calldata bundle) external;

    // ------------------------------------------------------------------ clearing

    /// @notice Clears products `first` .. `last`, reading at most `maxTicks` ticks of each. Anyone, after gate closure.
    /// @dev Until `acceptBy` provisional and once for each product; afterwards final, for products whose book changed
    /// since or that were never cleared. Products that need nothing are passed over, among them those without any order,
    /// whose result stays zero; a provisional result whose book did not change is the final one. Errors: {SessionUnknown},
    /// {GateStillOpen}, {AlreadyFinalised}, `PeriodOutsideSession`. Emits: {ProductCleared} for each that is finished.
    /// @return finished Whether all of them are cleared now.
    function clear(uint64 sessionId, uint16 first, uint16 last, uint256 maxTicks) external returns (bool finished);

    /// @notice Takes provisionally matched orders off the book for a fee. Only the owner of the connection, after its
    /// products were cleared, until `acceptBy`. Silence accepts. A rejected order leaves the book whole, also the part of it
    /// that was not matched; the others go on with what they have.
    /// @dev Errors: {GateStillOpen}, {AcceptanceOver}, {NotOwnerOf}, {BundleMismatch}, {NoPositions}, {NotMatched},
    /// `NotCleared`, `ClearingUnfinished` (anyone finishes it by {clear}). Emits: {MatchRejected}.
    /// @param positions Bit i: order i of the bundle.
    function reject(uint64 sessionId, bytes32 connectionId, bytes calldata bundle, uint256 positions) external;

    /// @notice As {reject}, for a module that checked the owner's signature (`IMarketRelay`). Only a module.
    function rejectFor(uint64 sessionId, bytes32 connectionId, bytes calldata bundle, uint256 positions) external;

    /// @notice Ends the auction when all products are finally cleared: fixes the rates that the budgets suffice for.
    /// Anyone, after `acceptBy`. Errors: {AcceptanceOpen}, {AlreadyFinalised}, {ProductNotCleared}.
    /// Emits: {SessionFinalised}.
    function finalise(uint64 sessionId) external;

    // ------------------------------------------------------------------ after the auction

    /// @notice Returns to the trader the escrow that the final match does not need. Anyone, once.
    /// @dev Errors: {NotFinalised}, {BundleMismatch}, {AlreadyClaimed}, {AlreadySettled}. Emits: {BundleClaimed}.
    function claim(uint64 sessionId, bytes32 connectionId, bytes calldata bundle) external;

    /// @notice As {claim} for many bundles, less than half of the gas for each. Those that were claimed or settled are passed over,
    /// so that nobody can stop the others by claiming one of them first. Errors: {NotFinalised}, {BundleMismatch}.
    function claimAll(uint64 sessionId, Claim[] calldata claims) external;

    /// @notice Marks a bundle as settled and says what was traded. Only a module (`IMarketSettlement`).
    /// @dev Does what {claim} does first, when nobody has. Errors: {NotFinalised}, {BundleMismatch}, {AlreadySettled}.
    /// Emits: {BundleClaimed} in that case.
    /// @return fills Final fills.
    /// @return escrow Held for it in the pot: what the final match needs, uToken.
    function settle(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) external returns (Fills memory fills, uint256 escrow);

    /// @notice Marks the purchases of a bundle as certified and says what they are. Only a module
    /// (`IEnergyCertificates`). Possible at least until the settlement deadline of the session; afterwards a later session of
    /// the schedule may have taken the place of the bundle. Errors: {NotFinalised}, {BundleMismatch}, {AlreadyCertified}.
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

    /// @notice As `IMarketSessions.termsOf` of the contract that opened the session. Errors: {SessionUnknown}.
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
