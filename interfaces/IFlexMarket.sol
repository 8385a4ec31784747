// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Flexibility market: requests, offers, orders
/// @notice A DSO asks for flexibility at a congestion point with its budget in escrow, aggregators offer with a bond,
/// the DSO selects one or several offers, also partly, and every selection is a flex order.
/// Source: eDREAM D2.2 HL-UC01_LL-UC05, 06, 07, 10; BeFlexible SUC06.1; USEF FlexRequest, FlexOffer, FlexOrder.
/// @dev Curves are packed `uint32` Wh per ISP of the market day (`contracts/metering/Curves.sol`). Storage keeps their
/// hash, events carry them, callers bring them back and the contract verifies.
///
/// States and their deadlines:
/// request  Open --cancel--> Cancelled | --select, after gate, until selectBy--> Selected | --expire, after selectBy--> Expired
/// offer    Open --withdraw, before gate--> Withdrawn | --select--> Ordered | --release, request closed--> Released
/// order    Open --cancel, before any dispatch--> Cancelled | --finalise--> Finalised
/// An offer belongs to one request and is ordered at most once, so no ISP of it can be sold twice.
///
/// Deadlines belong to the state before them: offers at `gateClosure` count, selection at `selectBy` counts.
///
/// Money. Budget B = up(requested * cap), offer bond = up(offered * bondRate), both at 1 / 1000. An order of w Wh at
/// price p takes escrow down(w * p) from the budget: settlement pays down(credited * p) with credited <= w, so that is all
/// it can ever need, and the escrows of any number of orders fit, sum down(w_i * p_i) <= (sum w_i) * cap <= B. Rounded up,
/// two orders of 1 Wh at 1 uToken/kWh would need 2 uToken of a budget of 1. The bond of an order is up(w * bondRate),
/// at most the offer's, because w is at most what was offered. Curves hold at most 100 values below 2^32, rates are below
/// 2^32, so every amount is below 100 * 2^64 / 1000 < 2^61.
/// @custom:stop Paused: no request, offer or selection. Cancelling, expiry and release work.
/// @custom:trust The DSO of a congestion point states which ISPs are its market day; settlement modules close orders and
/// pay from their locks by the rules of {IFlexSettlement}.
interface IFlexMarket {
    /// @notice UP: less net consumption than the baseline. DOWN: more.
    enum Direction {
        Up,
        Down
    }

    enum RequestStatus {
        None,
        Open,
        Selected,
        Cancelled,
        Expired
    }

    enum OfferStatus {
        None,
        Open,
        Ordered,
        Withdrawn,
        Released
    }

    enum OrderStatus {
        None,
        Open,
        Cancelled,
        Finalised
    }

    struct RequestTerms {
        bytes32 congestionPointId;
        Direction direction;
        /// First ISP of the market day and number of its ISPs (92, 96, 100).
        uint32 dayFirstIsp;
        uint16 ispCount;
        /// Highest price of an offer, micro-token per kWh.
        uint32 priceCap;
        /// Bond an aggregator locks, micro-token per kWh offered.
        uint32 bondRate;
        /// Penalty of an aggregator, micro-token per kWh of shortfall beyond the tolerance; at most its bond.
        uint32 penaltyRate;
        /// Shortfall of the whole order without penalty, basis points.
        uint16 toleranceBps;
        /// Offers until then; baselines must be committed until then.
        uint40 gateClosure;
        /// Selection until then.
        uint40 selectBy;
        /// Prosumer orders until then, except reassignment.
        uint40 dispatchBy;
    }

    struct Request {
        RequestTerms terms;
        address dso;
        RequestStatus status;
        bytes32 quantitiesHash;
        uint64 requestedWh;
        uint64 orderedWh;
        /// Budget in escrow: cost of the requested energy at the price cap, rounded up, uToken.
        uint64 budget;
    }

    struct Offer {
        uint64 requestId;
        address aggregator;
        uint32 price;
        OfferStatus status;
        uint64 baselineCommitmentId;
        uint64 bond;
        bytes32 quantitiesHash;
    }

