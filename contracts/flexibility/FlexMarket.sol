// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {ICommitmentRegistry} from "interfaces/ICommitmentRegistry.sol";
import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IFlexMarket} from "interfaces/IFlexMarket.sol";
import {IGridRegime} from "interfaces/IGridRegime.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {Curves} from "contracts/metering/Curves.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Flexibility market: requests, offers, orders
/// @dev Conservation, lock by lock:
///   budget  locked by publishRequest; closed by {_closeRequest}, which returns what {_order} did not move to escrows
///   offer   locked by placeOffer; returned whole by withdrawOffer and releaseOffer, or split by {_order} into the bond
///           of the order and a rest that returns
///   escrow, bond  filled by {_order}; returned whole by cancelOrder, or paid out by settlement after closeOrder
contract FlexMarket is IFlexMarket, Module {
    using Curves for bytes;

    uint256 private constant SECONDS_PER_ISP = 900;
    uint256 private constant MAX_SELECTIONS = 16;

    bytes32 private constant BUDGET = "budget";
    bytes32 private constant OFFER = "offer";
    bytes32 private constant ESCROW = "escrow";
    bytes32 private constant BOND = "bond";

    IGridRegistry private immutable _grid;
    ICommitmentRegistry private immutable _commitments;
    IClearingHouse private immutable _clearingHouse;

    IGridRegime private _regime;
    IFlexDispatch private _dispatch;

    uint64 private _lastRequestId;
    uint64 private _lastOfferId;
    uint64 private _lastFlexOrderId;
    mapping(uint64 requestId => Request) private _requests;
    mapping(uint64 offerId => Offer) private _offers;
    mapping(uint64 flexOrderId => FlexOrder) private _orders;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        ICommitmentRegistry commitments_,
        IClearingHouse clearingHouse_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _commitments = commitments_;
        _clearingHouse = clearingHouse_;
    }

    /// @inheritdoc IFlexMarket
    function connect(address regime, address dispatch) external restricted {
        if (address(_regime) != address(0)) revert AlreadyConnected(address(_regime), address(_dispatch));
        _regime = IGridRegime(regime);
        _dispatch = IFlexDispatch(dispatch);
        emit MarketConnected(regime, dispatch);
    }

    // ------------------------------------------------------------------ requests

    /// @inheritdoc IFlexMarket
    function publishRequest(
        RequestTerms calldata terms,
        bytes calldata quantitiesWh
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Dso) returns (uint64 requestId) {
        IGridRegistry.CongestionPoint memory point = _grid.congestionPoint(terms.congestionPointId);
        if (!point.active) revert IGridRegistry.CongestionPointUnknown(terms.congestionPointId);
        if (point.dso != msg.sender) revert IGridRegistry.NotDsoOf(terms.congestionPointId, msg.sender);
        _requireMarketOpen(terms.congestionPointId);
        if (terms.ispCount != 92 && terms.ispCount != 96 && terms.ispCount != 100) {
            revert InvalidIspCount(terms.ispCount);
        }
        uint64 requestedWh = _totalWh(quantitiesWh, terms.ispCount);
        _requireDeadlines(terms, quantitiesWh);

        // Fits: see the bound in {IFlexMarket}.
        uint64 budget = uint64(Money.costUp(requestedWh, terms.priceCap));
        requestId = ++_lastRequestId;
        _requests[requestId] = Request({
            terms: terms,
            dso: msg.sender,
            status: RequestStatus.Open,
            quantitiesHash: keccak256(quantitiesWh),
            requestedWh: requestedWh,
            orderedWh: 0,
            budget: budget
        });
        _clearingHouse.lock(budgetLockId(requestId), msg.sender, budget);
        emit RequestPublished(requestId, terms.congestionPointId, msg.sender, terms, quantitiesWh, requestedWh, budget);
    }

    /// @inheritdoc IFlexMarket
    function cancelRequest(uint64 requestId) external {
        Request storage closing = _openRequestOfCaller(requestId);
        _requireBeforeGate(closing.terms.gateClosure);
        _closeRequest(requestId, closing, RequestStatus.Cancelled);
    }

    /// @inheritdoc IFlexMarket
    function expireRequest(uint64 requestId) external {
        Request storage closing = _requests[requestId];
        _requireOpen(requestId, closing.status);
        uint40 selectBy = closing.terms.selectBy;
        if (block.timestamp <= selectBy) revert SelectionStillOpen(selectBy, block.timestamp);
        _closeRequest(requestId, closing, RequestStatus.Expired);
    }

    /// @dev Returns what is left of the budget; the lock is empty from then on.
    function _closeRequest(uint64 requestId, Request storage closing, RequestStatus status) private {
        closing.status = status;
        bytes32 lockId = budgetLockId(requestId);
        uint256 left = _clearingHouse.lockOf(lockId);
        _clearingHouse.release(lockId, closing.dso, left);
        emit RequestClosed(requestId, status, closing.orderedWh, uint64(left));
    }

    function _requireDeadlines(RequestTerms calldata terms, bytes calldata quantitiesWh) private view {
        uint256 position = 0;
        while (quantitiesWh.quantity(position) == 0) ++position; // ends: the curve is not empty
        uint256 firstIspStart = (terms.dayFirstIsp + position) * SECONDS_PER_ISP;
        if (
            terms.gateClosure < block.timestamp ||
            terms.selectBy <= terms.gateClosure ||
            terms.dispatchBy < terms.selectBy ||
            firstIspStart <= terms.dispatchBy
        ) revert InvalidDeadlines(terms.gateClosure, terms.selectBy, terms.dispatchBy, firstIspStart);
    }

    // ------------------------------------------------------------------ offers

    /// @inheritdoc IFlexMarket
    function placeOffer(
        uint64 requestId,
        uint32 price,
        uint64 baselineCommitmentId,
        bytes calldata quantitiesWh
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Aggregator) returns (uint64 offerId) {
        Request storage wanted = _requests[requestId];
        _requireOpen(requestId, wanted.status);
        RequestTerms memory terms = wanted.terms;
        _requireBeforeGate(terms.gateClosure);
        _requireMarketOpen(terms.congestionPointId);
        if (!_grid.isAggregatorActive(terms.congestionPointId, msg.sender)) {
            revert IGridRegistry.AggregatorNotActive(terms.congestionPointId, msg.sender);
        }
        if (price > terms.priceCap) revert PriceAboveCap(price, terms.priceCap);
        _requireBaseline(baselineCommitmentId, terms.dayFirstIsp, terms.ispCount);
        uint64 offeredWh = _totalWh(quantitiesWh, terms.ispCount);

        uint64 bond = uint64(Money.costUp(offeredWh, terms.bondRate));
        offerId = ++_lastOfferId;
        _offers[offerId] = Offer({
            requestId: requestId,
            aggregator: msg.sender,
            price: price,
            status: OfferStatus.Open,
            baselineCommitmentId: baselineCommitmentId,
            bond: bond,
            quantitiesHash: keccak256(quantitiesWh)
        });
        _clearingHouse.lock(offerLockId(offerId), msg.sender, bond);
        emit OfferPlaced(offerId, requestId, msg.sender, price, baselineCommitmentId, quantitiesWh, offeredWh, bond);
    }

    /// @inheritdoc IFlexMarket
    function withdrawOffer(uint64 offerId) external {
        Offer storage closing = _offers[offerId];
        _requireOpen(offerId, closing.status);
        if (msg.sender != closing.aggregator) revert NotCaller(msg.sender, closing.aggregator);
        _requireBeforeGate(_requests[closing.requestId].terms.gateClosure);
        _closeOffer(offerId, closing, OfferStatus.Withdrawn, closing.bond);
    }

    /// @inheritdoc IFlexMarket
    function releaseOffer(uint64 offerId) external {
        Offer storage closing = _offers[offerId];
        _requireOpen(offerId, closing.status);
        Request storage wanted = _requests[closing.requestId];
        uint40 selectBy = wanted.terms.selectBy;
        if (wanted.status == RequestStatus.Open && block.timestamp <= selectBy) {
            revert SelectionStillOpen(selectBy, block.timestamp);
        }
        _closeOffer(offerId, closing, OfferStatus.Released, closing.bond);
    }

    function _closeOffer(uint64 offerId, Offer storage closing, OfferStatus status, uint64 bondReturned) private {
        closing.status = status;
        _clearingHouse.release(offerLockId(offerId), closing.aggregator, bondReturned);
        emit OfferClosed(offerId, status, bondReturned);
    }

    function _requireBaseline(uint64 commitmentId, uint32 dayFirstIsp, uint16 ispCount) private view {
        ICommitmentRegistry.Commitment memory committed = _commitments.commitment(commitmentId);
        if (
            committed.committer != msg.sender ||
            committed.kind != ICommitmentRegistry.Kind.Baseline ||
            committed.firstIsp != dayFirstIsp ||
            committed.ispCount != ispCount
        ) revert BaselineNotUsable(commitmentId);
    }

    // ------------------------------------------------------------------ orders

    /// @inheritdoc IFlexMarket
    function select(
        uint64 requestId,
        bytes calldata requestedWh,
        Selection[] calldata selections
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.Dso) returns (uint64[] memory flexOrderIds) {
        Request storage wanted = _openRequestOfCaller(requestId);
        RequestTerms memory terms = wanted.terms;
        if (block.timestamp <= terms.gateClosure) revert GateStillOpen(terms.gateClosure, block.timestamp);
        if (block.timestamp > terms.selectBy) revert SelectionClosed(terms.selectBy, block.timestamp);
        if (selections.length > MAX_SELECTIONS) revert TooManySelections(selections.length, MAX_SELECTIONS);
        _requireCurve(requestedWh, wanted.quantitiesHash);

        uint256[] memory sums = new uint256[](terms.ispCount);
        uint64 orderedWh = 0;
        flexOrderIds = new uint64[](selections.length);
        for (uint256 i = 0; i < selections.length; ++i) {
            Selection calldata selection = selections[i];
            _requireSelectable(selection, requestId);
            uint64 totalWh = _totalWh(selection.orderedWh, terms.ispCount);
            _requireWithin(selection, requestedWh, sums);
            flexOrderIds[i] = _order(requestId, terms.bondRate, selection, totalWh);
            orderedWh += totalWh;
        }
        wanted.orderedWh = orderedWh;
        _closeRequest(requestId, wanted, RequestStatus.Selected);
    }

    /// @inheritdoc IFlexMarket
    function cancelOrder(uint64 flexOrderId) external {
        FlexOrder storage closing = _orders[flexOrderId];
        _requireOpen(flexOrderId, closing.status);
        if (msg.sender != closing.dso) revert NotCaller(msg.sender, closing.dso);
        if (_dispatch.group(flexOrderId).issued != 0) revert OrderAlreadyDispatched(flexOrderId);
        closing.status = OrderStatus.Cancelled;
        _clearingHouse.release(escrowLockId(flexOrderId), closing.dso, closing.escrow);
        _clearingHouse.release(bondLockId(flexOrderId), closing.aggregator, closing.bond);
        emit FlexOrderClosed(flexOrderId, OrderStatus.Cancelled);
    }

    /// @inheritdoc IFlexMarket
    function closeOrder(uint64 flexOrderId) external onlyModule {
        FlexOrder storage closing = _orders[flexOrderId];
        _requireOpen(flexOrderId, closing.status);
        closing.status = OrderStatus.Finalised;
        emit FlexOrderClosed(flexOrderId, OrderStatus.Finalised);
    }

    /// @dev Moves the escrow from the budget and the bond from the offer, returns the rest of the offer's bond.
    function _order(
        uint64 requestId,
        uint32 bondRate,
        Selection calldata selection,
        uint64 totalWh
    ) private returns (uint64 flexOrderId) {
        Offer storage sold = _offers[selection.offerId];
        FlexOrder memory made = FlexOrder({
            requestId: requestId,
            dso: msg.sender,
            price: sold.price,
            offerId: selection.offerId,
            aggregator: sold.aggregator,
            status: OrderStatus.Open,
            orderedWh: totalWh,
            escrow: uint64(Money.costDown(totalWh, sold.price)),
            bond: uint64(Money.costUp(totalWh, bondRate)),
            baselineCommitmentId: sold.baselineCommitmentId,
            quantitiesHash: keccak256(selection.orderedWh)
        });
        flexOrderId = ++_lastFlexOrderId;
        _orders[flexOrderId] = made;
        _clearingHouse.relock(budgetLockId(requestId), escrowLockId(flexOrderId), made.escrow);
        _clearingHouse.relock(offerLockId(made.offerId), bondLockId(flexOrderId), made.bond);
        _closeOffer(made.offerId, sold, OfferStatus.Ordered, sold.bond - made.bond);
        emit FlexOrdered(
            flexOrderId,
            requestId,
            made.offerId,
            made.aggregator,
            made.price,
            selection.orderedWh,
            totalWh,
            made.escrow,
            made.bond
        );
    }

    function _requireSelectable(Selection calldata selection, uint64 requestId) private view {
        Offer storage sold = _offers[selection.offerId];
        _requireOpen(selection.offerId, sold.status);
        if (sold.requestId != requestId) revert OfferOfOtherRequest(selection.offerId, requestId);
        participants.requireRole(sold.aggregator, IParticipantRegistry.Role.Aggregator);
        _requireCurve(selection.offeredWh, sold.quantitiesHash);
    }

    /// @dev Adds the ordered quantities to `sums` and holds them against the offer and the request.
    function _requireWithin(
        Selection calldata selection,
        bytes calldata requestedWh,
        uint256[] memory sums
    ) private pure {
        for (uint256 p = 0; p < sums.length; ++p) {
            uint256 ordered = selection.orderedWh.quantity(p);
            if (ordered == 0) continue;
            uint256 limit = selection.offeredWh.quantity(p);
            if (ordered > limit) revert QuantityExceeded(p, ordered, limit);
            uint256 sum = sums[p] += ordered;
            limit = requestedWh.quantity(p);
            if (sum > limit) revert QuantityExceeded(p, sum, limit);
        }
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IFlexMarket
    function request(uint64 requestId) external view returns (Request memory) {
        return _requests[requestId];
    }

    /// @inheritdoc IFlexMarket
    function offer(uint64 offerId) external view returns (Offer memory) {
        return _offers[offerId];
    }

    /// @inheritdoc IFlexMarket
    function flexOrder(uint64 flexOrderId) external view returns (FlexOrder memory) {
        return _orders[flexOrderId];
    }

    /// @inheritdoc IFlexMarket
    function budgetLockId(uint64 requestId) public view returns (bytes32) {
        return _lockId(BUDGET, requestId);
    }

    /// @inheritdoc IFlexMarket
    function offerLockId(uint64 offerId) public view returns (bytes32) {
        return _lockId(OFFER, offerId);
    }

    /// @inheritdoc IFlexMarket
    function escrowLockId(uint64 flexOrderId) public view returns (bytes32) {
        return _lockId(ESCROW, flexOrderId);
    }

    /// @inheritdoc IFlexMarket
    function bondLockId(uint64 flexOrderId) public view returns (bytes32) {
        return _lockId(BOND, flexOrderId);
    }

    function _lockId(bytes32 kind, uint64 id) private view returns (bytes32) {
        return keccak256(abi.encode(address(this), kind, id));
    }

    // ------------------------------------------------------------------ guards

    function _openRequestOfCaller(uint64 requestId) private view returns (Request storage own) {
        own = _requests[requestId];
        _requireOpen(requestId, own.status);
        if (msg.sender != own.dso) revert NotCaller(msg.sender, own.dso);
    }

    function _requireOpen(uint64 requestId, RequestStatus status) private pure {
        if (status == RequestStatus.None) revert RequestUnknown(requestId);
        if (status != RequestStatus.Open) revert RequestNotOpen(requestId, status);
    }

    function _requireOpen(uint64 offerId, OfferStatus status) private pure {
        if (status == OfferStatus.None) revert OfferUnknown(offerId);
        if (status != OfferStatus.Open) revert OfferNotOpen(offerId, status);
    }

    function _requireOpen(uint64 flexOrderId, OrderStatus status) private pure {
        if (status == OrderStatus.None) revert FlexOrderUnknown(flexOrderId);
        if (status != OrderStatus.Open) revert OrderNotOpen(flexOrderId, status);
    }

    function _requireBeforeGate(uint40 gateClosure) private view {
        if (block.timestamp > gateClosure) revert GateClosed(gateClosure, block.timestamp);
    }

    function _requireMarketOpen(bytes32 congestionPointId) private view {
        IGridRegime.Regime regime = _regime.regimeOf(congestionPointId);
        if (regime == IGridRegime.Regime.Red) revert MarketClosed(congestionPointId, uint8(regime));
    }

    function _requireCurve(bytes calldata curve, bytes32 expected) private pure {
        bytes32 given = keccak256(curve);
        if (given != expected) revert CurveMismatch(given, expected);
    }

    /// @dev Sum of a curve of the right length that is not empty.
    function _totalWh(bytes calldata curve, uint16 ispCount) private pure returns (uint64 totalWh) {
        if (!curve.isQuantities(ispCount)) revert CurveLength(curve.length, 4 * uint256(ispCount));
        totalWh = uint64(curve.total());
        if (totalWh == 0) revert EmptyCurve();
    }
}
