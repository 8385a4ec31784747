// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMarketSessions} from "interfaces/IMarketSessions.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {IProducerRegistry} from "interfaces/IProducerRegistry.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {TickBook} from "contracts/market/TickBook.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Peer-to-peer energy market: sessions of uniform-price auctions, from order to final match
/// @dev See {IEnergyMarket} for products, times, bundles and escrow, `TickBook` for the clearing.
///
/// **Solvency.** For the bundles b of a session let E(b) be the escrow, N(b) what the final match needs of it,
/// F(b), G(b) and C(b) its fee, guarantee and cost: N = F + G + C. The pot holds, and keeps holding, at least what is
/// owed, in whatever order bundles are claimed and settled:
///
/// 1. N(b) <= E(b). Fills are at most the quantities and prices within the limits, and the sum of costs rounded up for
///    each order is at least the cost of their sum rounded up once for a product.
/// 2. Until {finalise}: pot = sum of E(b) + budgets + rejection fees. {submit} moves the difference of two E, {reject}
///    releases E(old) - E(left) less a fee that is at most that. E is a function of the bundle alone.
/// 3. Let R(b) be what the clearing price pays a bundle: down(sold * p / 1000) for each product with p >= 0,
///    down(bought * |p| / 1000) below zero. In every product sum of R <= sum of C: who pays is filled with at least as much
///    energy in all as who is paid (residual of `TickBook`), and pays rounded up while others are paid rounded down.
/// 4. Settlement pays a bundle at most G(b) + R(b) + surplus + reward, the last two rounded down from at most its bought
///    and green sold Wh at the rates of {finalise}. These rates, times a bound on all such Wh, stay within the budgets.
///    The bound of a product is its volume V, and where the side is rationed one Wh more for each order that can be at the
///    margin: at most rationDenominator / minQuantityWh.
/// 5. So all that is ever paid is at most sum of (E - N) + sum of (G + R) + budgets <= sum of (E - F - C + R) + budgets
///    <= sum of (E - F) + budgets, which is the pot after 2 less all fees. What is left goes to the operator.
///
/// Worked: a buyer of 1,000 Wh at 300,000 and a seller of 1,000 Wh at 100,000, fee 1,000, guarantee rate 50,000, price
/// 200,000. E = 301,000 and 51,000; N = 201,000 and 51,000; {claim} returns 100,000 and 0. The seller injects all and
/// gets 50,000 + 200,000; 2,000 in fees are left.
///
/// **Word of a bundle**, one slot: flags 8 bits, sequence 16, session 32, hash 200; sum 256. Two bundles with the same
/// 200 bits take 2^100 trials. Sessions of one schedule use the words of a connection in turns: once the settlement
/// deadline of a session has passed, a later one may take its place, which changes a word instead of adding one
/// (17,100 gas less). A word that is not settled is never taken over: then the old session is settled first, which
/// anyone can do by that time. Certificates of the old one are issued before that, or not at all.
///
/// **Gas** of {submit}: see `docs/decisions/0031-market-sessions.md`.
contract EnergyMarket is IEnergyMarket, Module {
    using TickBook for TickBook.Book;

    uint256 private constant SECONDS_PER_ISP = 900;
    /// @dev Orders of a bundle: as many as a rejection has bits.
    uint256 private constant MAX_ORDERS = 256;

    uint256 private constant PLACED = 1;
    uint256 private constant CLAIMED = 2;
    uint256 private constant CERTIFIED = 4;
    uint256 private constant SETTLED = 8;
    uint256 private constant SEQUENCE_SHIFT = 8;
    uint256 private constant SESSION_SHIFT = 24;
    uint256 private constant HASH_MASK = type(uint256).max << 56;

    IGridRegistry private immutable _grid;
    IProducerRegistry private immutable _producers;
    IClearingHouse private immutable _clearingHouse;

    uint32 private _lastSessionId;
    mapping(uint64 sessionId => Auction) private _auctions;
    /// @dev Words of bundles, layout above. A session's lane is its own, or that of the place it has in its schedule.
    mapping(bytes32 connectionId => mapping(uint256 lane => uint256)) private _words;

    /// @dev A session. The first slot is all that orders need besides the book.
    struct Auction {
        uint40 gateClosure;
        uint40 acceptBy;
        uint32 openBundles;
        uint32 feeRate;
        uint32 guaranteeRate;
        uint56 lane;
        /// Only connections below the congestion point of the terms.
        bool limited;
        bool finalised;
        bool closed;
        address operator;
        uint32 firstIsp;
        uint32 surplusPrice;
        uint32 greenRewardRate;
        /// Bit p: a rejection changed the book of product p after its result.
        uint256 outdated;
        uint128 surplusBudget;
        uint128 rewardBudget;
        /// Keeps the terms.
        IMarketSessions openedBy;
        uint32 rejectionFeeRate;
        bytes32 congestionPointId;
        TickBook.Book book;
    }

    /// @dev What a rejection leaves and changes.
    struct Rejection {
        /// Orders that stay.
        bytes left;
        /// Provisional fills of those that do not.
        uint256 matchedWh;
        /// Bit p: the book of product p changed.
        uint256 products;
        /// Sums over the orders that stay, and over the fills of the others.
        TickBook.Totals totals;
        TickBook.Fills fills;
        uint256 escrow;
        uint256 fee;
        uint256 released;
    }

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        IProducerRegistry producers_,
        IClearingHouse clearingHouse_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _producers = producers_;
        _clearingHouse = clearingHouse_;
    }

    // ------------------------------------------------------------------ sessions

    /// @inheritdoc IEnergyMarket
    function openFor(
        Terms calldata terms,
        uint32 firstIsp,
        address operator,
        uint56 lane
    ) external onlyModule whenNotPaused returns (uint64 sessionId) {
        sessionId = ++_lastSessionId;
        uint256 gateClosure = firstIsp * SECONDS_PER_ISP - terms.gateLeadSeconds;
        Auction storage auction = _auctions[sessionId];
        auction.gateClosure = uint40(gateClosure);
        auction.acceptBy = uint40(gateClosure + terms.acceptanceSeconds);
        auction.feeRate = terms.feeRate;
        auction.guaranteeRate = terms.guaranteeRate;
        auction.lane = lane == 0 ? uint56(sessionId) : lane;
        auction.limited = terms.congestionPointId != 0;
        auction.operator = operator;
        auction.firstIsp = firstIsp;
        auction.surplusPrice = terms.surplusPrice;
        auction.greenRewardRate = terms.greenRewardRate;
        auction.surplusBudget = terms.surplusBudget;
        auction.rewardBudget = terms.rewardBudget;
        auction.openedBy = IMarketSessions(msg.sender);
        auction.rejectionFeeRate = terms.rejectionFeeRate;
        auction.congestionPointId = terms.congestionPointId;
        auction.book.open(
            TickBook.Grid(terms.basePrice, terms.priceStep, terms.tickCount, 2 * terms.periodCount, terms.minQuantityWh)
        );
        _clearingHouse.lock(potLockId(sessionId), operator, uint256(terms.surplusBudget) + terms.rewardBudget);
    }

    // ------------------------------------------------------------------ orders

    /// @inheritdoc IEnergyMarket
    function submit(uint64 sessionId, bytes32 connectionId, bytes calldata previous, bytes calldata bundle) external {
        Auction storage auction = _trading(sessionId);
        address owner = _traderOf(auction, connectionId, bundle.length != 0);
        if (owner != msg.sender) revert NotOwnerOf(connectionId, msg.sender);
        _submit(auction, sessionId, connectionId, owner, previous, bundle);
    }

    /// @inheritdoc IEnergyMarket
    function submitFor(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata previous,
        bytes calldata bundle
    ) external onlyModule {
        Auction storage auction = _trading(sessionId);
        address owner = _traderOf(auction, connectionId, bundle.length != 0);
        _submit(auction, sessionId, connectionId, owner, previous, bundle);
    }

    function _trading(uint64 sessionId) private view returns (Auction storage auction) {
        auction = _known(sessionId);
        if (block.timestamp > auction.gateClosure) {
            revert GateClosed(sessionId, auction.gateClosure, block.timestamp);
        }
    }

    /// Owner of a connection; when it places orders, one that may.
    function _traderOf(
        Auction storage auction,
        bytes32 connectionId,
        bool places
    ) private view returns (address owner) {
        bool active;
        (owner, active) = _grid.ownerOf(connectionId);
        if (!places) return owner;
        _requireNotPaused();
        if (!active) revert IGridRegistry.ConnectionUnknown(connectionId);
        if (auction.limited) {
            bytes32 congestionPointId = _grid.connection(connectionId).congestionPointId;
            if (congestionPointId != auction.congestionPointId) {
                revert OutsideArea(connectionId, congestionPointId, auction.congestionPointId);
            }
        }
        participants.requireRole(owner, IParticipantRegistry.Role.Prosumer);
    }

    function _submit(
        Auction storage auction,
        uint64 sessionId,
        bytes32 connectionId,
        address owner,
        bytes calldata previous,
        bytes calldata bundle
    ) private {
        uint16 sequence = _record(auction, sessionId, connectionId, previous, bundle);
        (uint256 freed, uint256 escrow) = _replace(auction, connectionId, previous, bundle);
        if (escrow > freed) _clearingHouse.lock(potLockId(sessionId), owner, escrow - freed);
        else if (escrow < freed) _clearingHouse.release(potLockId(sessionId), owner, freed - escrow);
        emit BundleSubmitted(sessionId, connectionId, owner, sequence, bundle, escrow);
    }

    /// Checks that `previous` stands and keeps the hash of `bundle` in its place.
    function _record(
        Auction storage auction,
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata previous,
        bytes calldata bundle
    ) private returns (uint16 sequence) {
        uint256 lane = auction.lane;
        mapping(uint256 lane => uint256) storage words = _words[connectionId];
        uint256 word = words[lane];
        if (uint32(word >> SESSION_SHIFT) != sessionId) {
            if (word & (PLACED | SETTLED) == PLACED) revert NotSettledYet(uint32(word >> SESSION_SHIFT), connectionId);
            word = 0;
        }
        if (previous.length != 0) _requireStands(word, sessionId, connectionId, previous);
        else if (word & PLACED != 0) revert BundleMismatch(sessionId, connectionId, _hashOf(word));
        uint256 newHash = bundle.length == 0 ? 0 : _hash(bundle);
        if (newHash == word & HASH_MASK) revert NothingToChange(sessionId, connectionId);
        word = _changed(word, sessionId, connectionId, newHash);
        words[lane] = word;
        return _sequenceOf(word);
    }

    /// @return freed Escrow of `previous`.
    /// @return escrow Escrow of `bundle`.
    function _replace(
        Auction storage auction,
        bytes32 connectionId,
        bytes calldata previous,
        bytes calldata bundle
    ) private returns (uint256 freed, uint256 escrow) {
        if (previous.length != 0) freed = _escrow(auction, auction.book.remove(previous));
        if (bundle.length != 0) escrow = _place(auction, connectionId, bundle);
        if (previous.length == 0) ++auction.openBundles;
        else if (bundle.length == 0) --auction.openBundles;
    }

    function _place(
        Auction storage auction,
        bytes32 connectionId,
        bytes calldata bundle
    ) private returns (uint256 escrow) {
        if (bundle.length > MAX_ORDERS * TickBook.ORDER_BYTES) {
            revert BundleTooLong(bundle.length / TickBook.ORDER_BYTES, MAX_ORDERS);
        }
        TickBook.Totals memory totals = auction.book.place(bundle);
        uint256 firstGreen = auction.book.periodCount / 2;
        if (totals.sellEnd > firstGreen && !_producers.isGreen(connectionId)) {
            TickBook.Grid memory grid = auction.book.gridOf();
            for (uint256 i = 0; ; ++i) {
                (uint256 product, bool sell, , ) = TickBook.orderAt(grid, bundle, i);
                if (sell && product >= firstGreen) revert NotGreenProducer(connectionId, i);
            }
        }
        return _escrow(auction, totals);
    }

    /// Word of what stands from now on; `newHash` zero: nothing.
    function _changed(
        uint256 word,
        uint64 sessionId,
        bytes32 connectionId,
        uint256 newHash
    ) private pure returns (uint256) {
        uint256 sequence = _sequenceOf(word);
        if (sequence == type(uint16).max) revert SequenceExhausted(sessionId, connectionId);
        unchecked {
            word = newHash | (uint256(sessionId) << SESSION_SHIFT) | ((sequence + 1) << SEQUENCE_SHIFT);
        }
        return newHash == 0 ? word : word | PLACED;
    }

    function _escrow(Auction storage auction, TickBook.Totals memory totals) private view returns (uint256) {
        return totals.cost + _feeAndGuarantee(auction, totals.buyWh, totals.sellWh);
    }

    function _feeAndGuarantee(Auction storage auction, uint256 buyWh, uint256 sellWh) private view returns (uint256) {
        uint256 fee = Money.costUp(buyWh + sellWh, auction.feeRate);
        return sellWh == 0 ? fee : fee + Money.costUp(sellWh, auction.guaranteeRate);
    }

    // ------------------------------------------------------------------ clearing

    /// @inheritdoc IEnergyMarket
    function clear(uint64 sessionId, uint16 first, uint16 last, uint256 maxTicks) external returns (bool finished) {
        Auction storage auction = _known(sessionId);
        if (block.timestamp <= auction.gateClosure) {
            revert GateStillOpen(sessionId, auction.gateClosure, block.timestamp);
        }
        if (auction.finalised) revert AlreadyFinalised(sessionId);
        uint256 products = auction.book.periodCount;
        if (last >= products) revert TickBook.PeriodOutsideSession(0, last, products);
        bool isFinal = block.timestamp > auction.acceptBy;
        uint256 outdated = isFinal ? auction.outdated : 0;
        finished = true;
        for (uint256 product = first; product <= last; ++product) {
            if (!_needsClearing(auction, outdated, product)) continue;
            if (auction.book.clear(product, maxTicks)) {
                outdated &= ~(1 << product);
                emit ProductCleared(sessionId, uint16(product), isFinal, auction.book.results[product]);
            } else {
                finished = false;
            }
        }
        if (isFinal) auction.outdated = outdated;
    }

    /// Products without any order never need it; their result stays zero.
    /// @param outdated As in {Auction}; zero as long as provisional results stand although their books changed.
    function _needsClearing(Auction storage auction, uint256 outdated, uint256 product) private view returns (bool) {
        if (auction.book.results[product] == 0) return !auction.book.isEmpty(product);
        return (outdated >> product) & 1 != 0;
    }

    /// @inheritdoc IEnergyMarket
    function reject(uint64 sessionId, bytes32 connectionId, bytes calldata bundle, uint256 positions) external {
        Auction storage auction = _accepting(sessionId);
        (address owner, ) = _grid.ownerOf(connectionId);
        if (owner != msg.sender) revert NotOwnerOf(connectionId, msg.sender);
        _reject(auction, sessionId, connectionId, owner, bundle, positions);
    }

    /// @inheritdoc IEnergyMarket
    function rejectFor(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        uint256 positions
    ) external onlyModule {
        Auction storage auction = _accepting(sessionId);
        (address owner, ) = _grid.ownerOf(connectionId);
        _reject(auction, sessionId, connectionId, owner, bundle, positions);
    }

    function _accepting(uint64 sessionId) private view returns (Auction storage auction) {
        auction = _known(sessionId);
        if (block.timestamp <= auction.gateClosure) {
            revert GateStillOpen(sessionId, auction.gateClosure, block.timestamp);
        }
        if (block.timestamp > auction.acceptBy) {
            revert AcceptanceOver(sessionId, auction.acceptBy, block.timestamp);
        }
    }

    function _reject(
        Auction storage auction,
        uint64 sessionId,
        bytes32 connectionId,
        address owner,
        bytes calldata bundle,
        uint256 positions
    ) private {
        uint256 word = _wordOf(auction, sessionId, connectionId);
        _requireStands(word, sessionId, connectionId, bundle);
        Rejection memory rejected = _take(auction, bundle, positions);
        auction.outdated |= rejected.products;
        uint256 newHash;
        if (rejected.left.length == 0) --auction.openBundles;
        else newHash = uint256(keccak256(rejected.left)) & HASH_MASK;
        word = _changed(word, sessionId, connectionId, newHash);
        _words[connectionId][auction.lane] = word;
        _clearingHouse.release(potLockId(sessionId), owner, rejected.released);
        emit MatchRejected(
            sessionId,
            connectionId,
            _sequenceOf(word),
            positions,
            rejected.left,
            rejected.fee,
            rejected.escrow
        );
    }

    /// Takes rejected orders off the book.
    function _take(
        Auction storage auction,
        bytes calldata bundle,
        uint256 positions
    ) private returns (Rejection memory rejected) {
        if (positions == 0) revert NoPositions();
        TickBook.Grid memory grid = auction.book.changeableGrid();
        uint256 orders = TickBook.count(bundle);
        if (orders < MAX_ORDERS && positions >> orders != 0) revert NotMatched(Math.log2(positions));
        rejected.left = _without(bundle, positions);
        rejected.fills = _noFills(grid);
        rejected.totals = TickBook.totalsOf(grid, bundle);
        uint256 escrowBefore = _escrow(auction, rejected.totals);
        for (uint256 i = 0; i < orders; ++i) {
            if ((positions >> i) & 1 == 0) continue;
            uint256 start = i * TickBook.ORDER_BYTES;
            uint256 filledWh = _takeOrder(auction, grid, bundle[start:start + TickBook.ORDER_BYTES], rejected);
            if (filledWh == 0) revert NotMatched(i);
            rejected.matchedWh += filledWh;
        }
        rejected.escrow = _escrow(auction, rejected.totals);
        uint256 freed = escrowBefore - rejected.escrow;
        rejected.fee = Math.min(Money.costUp(rejected.matchedWh, auction.rejectionFeeRate), freed);
        rejected.released = freed - rejected.fee;
    }

    function _takeOrder(
        Auction storage auction,
        TickBook.Grid memory grid,
        bytes calldata order,
        Rejection memory rejected
    ) private returns (uint256 filledWh) {
        filledWh = auction.book.addFills(grid, order, rejected.fills);
        rejected.products |= 1 << auction.book.removeAt(grid, order, 0);
        TickBook.Totals memory taken = TickBook.totalsOf(grid, order);
        rejected.totals.cost -= taken.cost;
        rejected.totals.buyWh -= taken.buyWh;
        rejected.totals.sellWh -= taken.sellWh;
    }

    /// The bundle without the orders at some positions.
    function _without(bytes calldata bundle, uint256 positions) private pure returns (bytes memory left) {
        left = new bytes(bundle.length + 24); // so that a whole word can be written for each order
        uint256 orders = bundle.length / TickBook.ORDER_BYTES;
        uint256 end;
        for (uint256 i = 0; i < orders; ++i) {
            if ((positions >> i) & 1 != 0) continue;
            assembly ("memory-safe") {
                mstore(add(add(left, 0x20), end), calldataload(add(bundle.offset, shl(3, i))))
                end := add(end, 8)
            }
        }
        assembly ("memory-safe") {
            mstore(left, end)
        }
    }

    /// @inheritdoc IEnergyMarket
    function finalise(uint64 sessionId) external {
        Auction storage auction = _known(sessionId);
        if (block.timestamp <= auction.acceptBy) {
            revert AcceptanceOpen(sessionId, auction.acceptBy, block.timestamp);
        }
        if (auction.finalised) revert AlreadyFinalised(sessionId);
        TickBook.Grid memory grid = auction.book.gridOf();
        uint256 outdated = auction.outdated;
        uint256[2] memory volumeWh;
        // Bounds on all bought and on all green sold Wh, step 4 of the proof above.
        uint256 boughtWh;
        uint256 greenSoldWh;
        for (uint256 product = 0; product < grid.periodCount; ++product) {
            if (_needsClearing(auction, outdated, product)) revert ProductNotCleared(sessionId, uint16(product));
            (uint256 volume, uint256 buyers, uint256 sellers) = TickBook.boundsOf(grid, auction.book.results[product]);
            uint256 green = product < grid.periodCount / 2 ? 0 : 1;
            volumeWh[green] += volume;
            boughtWh += buyers;
            greenSoldWh += green * sellers;
        }
        auction.finalised = true;
        auction.surplusPrice = _affordable(auction.surplusPrice, auction.surplusBudget, boughtWh);
        auction.greenRewardRate = _affordable(auction.greenRewardRate, auction.rewardBudget, greenSoldWh);
        emit SessionFinalised(sessionId, volumeWh[0], volumeWh[1], auction.surplusPrice, auction.greenRewardRate);
    }

    /// Largest rate up to that of the terms at which `energyWh` cost no more than the budget.
    function _affordable(uint256 rate, uint256 budget, uint256 energyWh) private pure returns (uint32) {
        return uint32(energyWh == 0 ? rate : Math.min(rate, (budget * Money.WH_PER_KWH) / energyWh));
    }

    // ------------------------------------------------------------------ after the auction

    /// @inheritdoc IEnergyMarket
    function claim(uint64 sessionId, bytes32 connectionId, bytes calldata bundle) external {
        Auction storage auction = _final(sessionId);
        uint256 word = _claim(auction, sessionId, connectionId, bundle);
        if (word & SETTLED != 0) revert AlreadySettled(sessionId, connectionId);
        if (word & CLAIMED != 0) revert AlreadyClaimed(sessionId, connectionId);
    }

    /// @inheritdoc IEnergyMarket
    function claimAll(uint64 sessionId, Claim[] calldata claims) external {
        Auction storage auction = _final(sessionId);
        for (uint256 i = 0; i < claims.length; ++i) {
            _claim(auction, sessionId, claims[i].connectionId, claims[i].bundle);
        }
    }

    /// Does nothing when it was claimed or settled.
    /// @return word As it was.
    function _claim(
        Auction storage auction,
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) private returns (uint256 word) {
        word = _wordOf(auction, sessionId, connectionId);
        _requireStands(word, sessionId, connectionId, bundle);
        if (word & (CLAIMED | SETTLED) != 0) return word;
        _words[connectionId][auction.lane] = word | CLAIMED;
        _release(auction, sessionId, connectionId, bundle, _neededFor(auction, _fills(auction, bundle)));
    }

    /// @inheritdoc IEnergyMarket
    function settle(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) external onlyModule returns (Fills memory fills, uint256 escrow) {
        Auction storage auction = _final(sessionId);
        uint256 word = _wordOf(auction, sessionId, connectionId);
        _requireStands(word, sessionId, connectionId, bundle);
        if (word & SETTLED != 0) revert AlreadySettled(sessionId, connectionId);
        _words[connectionId][auction.lane] = word | CLAIMED | SETTLED;
        --auction.openBundles;
        fills = _fills(auction, bundle);
        escrow = _neededFor(auction, fills);
        if (word & CLAIMED == 0) _release(auction, sessionId, connectionId, bundle, escrow);
    }

    /// @inheritdoc IEnergyMarket
    function certify(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle
    ) external onlyModule returns (Fills memory fills) {
        Auction storage auction = _final(sessionId);
        uint256 word = _wordOf(auction, sessionId, connectionId);
        _requireStands(word, sessionId, connectionId, bundle);
        if (word & CERTIFIED != 0) revert AlreadyCertified(sessionId, connectionId);
        _words[connectionId][auction.lane] = word | CERTIFIED;
        return _fills(auction, bundle);
    }

    /// @inheritdoc IEnergyMarket
    function closeSession(uint64 sessionId) external {
        Auction storage auction = _final(sessionId);
        if (auction.openBundles != 0) revert BundlesOpen(sessionId, auction.openBundles);
        if (auction.closed) revert AlreadyClosed(sessionId);
        auction.closed = true;
        bytes32 lockId = potLockId(sessionId);
        uint256 residual = _clearingHouse.lockOf(lockId);
        _clearingHouse.release(lockId, auction.operator, residual);
        emit SessionClosed(sessionId, auction.operator, residual);
    }

    function _release(
        Auction storage auction,
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        uint256 needed
    ) private {
        uint256 released = _escrow(auction, TickBook.totalsOf(auction.book.gridOf(), bundle)) - needed;
        if (released != 0) {
            (address owner, ) = _grid.ownerOf(connectionId);
            _clearingHouse.release(potLockId(sessionId), owner, released);
        }
        emit BundleClaimed(sessionId, connectionId, released, needed);
    }

    /// Relies on a bundle that stands, or was checked.
    function _fills(Auction storage auction, bytes calldata bundle) private view returns (Fills memory) {
        TickBook.Grid memory grid = auction.book.gridOf();
        TickBook.Fills memory sums = _noFills(grid);
        auction.book.addFills(grid, bundle, sums);
        return Fills(sums.boughtWh, sums.soldWh, sums.prices);
    }

    function _noFills(TickBook.Grid memory grid) private pure returns (TickBook.Fills memory) {
        uint256 products = grid.periodCount;
        return TickBook.Fills(new uint256[](products), new uint256[](products), new int256[](products));
    }

    /// Escrow that final fills need, the formula of the escrow over fills at clearing prices.
    function _neededFor(Auction storage auction, Fills memory fills) private view returns (uint256 needed) {
        uint256 boughtWh;
        uint256 soldWh;
        // As Money.costUp for each product without its checks: fills below 2^40, prices below 2^64.
        assembly ("memory-safe") {
            let allBought := mload(fills)
            let allSold := mload(add(fills, 0x20))
            for {
                let offset := shl(5, mload(allBought))
            } offset {
                offset := sub(offset, 0x20)
            } {
                let bought := mload(add(allBought, offset))
                let sold := mload(add(allSold, offset))
                if or(bought, sold) {
                    boughtWh := add(boughtWh, bought)
                    soldWh := add(soldWh, sold)
                    let price := mload(add(mload(add(fills, 0x40)), offset))
                    if slt(price, 0) {
                        price := sub(0, price)
                        bought := sold
                    }
                    needed := add(needed, div(add(mul(bought, price), 999), 1000))
                }
            }
        }
        return needed + _feeAndGuarantee(auction, boughtWh, soldWh);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IEnergyMarket
    function session(uint64 sessionId) external view returns (Session memory) {
        Auction storage auction = _auctions[sessionId];
        return
            Session({
                operator: auction.operator,
                firstIsp: auction.firstIsp,
                gateClosure: auction.gateClosure,
                acceptBy: auction.acceptBy,
                openBundles: auction.openBundles,
                finalised: auction.finalised,
                closed: auction.closed,
                surplusPrice: auction.surplusPrice,
                greenRewardRate: auction.greenRewardRate
            });
    }

    /// @inheritdoc IEnergyMarket
    function termsOf(uint64 sessionId) external view returns (Terms memory) {
        return _known(sessionId).openedBy.termsOf(sessionId);
    }

    /// @inheritdoc IEnergyMarket
    function bundleOf(uint64 sessionId, bytes32 connectionId) external view returns (BundleState memory) {
        uint256 word = _wordOf(_known(sessionId), sessionId, connectionId);
        return
            BundleState({
                placed: word & PLACED != 0,
                claimed: word & CLAIMED != 0,
                certified: word & CERTIFIED != 0,
                settled: word & SETTLED != 0,
                sequence: _sequenceOf(word),
                hash: _hashOf(word)
            });
    }

    /// @inheritdoc IEnergyMarket
    function resultOf(uint64 sessionId, uint16 product) external view returns (uint256) {
        return product < TickBook.MAX_PERIODS ? _auctions[sessionId].book.results[product] : 0;
    }

    /// @inheritdoc IEnergyMarket
    function fillsOf(uint64 sessionId, bytes calldata bundle) external view returns (Fills memory) {
        Auction storage auction = _known(sessionId);
        TickBook.totalsOf(auction.book.gridOf(), bundle); // checks the orders
        return _fills(auction, bundle);
    }

    /// @inheritdoc IEnergyMarket
    function escrowOf(uint64 sessionId, bytes calldata bundle) external view returns (uint256) {
        Auction storage auction = _known(sessionId);
        return _escrow(auction, TickBook.totalsOf(auction.book.gridOf(), bundle));
    }

    /// @inheritdoc IEnergyMarket
    function potLockId(uint64 sessionId) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), sessionId));
    }

    // ------------------------------------------------------------------ guards

    function _known(uint64 sessionId) private view returns (Auction storage auction) {
        auction = _auctions[sessionId];
        if (auction.gateClosure == 0) revert SessionUnknown(sessionId);
    }

    function _final(uint64 sessionId) private view returns (Auction storage auction) {
        auction = _known(sessionId);
        if (!auction.finalised) revert NotFinalised(sessionId);
    }

    /// Word of a bundle; zero when the place is that of another session.
    function _wordOf(
        Auction storage auction,
        uint64 sessionId,
        bytes32 connectionId
    ) private view returns (uint256 word) {
        word = _words[connectionId][auction.lane];
        if (uint32(word >> SESSION_SHIFT) != sessionId) word = 0;
    }

    function _requireStands(uint256 word, uint64 sessionId, bytes32 connectionId, bytes calldata bundle) private pure {
        if (word & PLACED == 0 || word & HASH_MASK != _hash(bundle)) {
            revert BundleMismatch(sessionId, connectionId, _hashOf(word));
        }
    }

    function _hash(bytes calldata bundle) private pure returns (uint256) {
        return uint256(keccak256(bundle)) & HASH_MASK;
    }

    function _hashOf(uint256 word) private pure returns (bytes25) {
        return bytes25(bytes32(word & HASH_MASK));
    }

    function _sequenceOf(uint256 word) private pure returns (uint16) {
        return uint16(word >> SEQUENCE_SHIFT);
    }
}
