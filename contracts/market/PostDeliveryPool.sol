// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {IPostDeliveryPool} from "interfaces/IPostDeliveryPool.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {TickBook} from "contracts/market/TickBook.sol";
import {Curves} from "contracts/metering/Curves.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Post-delivery pool: what members have left and what they lack is priced after delivery
/// @dev See {IPostDeliveryPool} for times, prices and the proof that the pot pays everybody.
contract PostDeliveryPool is IPostDeliveryPool, Module {
    using Curves for bytes;
    using SafeCast for uint256;
    using SafeCast for int256;
    using TickBook for TickBook.Book;

    uint256 private constant SECONDS_PER_ISP = 900;

    IGridRegistry private immutable _grid;
    IClearingHouse private immutable _clearingHouse;

    uint64 private _lastPoolId;
    mapping(uint64 poolId => Pool) private _pools;
    mapping(uint64 poolId => Terms) private _terms;
    mapping(uint64 poolId => TickBook.Book) private _books;
    mapping(uint64 poolId => mapping(bytes32 connectionId => Member)) private _members;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        IClearingHouse clearingHouse_
    ) Module(authority_, participants_) {
        _grid = grid_;
        _clearingHouse = clearingHouse_;
    }

    // ------------------------------------------------------------------ opening and joining

    /// @inheritdoc IPostDeliveryPool
    function open(
        Terms calldata terms
    ) external whenNotPaused onlyRole(IParticipantRegistry.Role.MarketOperator) returns (uint64 poolId) {
        _requireTimes(terms);
        int256 lowest = int256(terms.feedInPrice) + int256(uint256(terms.compensation));
        bool ratio = terms.mechanism == Mechanism.SupplyDemandRatio;
        if (
            terms.retailPrice <= 0 ||
            terms.feedInPrice > terms.retailPrice ||
            (ratio && (lowest <= 0 || lowest > terms.retailPrice))
        ) revert PricesInvalid(terms.feedInPrice, terms.compensation, terms.retailPrice);
        if (terms.mechanism == Mechanism.IntermediateRate && terms.retailWeightBps > Money.BPS) {
            revert WeightInvalid(terms.retailWeightBps, Money.BPS);
        }
        bytes32 area = terms.congestionPointId;
        if (area != 0 && !_grid.congestionPoint(area).active) revert IGridRegistry.CongestionPointUnknown(area);
        poolId = ++_lastPoolId;
        _terms[poolId] = terms;
        _pools[poolId].operator = msg.sender;
        _pools[poolId].surplusPrice = terms.feedInPrice;
        _books[poolId].open(_gridOf(terms));
        _clearingHouse.lock(potLockId(poolId), msg.sender, terms.budget);
        emit PoolOpened(poolId, msg.sender, terms);
    }

    function _requireTimes(Terms calldata terms) private view {
        uint256 start = terms.firstIsp * SECONDS_PER_ISP;
        uint256 end = _deliveryEnd(terms.firstIsp, terms.ispsPerPeriod, terms.periodCount);
        if (
            block.timestamp > terms.joinBy ||
            terms.joinBy > start ||
            terms.joinBy > terms.tradeBy ||
            terms.tradeBy >= terms.reportBy ||
            end >= terms.reportBy ||
            start == end
        ) revert TimesInvalid(block.timestamp, terms.joinBy, terms.tradeBy, terms.reportBy, start, end);
    }

    /// One tick unless the mechanism is the tick book, whose grid runs from the feed-in to the retail price.
    function _gridOf(Terms calldata terms) private pure returns (TickBook.Grid memory grid) {
        grid = TickBook.Grid(terms.feedInPrice, 1, 1, terms.periodCount, 1);
        if (terms.mechanism != Mechanism.TickBook) return grid;
        uint256 span = uint256(int256(terms.retailPrice) - terms.feedInPrice);
        uint256 ticks = terms.priceStep == 0 ? 0 : span / terms.priceStep + 1;
        if (ticks == 0 || ticks > TickBook.MAX_TICKS) {
            revert TickBook.GridInvalid(ticks, terms.priceStep, terms.periodCount, 1);
        }
        grid.priceStep = terms.priceStep;
        grid.tickCount = uint16(ticks);
    }

    /// @inheritdoc IPostDeliveryPool
    function join(uint64 poolId, bytes32 connectionId, uint128 deposit, uint16 buyTick, uint16 sellTick) external {
        address owner = _joiningOwner(poolId, connectionId);
        if (owner != msg.sender) revert NotOwnerOf(connectionId, msg.sender);
        _join(poolId, connectionId, owner, deposit, buyTick, sellTick);
    }

    /// @inheritdoc IPostDeliveryPool
    function joinFor(
        uint64 poolId,
        bytes32 connectionId,
        uint128 deposit,
        uint16 buyTick,
        uint16 sellTick
    ) external onlyModule {
        _join(poolId, connectionId, _joiningOwner(poolId, connectionId), deposit, buyTick, sellTick);
    }

    /// Owner of a connection that may join.
    function _joiningOwner(uint64 poolId, bytes32 connectionId) private view whenNotPaused returns (address) {
        _known(poolId);
        Terms storage terms = _terms[poolId];
        if (block.timestamp > terms.joinBy) revert JoiningOver(poolId, terms.joinBy, block.timestamp);
        IGridRegistry.Connection memory connection = _grid.connection(connectionId);
        if (!connection.active) revert IGridRegistry.ConnectionUnknown(connectionId);
        bytes32 area = terms.congestionPointId;
        if (area != 0 && area != connection.congestionPointId) {
            revert OutsideArea(connectionId, connection.congestionPointId, area);
        }
        participants.requireRole(connection.owner, IParticipantRegistry.Role.Prosumer);
        return connection.owner;
    }

    function _join(
        uint64 poolId,
        bytes32 connectionId,
        address account,
        uint128 deposit,
        uint16 buyTick,
        uint16 sellTick
    ) private {
        Member storage member = _members[poolId][connectionId];
        if (member.state != MemberState.None) revert AlreadyMember(poolId, connectionId);
        uint16 tickCount = _books[poolId].tickCount;
        if (buyTick >= tickCount) revert LimitOffGrid(buyTick, tickCount);
        if (sellTick >= tickCount) revert LimitOffGrid(sellTick, tickCount);
        member.account = account;
        member.state = MemberState.Joined;
        member.buyTick = buyTick;
        member.sellTick = sellTick;
        member.credit = deposit;
        ++_pools[poolId].members;
        ++_pools[poolId].openMembers;
        _clearingHouse.lock(potLockId(poolId), account, deposit);
        emit MemberJoined(poolId, connectionId, account, deposit, buyTick, sellTick);
    }

    // ------------------------------------------------------------------ reports

    /// @inheritdoc IPostDeliveryPool
    function record(uint64 poolId, bytes32 connectionId, bytes calldata position, uint256 credit) external onlyModule {
        Member storage member = _inState(poolId, connectionId, MemberState.Joined);
        Terms storage terms = _terms[poolId];
        uint256 end = _deliveryEnd(terms.firstIsp, terms.ispsPerPeriod, terms.periodCount);
        uint256 from = Math.max(end, uint256(terms.tradeBy) + 1);
        if (block.timestamp < from) revert ReportsNotOpen(poolId, from, block.timestamp);
        if (block.timestamp > terms.reportBy) revert ReportsOver(poolId, terms.reportBy, block.timestamp);
        member.state = MemberState.Reported;
        member.credit = credit.toUint128();
        member.positionHash = keccak256(position);
        Pool storage state = _pools[poolId];
        ++state.reports;
        if (position.length != 0) state.suppliedWh += uint128(_books[poolId].place(position).sellWh);
        emit PositionReported(poolId, connectionId, position, credit);
    }

    /// @inheritdoc IPostDeliveryPool
    function settleUnreported(uint64 poolId, bytes32 connectionId, uint256 credit, uint256 owed) external onlyModule {
        Member storage member = _inState(poolId, connectionId, MemberState.Joined);
        uint256 reportBy = _terms[poolId].reportBy;
        if (block.timestamp <= reportBy) revert ReportsDue(poolId, reportBy, block.timestamp);
        _settle(poolId, connectionId, member, credit, -owed.toInt256());
    }

    // ------------------------------------------------------------------ prices

    /// @inheritdoc IPostDeliveryPool
    function clear(uint64 poolId, uint16 first, uint16 last, uint256 maxTicks) external returns (bool finished) {
        _requirePricing(poolId);
        TickBook.Book storage book = _books[poolId];
        if (last >= book.periodCount) revert TickBook.PeriodOutsideSession(0, last, book.periodCount);
        finished = true;
        for (uint256 period = first; period <= last; ++period) {
            if (!_needsClearing(book, period)) continue;
            if (book.clear(period, maxTicks)) emit PeriodCleared(poolId, uint16(period), book.results[period]);
            else finished = false;
        }
    }

    function _needsClearing(TickBook.Book storage book, uint256 period) private view returns (bool) {
        return book.results[period] == 0 && !book.isEmpty(period);
    }

    /// @inheritdoc IPostDeliveryPool
    function fixPrices(uint64 poolId) external {
        Pool storage state = _requirePricing(poolId);
        Terms memory terms = _terms[poolId];
        bool shared = terms.mechanism != Mechanism.TickBook;
        uint256 leftWh = state.suppliedWh;
        leftWh -= shared ? _sharedWh(poolId, terms.periodCount) : _matchedWh(poolId, state.reports);
        int256 surplusPrice = terms.feedInPrice;
        if (surplusPrice > 0 && leftWh != 0) {
            uint256 affordable = (uint256(terms.budget) * Money.WH_PER_KWH) / leftWh;
            surplusPrice = int256(Math.min(uint256(surplusPrice), affordable));
        }
        bytes memory prices = shared ? _sharedPrices(poolId, terms, surplusPrice) : bytes("");
        state.priced = true;
        state.surplusPrice = int32(surplusPrice);
        if (shared) state.pricesHash = keccak256(prices);
        emit PoolPriced(poolId, int32(surplusPrice), prices);
    }

    /// Surplus that meets demand, Wh.
    function _sharedWh(uint64 poolId, uint256 periodCount) private view returns (uint256 energyWh) {
        TickBook.Book storage book = _books[poolId];
        for (uint256 period = 0; period < periodCount; ++period) {
            (uint256 demandWh, uint256 supplyWh) = book.levelOf(period, 0);
            energyWh += Math.min(demandWh, supplyWh);
        }
    }

    /// Least surplus that is matched, Wh: where sellers at the margin are rounded down, one Wh less for each report.
    function _matchedWh(uint64 poolId, uint256 reports) private view returns (uint256 energyWh) {
        TickBook.Book storage book = _books[poolId];
        TickBook.Grid memory grid = book.gridOf();
        for (uint256 period = 0; period < grid.periodCount; ++period) {
            if (_needsClearing(book, period)) revert PeriodNotCleared(poolId, period);
            TickBook.Result memory result = TickBook.unpack(grid, book.results[period]);
            uint256 lost = result.class == TickBook.Class.MarginalSeller ? reports : 0;
            energyWh += result.volumeWh - Math.min(result.volumeWh, lost);
        }
    }

    /// Prices of all periods, formulas in {IPostDeliveryPool}; 4 bytes for buyers and 4 for sellers of each period.
    function _sharedPrices(
        uint64 poolId,
        Terms memory terms,
        int256 surplusPrice
    ) private view returns (bytes memory prices) {
        TickBook.Book storage book = _books[poolId];
        prices = new bytes(8 * uint256(terms.periodCount));
        for (uint256 period = 0; period < terms.periodCount; ++period) {
            (uint256 demandWh, uint256 supplyWh) = book.levelOf(period, 0);
            (int256 buyPrice, int256 sellPrice) = _pricesOf(terms, surplusPrice, int256(demandWh), int256(supplyWh));
            uint256 pair = (uint256(uint32(int32(buyPrice))) << 32) | uint32(int32(sellPrice));
            assembly ("memory-safe") {
                // Eight of the 32 bytes before the end of the pair; what is before them was written already.
                let at := add(prices, shl(3, add(period, 1)))
                mstore(at, or(shl(64, shr(64, mload(at))), pair))
            }
        }
    }

    /// All factors are below 2^64, prices below 2^31: nothing comes near 2^255.
    function _pricesOf(
        Terms memory terms,
        int256 surplusPrice,
        int256 demandWh,
        int256 supplyWh
    ) private pure returns (int256 buyPrice, int256 sellPrice) {
        int256 retail = terms.retailPrice;
        // Price of shared energy as a fraction.
        int256 denominator = int256(Money.BPS);
        int256 weight = denominator / 2;
        if (terms.mechanism == Mechanism.IntermediateRate) weight = int256(uint256(terms.retailWeightBps));
        int256 numerator = weight * retail + (denominator - weight) * terms.feedInPrice;
        if (terms.mechanism == Mechanism.SupplyDemandRatio) {
            (numerator, denominator) = (int256(terms.feedInPrice) + int256(uint256(terms.compensation)), 1);
            if (supplyWh < demandWh) {
                denominator = (retail - numerator) * supplyWh + numerator * demandWh;
                numerator *= retail * demandWh;
            }
        }
        int256 sharedWh = demandWh < supplyWh ? demandWh : supplyWh;
        (buyPrice, sellPrice) = (retail, surplusPrice);
        if (demandWh != 0) {
            buyPrice =
                -_floorDiv(
                    -(sharedWh * numerator + (demandWh - sharedWh) * retail * denominator),
                    demandWh * denominator
                );
        }
        if (supplyWh != 0) {
            sellPrice = _floorDiv(
                sharedWh * numerator + (supplyWh - sharedWh) * surplusPrice * denominator,
                supplyWh * denominator
            );
        }
    }

    /// Rounded down also below zero. Relies on `divisor > 0`.
    function _floorDiv(int256 value, int256 divisor) private pure returns (int256 quotient) {
        quotient = value / divisor;
        if (value % divisor < 0) --quotient;
    }

    // ------------------------------------------------------------------ payment

    /// @inheritdoc IPostDeliveryPool
    function claim(uint64 poolId, bytes32 connectionId, bytes calldata position, bytes calldata prices) external {
        Pool storage state = _known(poolId);
        if (!state.priced) revert NotPriced(poolId);
        Member storage member = _inState(poolId, connectionId, MemberState.Reported);
        if (keccak256(position) != member.positionHash) {
            revert PositionMismatch(poolId, connectionId, member.positionHash);
        }
        int256 net;
        if (position.length != 0) {
            if (_terms[poolId].mechanism == Mechanism.TickBook) {
                net = _matchedMoney(poolId, position, state.surplusPrice);
            } else {
                if (keccak256(prices) != state.pricesHash) revert PricesMismatch(poolId, state.pricesHash);
                net = _sharedMoney(_books[poolId].gridOf(), position, prices);
            }
        }
        _settle(poolId, connectionId, member, member.credit, _floorDiv(net, int256(Money.WH_PER_KWH)));
    }

    /// @return money What the pool pays for a position, thousandths of a uToken.
    function _sharedMoney(
        TickBook.Grid memory grid,
        bytes calldata position,
        bytes calldata prices
    ) private pure returns (int256 money) {
        uint256 orders = TickBook.count(position);
        for (uint256 i = 0; i < orders; ++i) {
            (uint256 period, bool sell, , uint256 energyWh) = TickBook.orderAt(grid, position, i);
            int256 amount = int256(energyWh) * prices.baseline(2 * period + (sell ? 1 : 0));
            money += sell ? amount : -amount;
        }
    }

    /// As {_sharedMoney}, from the fills in the tick book.
    function _matchedMoney(
        uint64 poolId,
        bytes calldata position,
        int256 surplusPrice
    ) private view returns (int256 money) {
        TickBook.Book storage book = _books[poolId];
        TickBook.Grid memory grid = book.gridOf();
        int256 retail = _terms[poolId].retailPrice;
        uint256 periods = grid.periodCount;
        TickBook.Totals memory left = TickBook.totalsOf(grid, position);
        TickBook.Fills memory fills = TickBook.Fills(
            new uint256[](periods),
            new uint256[](periods),
            new int256[](periods)
        );
        book.addFills(grid, position, fills);
        for (uint256 period = 0; period < periods; ++period) {
            uint256 bought = fills.boughtWh[period];
            uint256 sold = fills.soldWh[period];
            money += (int256(sold) - int256(bought)) * fills.prices[period];
            left.buyWh -= bought;
            left.sellWh -= sold;
        }
        money += int256(left.sellWh) * surplusPrice - int256(left.buyWh) * retail;
    }

    function _settle(uint64 poolId, bytes32 connectionId, Member storage member, uint256 credit, int256 net) private {
        member.state = MemberState.Settled;
        --_pools[poolId].openMembers;
        uint256 payout = (credit.toInt256() + net).toUint256();
        _clearingHouse.release(potLockId(poolId), member.account, payout);
        emit MemberSettled(poolId, connectionId, member.account, net, payout);
    }

    /// @inheritdoc IPostDeliveryPool
    function close(uint64 poolId) external {
        Pool storage state = _known(poolId);
        uint256 joinBy = _terms[poolId].joinBy;
        if (block.timestamp <= joinBy) revert ReportsDue(poolId, joinBy, block.timestamp);
        if (state.openMembers != 0) revert MembersOpen(poolId, state.openMembers);
        if (state.closed) revert AlreadyClosed(poolId);
        state.closed = true;
        bytes32 lockId = potLockId(poolId);
        uint256 residual = _clearingHouse.lockOf(lockId);
        _clearingHouse.release(lockId, state.operator, residual);
        emit PoolClosed(poolId, state.operator, residual);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IPostDeliveryPool
    function termsOf(uint64 poolId) external view returns (Terms memory) {
        _known(poolId);
        return _terms[poolId];
    }

    /// @inheritdoc IPostDeliveryPool
    function pool(uint64 poolId) external view returns (Pool memory) {
        return _pools[poolId];
    }

    /// @inheritdoc IPostDeliveryPool
    function memberOf(uint64 poolId, bytes32 connectionId) external view returns (Member memory) {
        return _members[poolId][connectionId];
    }

    /// @inheritdoc IPostDeliveryPool
    function levelOf(
        uint64 poolId,
        uint16 period,
        uint16 tick
    ) external view returns (uint256 demandWh, uint256 supplyWh) {
        if (period >= TickBook.MAX_PERIODS || tick >= TickBook.MAX_TICKS) return (0, 0);
        return _books[poolId].levelOf(period, tick);
    }

    /// @inheritdoc IPostDeliveryPool
    function potLockId(uint64 poolId) public pure returns (bytes32) {
        return keccak256(abi.encode("PostDeliveryPool.pot", poolId));
    }

    // ------------------------------------------------------------------ guards

    function _known(uint64 poolId) private view returns (Pool storage state) {
        state = _pools[poolId];
        if (state.operator == address(0)) revert PoolUnknown(poolId);
    }

    function _inState(
        uint64 poolId,
        bytes32 connectionId,
        MemberState needed
    ) private view returns (Member storage member) {
        member = _members[poolId][connectionId];
        if (member.state != needed) revert WrongState(poolId, connectionId, member.state, needed);
    }

    /// Prices can be fixed when nothing can be reported any more: past the deadline, or when all have reported.
    function _requirePricing(uint64 poolId) private view returns (Pool storage state) {
        state = _known(poolId);
        uint256 reportBy = _terms[poolId].reportBy;
        bool complete = state.reports == state.members && block.timestamp > _terms[poolId].joinBy;
        if (block.timestamp <= reportBy && !complete) revert ReportsDue(poolId, reportBy, block.timestamp);
        if (state.priced) revert AlreadyPriced(poolId);
    }

    /// Of the three fields and not of the terms, which would be copied to memory as a whole.
    function _deliveryEnd(uint256 firstIsp, uint256 ispsPerPeriod, uint256 periodCount) private pure returns (uint256) {
        return (firstIsp + ispsPerPeriod * periodCount) * SECONDS_PER_ISP;
    }
}