    /// @notice An order, everything that dispatch and settlement need of it.
    struct FlexOrder {
        uint64 requestId;
        address dso;
        /// Price of the offer, micro-token per kWh.
        uint32 price;
        uint64 offerId;
        address aggregator;
        OrderStatus status;
        uint64 orderedWh;
        /// Cost at the offer price, rounded down, in escrow from the DSO, uToken.
        uint64 escrow;
        /// Bond of the aggregator for what was ordered, uToken.
        uint64 bond;
        uint64 baselineCommitmentId;
        bytes32 quantitiesHash;
    }

    /// @notice Selection of one offer: its own curve, and the part of it that is ordered.
    struct Selection {
        uint64 offerId;
        bytes offeredWh;
        bytes orderedWh;
    }

    event MarketConnected(address indexed regime, address indexed dispatch);
    event RequestPublished(
        uint64 indexed requestId,
        bytes32 indexed congestionPointId,
        address indexed dso,
        RequestTerms terms,
        bytes quantitiesWh,
        uint64 requestedWh,
        uint64 budget
    );
    event RequestClosed(
        uint64 indexed requestId,
        RequestStatus indexed status,
        uint64 orderedWh,
        uint64 budgetReturned
    );
    event OfferPlaced(
        uint64 indexed offerId,
        uint64 indexed requestId,
        address indexed aggregator,
        uint32 price,
        uint64 baselineCommitmentId,
        bytes quantitiesWh,
        uint64 offeredWh,
        uint64 bond
    );
    event OfferClosed(uint64 indexed offerId, OfferStatus indexed status, uint64 bondReturned);
    event FlexOrdered(
        uint64 indexed flexOrderId,
        uint64 indexed requestId,
        uint64 indexed offerId,
        address aggregator,
        uint32 price,
        bytes orderedWh,
        uint64 totalWh,
        uint64 escrow,
        uint64 bond
    );
    event FlexOrderClosed(uint64 indexed flexOrderId, OrderStatus indexed status);

    error RequestUnknown(uint64 requestId);
    error OfferUnknown(uint64 offerId);
    error FlexOrderUnknown(uint64 flexOrderId);
    error InvalidDeadlines(uint40 gateClosure, uint40 selectBy, uint40 dispatchBy, uint256 firstIspStart);
    error InvalidIspCount(uint16 ispCount);
    error CurveLength(uint256 length, uint256 expected);
    error CurveMismatch(bytes32 given, bytes32 expected);
    error EmptyCurve();
    error PriceAboveCap(uint32 price, uint32 cap);
    error QuantityExceeded(uint256 position, uint256 quantityWh, uint256 limitWh);
    error GateClosed(uint40 gateClosure, uint256 nowTs);
    error GateStillOpen(uint40 gateClosure, uint256 nowTs);
    error SelectionClosed(uint40 selectBy, uint256 nowTs);
    error SelectionStillOpen(uint40 selectBy, uint256 nowTs);
    error RequestNotOpen(uint64 requestId, RequestStatus status);
    error OfferNotOpen(uint64 offerId, OfferStatus status);
    error OrderNotOpen(uint64 flexOrderId, OrderStatus status);
    error OfferOfOtherRequest(uint64 offerId, uint64 requestId);
    error NotCaller(address caller, address expected);
    error BaselineNotUsable(uint64 commitmentId);
    error MarketClosed(bytes32 congestionPointId, uint8 regime);
    error TooManySelections(uint256 given, uint256 limit);
    error OrderAlreadyDispatched(uint64 flexOrderId);
    error AlreadyConnected(address regime, address dispatch);

    /// @notice Names the contracts that stand on this market, once. Only governance.
    /// @dev Errors: {AlreadyConnected}. Emits: {MarketConnected}.
    /// @param regime The {IGridRegime} that can close the market.
    /// @param dispatch The {IFlexDispatch} that knows what was dispatched of an order.
    function connect(address regime, address dispatch) external;

    /// @notice Publishes a request and puts its budget in escrow. Only the DSO of the congestion point.
    /// @dev Now <= gateClosure < selectBy <= dispatchBy < start of the first ISP with a quantity.
    /// Errors: `CongestionPointUnknown`, `NotDsoOf`, {MarketClosed}, {InvalidIspCount}, {CurveLength}, {EmptyCurve},
    /// {InvalidDeadlines}, `InsufficientBalance`. Emits: {RequestPublished}.
    /// @param quantitiesWh Wanted energy per ISP of the market day, packed `uint32` Wh.
    function publishRequest(
        RequestTerms calldata terms,
        bytes calldata quantitiesWh
    ) external returns (uint64 requestId);

    /// @notice Withdraws an open request before its gate closes; the budget returns, offers can be released.
    /// @dev Only its DSO. Errors: {RequestUnknown}, {NotCaller}, {RequestNotOpen}, {GateClosed}. Emits: {RequestClosed}.
    function cancelRequest(uint64 requestId) external;

    /// @notice Closes a request that was not selected in time. Anyone may call; the budget returns.
    /// @dev Errors: {RequestUnknown}, {RequestNotOpen}, {SelectionStillOpen}. Emits: {RequestClosed}.
    function expireRequest(uint64 requestId) external;

    /// @notice Offers a curve at a price, with the commitment to the baselines it will be measured against.
    /// @dev Only an aggregator active at the congestion point. The commitment must be the caller's own, of kind
    /// Baseline, over the same market day, and is thereby posted before the gate closes. Offers may exceed the request;
    /// no more than requested is ordered.
    /// Errors: {RequestUnknown}, {RequestNotOpen}, {GateClosed}, {MarketClosed}, `AggregatorNotActive`, {PriceAboveCap},
    /// {BaselineNotUsable}, {CurveLength}, {EmptyCurve}, `InsufficientBalance`. Emits: {OfferPlaced}.
    function placeOffer(
        uint64 requestId,
        uint32 price,
        uint64 baselineCommitmentId,
        bytes calldata quantitiesWh
    ) external returns (uint64 offerId);

    /// @notice Withdraws an open offer before the gate closes; the bond returns. Only its aggregator.
    /// @dev Errors: {OfferUnknown}, {NotCaller}, {OfferNotOpen}, {GateClosed}. Emits: {OfferClosed}.
    function withdrawOffer(uint64 offerId) external;

    /// @notice Returns the bond of an open offer whose request is closed, or can no longer be selected. Anyone may call.
    /// @dev Errors: {OfferUnknown}, {OfferNotOpen}, {SelectionStillOpen}. Emits: {OfferClosed}.
    function releaseOffer(uint64 offerId) external;

    /// @notice Selects offers, once per request; each selection becomes an order. The rest of the budget returns.
    /// @dev Only its DSO, after the gate and until `selectBy`. Per ISP the ordered quantities stay within the offer and,
    /// summed, within the request. At most 16; none at all declines every offer.
    /// Errors: {RequestUnknown}, {NotCaller}, {RequestNotOpen}, {GateStillOpen}, {SelectionClosed}, {TooManySelections},
    /// {CurveMismatch}, {OfferUnknown}, {OfferOfOtherRequest}, {OfferNotOpen}, `MissingRole` (of an aggregator),
    /// {CurveLength}, {QuantityExceeded}, {EmptyCurve}. Emits: {FlexOrdered}, {OfferClosed}, {RequestClosed}.
    /// @param requestedWh The request's curve.
    function select(
        uint64 requestId,
        bytes calldata requestedWh,
        Selection[] calldata selections
    ) external returns (uint64[] memory flexOrderIds);

    /// @notice The DSO gives an order up before anything of it was dispatched; escrow and bond return.
    /// @dev Errors: {FlexOrderUnknown}, {NotCaller}, {OrderNotOpen}, {OrderAlreadyDispatched}. Emits: {FlexOrderClosed}.
    function cancelOrder(uint64 flexOrderId) external;

    /// @notice Marks an order as settled; its locks are the settlement's to pay out. Only the settlement module.
    /// @dev Errors: {FlexOrderUnknown}, {OrderNotOpen}. Emits: {FlexOrderClosed}.
    function closeOrder(uint64 flexOrderId) external;

    /// @notice A request; all zero when there is none. The same for offers and orders.
    function request(uint64 requestId) external view returns (Request memory);

    function offer(uint64 offerId) external view returns (Offer memory);

    function flexOrder(uint64 flexOrderId) external view returns (FlexOrder memory);

    /// @notice Locks in the clearing house.
    function budgetLockId(uint64 requestId) external view returns (bytes32);

    function offerLockId(uint64 offerId) external view returns (bytes32);

    function escrowLockId(uint64 flexOrderId) external view returns (bytes32);

    function bondLockId(uint64 flexOrderId) external view returns (bytes32);
}
