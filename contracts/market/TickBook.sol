// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Money} from "contracts/clearinghouse/Money.sol";

/// @title Tick book: uniform-price double auctions whose cost to clear does not grow with the number of orders
/// @notice One logical book per delivery period; the books of a session share one price grid. Twin of
/// `offchain/market/clearing.py`. Source: eDREAM D2.2 and D2.5, HL-UC02_LL-UC03 (supply ascending and demand
/// descending, aggregated; the price is where the two curves intersect). Decision 0030.
///
/// @dev **Grid.** `price(tick) = basePrice + tick * priceStep`, micro-token per kWh, signed, 0 <= tick < tickCount.
///
/// **Levels.** The quantities of a tick lie in one slot, which two neighbouring delivery periods share, so that a
/// trader with one limit price for many hours touches half as many slots:
///
///   bits       field            unit   bound
///   0 .. 63    demand, period 2k      Wh  2^64 - 1, checked
///   64 .. 127  supply, period 2k      Wh  2^64 - 1, checked
///   128 .. 191 demand, period 2k + 1  Wh  2^64 - 1, checked
///   192 .. 255 supply, period 2k + 1  Wh  2^64 - 1, checked         sum 256
///
/// **Bitmaps.** Per period 16 words of 256 ticks; a bit is set while either side of its tick is not zero. Above them
/// 16 bits a period, one for each word that is not zero; 16 periods share a slot of these.
///
/// **Bundles.** 8 bytes an order, big endian, at byte 8i:
///
///   bits       field                  unit      bound
///   63 .. 56   delivery period        index     < periodCount
///   55 .. 49   reserved               -         zero
///   48         side                   flag      0 buy, 1 sell
///   47 .. 32   limit price            tick      < tickCount
///   31 .. 0    quantity               Wh        minQuantityWh .. 2^32 - 1     sum 64
///
/// An order that breaks a bound is an error with its position: a bundle has one meaning, or none.
///
/// **Clearing.** Let S(p) be the supply with limit <= p and D(p) the demand with limit >= p, S-(p) and D+(p) the same
/// without the tick p itself. Matched volume V = max over p of min(S(p), D(p)). A price p is an equilibrium when some
/// choice at the margin makes both sides equal: S-(p) <= D(p) and D+(p) <= S(p). Let, for V > 0,
///   a = lowest tick with S(a) >= V    (sellTick, the last seller needed)
///   b = highest tick with D(b) >= V   (buyTick, the last buyer needed).
/// At the p that attains V, S(p) and D(p) are both at least V, so a <= p <= b. S(a) > V and D(b) > V cannot both hold:
/// then min(S(a), D(a)) >= min(S(a), D(b)) > V. That leaves three classes.
///
/// - MarginalSeller, S(a) > V = D(b). D(a) = V: it is at least D(b), and more would give min(S(a), D(a)) > V.
///   Price a is an equilibrium: S-(a) < V <= D(a), D+(a) <= V < S(a). No other is: above a, S-(p) >= S(a) > V >= D(p);
///   below a, S(p) < V = D(a) <= D+(p). The sellers at a are rationed: V - S-(a) out of the supply at a.
/// - MarginalBuyer, D(b) > V = S(a). The mirror image: b is the only equilibrium, the buyers at b are rationed.
/// - Exact, S(a) = V = D(b). Nobody is rationed. With c = the next tick above a with supply, d = the next tick below
///   b with demand (c > d, else both sides would pass V at c), the equilibria are [max(a, d), min(b, c)]: within,
///   S-(p) <= V <= D(p) and D+(p) <= V <= S(p); above b, D(p) < V <= S-(p); above c, S-(p) > V, and D(p) = V since
///   p > d; below the interval likewise.
///
/// Price rule: the midpoint of the equilibrium interval, rounded down to a micro-token (a k-double auction, k = 1/2).
/// In the first two classes the interval is one tick. Rounding down stays inside it, as its lower end is an integer.
/// V = 0 is class None (an empty or one-sided book, all bids below all offers): no price, no fills. Equal limits on
/// both sides are a = b = price; empty gaps in the grid only widen the interval; ticks emptied by {remove} have no bit.
///
/// Nobody is filled worse than the limit: whoever is filled sells at a tick <= a <= price or buys at one >= b >= price.
/// Who is not filled at all has a limit no better than the price.
///
/// **Pro rata at the margin.** With ration n / m, a rationed order of q gets q n / m, rounded up to ceil(q n / m) <= q
/// when its side pays and down when its side is paid, so that what comes in is never less than what goes out. At a
/// price >= 0 buyers pay, below zero sellers do. The rationed side's price is that of its own tick. All others of the
/// matched ticks are filled whole and sum up to V on the other side. Let N be the number of orders at the marginal tick
/// (0 unless rationed), then, in Wh and in every class,
///   residual = bought - sold,   0 <= residual < max(N, 1) at a price >= 0,   -max(N, 1) < residual <= 0 below zero.
/// The residual is energy that one side paid for and the other was not paid for: the balancing account sells it at a
/// price >= 0 and takes it, being paid for that, below zero. It never costs the balancing account money.
/// Rounding up favours orders in pieces (of 1 Wh each, all are filled), so a session sets a smallest quantity: a piece
/// gains less than 1 Wh of it.
/// Worked, price 0.20: sellers of 100, 100 and 100 Wh at a, 200 Wh left for them: n / m = 200 / 300, 66 Wh each,
/// residual 2 Wh. At -0.20 they pay: 67 Wh each, residual -1 Wh.
///
/// **Walk.** One pointer climbs from the lowest tick and absorbs supply, one descends from the highest and absorbs
/// demand; the side with less absorbed goes on, supply on a tie. They end on the same tick, so every occupied tick is
/// read once (a tick with both sides perhaps twice, the second time warm). When they meet:
/// - demand was only absorbed while less than supply, so the last tick with absorbed demand is b;
/// - supply was absorbed while not more than demand, so the last tick with absorbed supply is a, unless what was
///   absorbed before it equals D already: then it was not needed, is c, and the one before it is a;
/// - ticks that the climbing pointer passed with demand are below b, the highest of them is d. (The descending pointer
///   can still reach its tick t only when supply at t was absorbed; then a = b = t and d = t changes nothing.)
/// Gas: about 57,000 once, 2,800 a tick, 2,500 for each further bitmap word of 256 ticks; the same for any number of
/// orders.
///
/// **What the caller sees to.** Who may place and remove which bundle (the book knows sums, not owners), that escrow is
/// held, and that a stored result is not used once its book changed: clear again. The book itself refuses changes while
/// a clearing stands unfinished.
///
/// **Escrow of a bundle.** The sum of {worstCaseCost} over its orders, which {place} and {remove} return. It is additive:
/// taking a part of a bundle off the book frees exactly what that part had locked.
library TickBook {
    /// Ticks of the largest grid.
    uint256 internal constant MAX_TICKS = 4096;
    /// Delivery periods of the longest session.
    uint256 internal constant MAX_PERIODS = 256;
    /// Calldata bytes of one order.
    uint256 internal constant ORDER_BYTES = 8;

    uint256 private constant LANE = 0xffffffffffffffff;
    uint256 private constant TICK_MASK = 0xfff;
    uint256 private constant RESERVED = 0x00fe000000000000;

    enum Class {
        /// Never cleared.
        Open,
        /// Nothing can be matched.
        None,
        /// The sellers at `sellTick` are rationed and their limit is the price.
        MarginalSeller,
        /// The buyers at `buyTick` are rationed and their limit is the price.
        MarginalBuyer,
        /// Nobody is rationed; the price is the midpoint of the equilibrium interval.
        Exact
    }

    /// Books of one session. The first six fields share a slot, which every call reads.
    struct Book {
        /// Price of tick 0, micro-token per kWh.
        int64 basePrice;
        /// Between two ticks, micro-token per kWh.
        uint32 priceStep;
        uint16 tickCount;
        uint16 periodCount;
        /// Smallest quantity of an order, Wh, at least 1.
        uint32 minQuantityWh;
        /// Periods whose clearing was begun and not finished.
        uint16 unfinished;
        uint256[MAX_PERIODS / 16] summaries;
        uint256[16][MAX_PERIODS] words;
        uint256[MAX_TICKS][MAX_PERIODS / 2] levels;
        uint256[MAX_PERIODS] results;
        uint256[MAX_PERIODS] cursors;
    }

    struct Grid {
        int64 basePrice;
        uint32 priceStep;
        uint16 tickCount;
        uint16 periodCount;
        uint32 minQuantityWh;
    }

    /// Sums over the orders of a bundle.
    struct Totals {
        /// Of {worstCaseCost}, micro-token.
        uint256 cost;
        uint256 buyWh;
        uint256 sellWh;
        /// One more than the last period with a sell order; zero: none.
        uint256 sellEnd;
    }

    /// Where a clearing stands. Packed in storage, between the calls of a clearing that takes several: in this order
    /// from bit 0, the sums 80 bits each, the ticks 16 each; sum 256.
    struct Cursor {
        /// Absorbed so far, Wh; at most MAX_TICKS lanes, below 2^76.
        uint256 supplyWh;
        uint256 demandWh;
        /// Lowest tick that the climbing pointer has not passed.
        uint256 low;
        /// Lowest tick that the descending pointer has passed, MAX_TICKS at first; zero: no clearing under way.
        uint256 high;
        /// Last tick with absorbed supply, and the one before it.
        uint256 sellTick;
        uint256 priorSellTick;
        /// Last tick with absorbed demand.
        uint256 buyTick;
        /// Highest tick that the climbing pointer passed and that has demand.
        uint256 bidBelow;
    }

    /// Bits of the bitmaps that the two pointers have not reached.
    struct Ahead {
        /// Word that the climbing pointer is in, and words above it.
        uint256 upIndex;
        uint256 upBits;
        uint256 upWords;
        /// Word that the descending pointer is in, and words below it.
        uint256 downIndex;
        uint256 downBits;
        uint256 downWords;
    }

    /// Result of a period. Packed in storage from bit 0: class 4, lowTick 12, highTick 12, sellTick 12, buyTick 12,
    /// rationNumerator 64, rationDenominator 64, volumeWh 76; sum 256.
    struct Result {
        Class class;
        /// Micro-token per kWh; zero without meaning in class None.
        int256 price;
        /// Matched volume V, below 2^76.
        uint256 volumeWh;
        /// a and b of the derivation above.
        uint256 sellTick;
        uint256 buyTick;
        /// Ends of the equilibrium interval.
        uint256 lowTick;
        uint256 highTick;
        /// Share of the rationed ticks that is filled, on the side that `class` names; 0 / 0 when nobody is rationed.
        uint256 rationNumerator;
        uint256 rationDenominator;
    }

    error BookAlreadyOpen();
    /// The grid has no tick, more than MAX_TICKS, no step, no period, more than MAX_PERIODS, or no smallest quantity.
    error GridInvalid(uint256 tickCount, uint256 priceStep, uint256 periodCount, uint256 minQuantityWh);
    error BundleLength(uint256 length);
    error PeriodOutsideSession(uint256 position, uint256 period, uint256 periodCount);
    error TickOffGrid(uint256 position, uint256 tick, uint256 tickCount);
    error ReservedBitsSet(uint256 position);
    error QuantityTooSmall(uint256 position, uint256 quantityWh, uint256 minQuantityWh);
    error TickFull(uint256 position, uint256 presentWh, uint256 quantityWh);
    error NotInBook(uint256 position, uint256 presentWh, uint256 quantityWh);
    error ClearingUnfinished(uint256 periods);
    error NotCleared(uint256 period);

    /// @notice Fixes the price grid and the periods of a session's books.
    function open(Book storage book, Grid memory grid) internal {
        if (book.periodCount != 0) revert BookAlreadyOpen();
        requireValid(grid);
        book.basePrice = grid.basePrice;
        book.priceStep = grid.priceStep;
        book.tickCount = grid.tickCount;
        book.periodCount = grid.periodCount;
        book.minQuantityWh = grid.minQuantityWh;
    }

    function requireValid(Grid memory grid) internal pure {
        bool valid = grid.tickCount != 0 && grid.tickCount <= MAX_TICKS && grid.priceStep != 0;
        if (!valid || grid.periodCount == 0 || grid.periodCount > MAX_PERIODS || grid.minQuantityWh == 0) {
            revert GridInvalid(grid.tickCount, grid.priceStep, grid.periodCount, grid.minQuantityWh);
        }
    }

    /// @notice Price of a tick, micro-token per kWh.
    function priceOf(Grid memory grid, uint256 tick) internal pure returns (int256) {
        unchecked {
            return int256(grid.basePrice) + int256(tick * uint256(grid.priceStep)); // below 2^63 + 2^48
        }
    }

    /// @notice Most that an order can cost whoever placed it, micro-token: the escrow of the order.
    /// @dev A buyer filled with f <= q Wh at p <= limit pays ceil(f p) <= ceil(q max(limit, 0)), or is paid when p < 0.
    /// A seller filled with f <= q Wh at p >= limit pays only when p < 0, ceil(f |p|) <= ceil(q max(-limit, 0)).
    /// Rounded up for each order, so a bundle's sum also covers a settlement that rounds once for all of them.
    /// Below 2^32 * 2^64: bundles cannot overflow a sum of these.
    function worstCaseCost(int256 limitPrice, uint256 quantityWh, bool sell) internal pure returns (uint256 utoken) {
        unchecked {
            if (sell) limitPrice = -limitPrice;
            // Money.costUp without its overflow checks, a third of the computation of an order. Relies on
            // `quantityWh < 2^32` and `|limitPrice| < 2^64`.
            if (limitPrice > 0) {
                utoken = (quantityWh * uint256(limitPrice) + Money.WH_PER_KWH - 1) / Money.WH_PER_KWH;
            }
        }
    }

    /// @notice Number of orders in a bundle.
    function count(bytes calldata bundle) internal pure returns (uint256) {
        if (bundle.length % ORDER_BYTES != 0 || bundle.length == 0) revert BundleLength(bundle.length);
        return bundle.length / ORDER_BYTES;
    }

    /// @notice Order at a position of a bundle. Relies on `position < count(bundle)`.
    function orderAt(
        Grid memory grid,
        bytes calldata bundle,
        uint256 position
    ) internal pure returns (uint256 period, bool sell, uint256 tick, uint256 quantityWh) {
        bool valid;
        assembly ("memory-safe") {
            let word := shr(192, calldataload(add(bundle.offset, shl(3, position))))
            period := shr(56, word)
            sell := and(shr(48, word), 1)
            tick := and(shr(32, word), 0xffff)
            quantityWh := and(word, 0xffffffff)
            // tickCount, periodCount and minQuantityWh are the third to the fifth field of the grid.
            valid := and(lt(tick, mload(add(grid, 0x40))), lt(period, mload(add(grid, 0x60))))
            valid := and(valid, iszero(or(and(word, RESERVED), lt(quantityWh, mload(add(grid, 0x80))))))
        }
        if (!valid) _refuse(grid, bundle, position);
    }

    /// Reverts with the bound that the order at a position breaks.
    function _refuse(Grid memory grid, bytes calldata bundle, uint256 position) private pure {
        uint256 word = uint64(bytes8(bundle[position * ORDER_BYTES:]));
        uint256 tick = uint16(word >> 32);
        if (word >> 56 >= grid.periodCount) revert PeriodOutsideSession(position, word >> 56, grid.periodCount);
        if (word & RESERVED != 0) revert ReservedBitsSet(position);
        if (tick >= grid.tickCount) revert TickOffGrid(position, tick, grid.tickCount);
        revert QuantityTooSmall(position, uint32(word), grid.minQuantityWh);
    }

    /// @notice Adds the orders of a bundle to their books.
    /// @dev Neighbouring orders of one slot are stored together.
    function place(Book storage book, bytes calldata bundle) internal returns (Totals memory totals) {
        totals = totalsOf(changeableGrid(book), bundle);
        uint256[MAX_TICKS][MAX_PERIODS / 2] storage levels = book.levels;
        uint256 orders = bundle.length / ORDER_BYTES;
        uint256 slot;
        uint256 level;
        for (uint256 i = 0; i < orders;) {
            uint256 word;
            uint256 shift;
            uint256 present;
            bool vacant;
            assembly ("memory-safe") {
                // {totalsOf} checked the order; {_laneOf} written out.
                word := shr(192, calldataload(add(bundle.offset, shl(3, i))))
                let next := add(levels.slot, or(shl(12, shr(57, word)), and(shr(32, word), TICK_MASK)))
                if iszero(eq(next, slot)) {
                    if slot {
                        sstore(slot, level)
                    }
                    slot := next
                    level := sload(slot)
                }
                let pair := shl(7, and(shr(56, word), 1))
                vacant := iszero(shl(128, shr(pair, level)))
                shift := or(pair, shl(6, and(shr(48, word), 1)))
                present := and(shr(shift, level), LANE)
                level := add(level, shl(shift, and(word, 0xffffffff)))
            }
            unchecked {
                if (present + uint32(word) > LANE) revert TickFull(i, present, uint32(word));
                if (vacant) _occupy(book, word >> 56, uint16(word >> 32));
                ++i;
            }
        }
        assembly ("memory-safe") {
            sstore(slot, level)
        }
    }

    /// @notice Takes the orders of a bundle that {place} added off their books: cancelled or replaced.
    /// @return totals As {place} returned them.
    function remove(Book storage book, bytes calldata bundle) internal returns (Totals memory totals) {
        Grid memory grid = changeableGrid(book);
        uint256 orders = count(bundle);
        unchecked {
            for (uint256 i = 0; i < orders; ++i) removeAt(book, grid, bundle, i, totals);
        }
    }

    /// @notice Takes one order of a bundle that {place} added off its book: a rejected match. Relies on
    /// `position < count(bundle)` and on a grid that {changeableGrid} gave.
    /// @param totals The order is added to these.
    /// @return period Its book, which has to be cleared again.
    function removeAt(
        Book storage book,
        Grid memory grid,
        bytes calldata bundle,
        uint256 position,
        Totals memory totals
    ) internal returns (uint256 period) {
        bool sell;
        uint256 tick;
        uint256 quantityWh;
        (period, sell, tick, quantityWh) = orderAt(grid, bundle, position);
        _subtract(book, position, period, sell, tick, quantityWh);
        _count(totals, grid, period, sell, tick, quantityWh);
    }

    /// @notice Sums over the orders of a bundle that need not be in the book, each of them checked.
    /// @dev {orderAt} and {worstCaseCost} written out: half of the computation of an order otherwise.
    function totalsOf(Grid memory grid, bytes calldata bundle) internal pure returns (Totals memory totals) {
        uint256 orders = count(bundle);
        uint256 bad = orders;
        assembly ("memory-safe") {
            let cost := 0
            for {
                let i := 0
            } lt(i, orders) {
                i := add(i, 1)
            } {
                let word := shr(192, calldataload(add(bundle.offset, shl(3, i))))
                let tick := and(shr(32, word), 0xffff)
                let quantityWh := and(word, 0xffffffff)
                // tickCount, periodCount and minQuantityWh are the third to the fifth field of the grid.
                let valid := and(lt(tick, mload(add(grid, 0x40))), lt(shr(56, word), mload(add(grid, 0x60))))
                if iszero(and(valid, iszero(or(and(word, RESERVED), lt(quantityWh, mload(add(grid, 0x80))))))) {
                    bad := i
                    break
                }
                let price := add(mload(grid), mul(tick, mload(add(grid, 0x20))))
                let sell := and(shr(48, word), 1)
                if sell {
                    price := sub(0, price)
                    if iszero(lt(shr(56, word), mload(add(totals, 0x60)))) {
                        mstore(add(totals, 0x60), add(shr(56, word), 1)) // sellEnd
                    }
                }
                if sgt(price, 0) {
                    cost := add(cost, div(add(mul(quantityWh, price), 999), 1000))
                }
                let side := add(totals, add(0x20, shl(5, sell))) // buyWh or sellWh
                mstore(side, add(mload(side), quantityWh))
            }
            mstore(totals, cost)
        }
        if (bad != orders) _refuse(grid, bundle, bad);
    }

    /// Adds an order to sums. Fields of the memory structs by their place: the third of the computation of an order.
    function _count(
        Totals memory totals,
        Grid memory grid,
        uint256 period,
        bool sell,
        uint256 tick,
        uint256 quantityWh
    ) private pure {
        uint256 cost = worstCaseCost(priceOf(grid, tick), quantityWh, sell);
        assembly ("memory-safe") {
            mstore(totals, add(mload(totals), cost))
            let side := add(totals, add(0x20, shl(5, sell))) // buyWh or sellWh
            mstore(side, add(mload(side), quantityWh))
            if sell {
                let sellEnd := add(totals, 0x60)
                if iszero(lt(period, mload(sellEnd))) {
                    mstore(sellEnd, add(period, 1))
                }
            }
        }
    }

    /// @notice Clears a period, or goes on with it, reading at most `maxTicks` ticks.
    /// @dev Any split over several calls gives the same result. A finished clearing can be repeated.
    /// @return finished Whether the result is stored now.
    function clear(Book storage book, uint256 period, uint256 maxTicks) internal returns (bool finished) {
        if (period >= book.periodCount) revert PeriodOutsideSession(0, period, book.periodCount);
        uint256 packed = book.cursors[period];
        Cursor memory at = _unpackCursor(packed);
        if (packed == 0) at.high = MAX_TICKS;
        finished = _walk(book, period, at, maxTicks);
        if (finished) {
            book.results[period] = _resultOf(book, period, at);
            if (packed != 0) {
                book.cursors[period] = 0;
                --book.unfinished;
            }
        } else {
            book.cursors[period] = _packCursor(at);
            if (packed == 0) ++book.unfinished;
        }
    }

    /// @notice Result of a period as it was cleared last.
    function resultOf(Book storage book, uint256 period) internal view returns (Result memory result) {
        Grid memory grid = gridOf(book);
        if (period >= grid.periodCount) revert PeriodOutsideSession(0, period, grid.periodCount);
        return unpack(grid, book.results[period]);
    }

    /// @notice What each order of a bundle gets, Wh, from the stored results of its periods.
    function fills(Book storage book, bytes calldata bundle) internal view returns (uint256[] memory filledWh) {
        Grid memory grid = gridOf(book);
        filledWh = new uint256[](count(bundle));
        for (uint256 i = 0; i < filledWh.length; ++i) (, , filledWh[i], ) = fillAt(book, grid, bundle, i);
    }

    /// @notice What the order at a position of a bundle gets. Relies on `position < count(bundle)`.
    /// @return period Its delivery period.
    /// @return sell Its side.
    /// @return filledWh Filled quantity, Wh.
    /// @return packed Stored result of its period, which {unpack} opens.
    function fillAt(
        Book storage book,
        Grid memory grid,
        bytes calldata bundle,
        uint256 position
    ) internal view returns (uint256 period, bool sell, uint256 filledWh, uint256 packed) {
        uint256[MAX_PERIODS] storage results = book.results;
        bool valid;
        assembly ("memory-safe") {
            // {orderAt} written out.
            let word := shr(192, calldataload(add(bundle.offset, shl(3, position))))
            let tick := and(shr(32, word), 0xffff)
            period := shr(56, word)
            sell := and(shr(48, word), 1)
            filledWh := and(word, 0xffffffff)
            valid := and(lt(tick, mload(add(grid, 0x40))), lt(period, mload(add(grid, 0x60))))
            valid := and(valid, iszero(or(and(word, RESERVED), lt(filledWh, mload(add(grid, 0x80))))))
            packed := sload(add(results.slot, period))
            let class := and(packed, 0xf)
            let last := and(shr(sub(40, mul(12, sell)), packed), TICK_MASK) // sellTick or buyTick
            switch eq(tick, last)
            case 0 {
                if xor(lt(tick, last), sell) {
                    filledWh := 0
                }
            }
            default {
                // MarginalBuyer, or MarginalSeller
                if eq(class, sub(3, sell)) {
                    // basePrice and priceStep are the first two fields of the grid.
                    let price := add(mload(grid), mul(tick, mload(add(grid, 0x20))))
                    let pays := eq(sell, slt(price, 0))
                    // Below 2^96 + 2^64; the denominator is not zero in these classes.
                    let denominator := and(shr(116, packed), LANE)
                    filledWh := mul(filledWh, and(shr(52, packed), LANE))
                    filledWh := div(add(filledWh, mul(sub(denominator, 1), pays)), denominator)
                }
            }
            if eq(class, 1) {
                filledWh := 0 // None
            }
        }
        if (!valid) _refuse(grid, bundle, position);
        if (packed == 0) revert NotCleared(period);
    }

    function unpack(Grid memory grid, uint256 packed) internal pure returns (Result memory result) {
        result.class = Class(packed & 0xf);
        result.lowTick = (packed >> 4) & TICK_MASK;
        result.highTick = (packed >> 16) & TICK_MASK;
        result.sellTick = (packed >> 28) & TICK_MASK;
        result.buyTick = (packed >> 40) & TICK_MASK;
        result.rationNumerator = (packed >> 52) & LANE;
        result.rationDenominator = (packed >> 116) & LANE;
        result.volumeWh = packed >> 180;
        if (result.class > Class.None) result.price = clearingPrice(grid, packed);
    }

    /// @notice Price of a stored result, micro-token per kWh; without meaning in the classes Open and None.
    function clearingPrice(Grid memory grid, uint256 packed) internal pure returns (int256) {
        unchecked {
            // The offset from tick 0 is not negative, so that dividing it rounds the price down whatever its sign.
            uint256 lowPlusHigh = ((packed >> 4) & TICK_MASK) + ((packed >> 16) & TICK_MASK);
            return int256(grid.basePrice) + int256((lowPlusHigh * grid.priceStep) / 2);
        }
    }

    function gridOf(Book storage book) internal view returns (Grid memory) {
        return Grid(book.basePrice, book.priceStep, book.tickCount, book.periodCount, book.minQuantityWh);
    }

    /// @notice The grid, unless a clearing stands unfinished.
    function changeableGrid(Book storage book) internal view returns (Grid memory) {
        if (book.unfinished != 0) revert ClearingUnfinished(book.unfinished);
        return gridOf(book);
    }

    /// @notice Whether no order of a period is in the book.
    function isEmpty(Book storage book, uint256 period) internal view returns (bool) {
        return uint16(book.summaries[period >> 4] >> ((period & 15) << 4)) == 0;
    }

    /// @notice Demand and supply at a tick, Wh.
    function levelOf(
        Book storage book,
        uint256 period,
        uint256 tick
    ) internal view returns (uint256 demandWh, uint256 supplyWh) {
        uint256 sides = _sidesOf(book.levels[period >> 1][tick], period);
        return (sides & LANE, sides >> 64);
    }

    function _subtract(
        Book storage book,
        uint256 position,
        uint256 period,
        bool sell,
        uint256 tick,
        uint256 quantityWh
    ) private {
        (uint256 slot, uint256 level, uint256 shift) = _laneOf(book, period, sell, tick);
        uint256 present = (level >> shift) & LANE;
        if (present < quantityWh) revert NotInBook(position, present, quantityWh);
        unchecked {
            level -= quantityWh << shift;
        }
        assembly ("memory-safe") {
            sstore(slot, level)
        }
        if (present == quantityWh && _sidesOf(level, period) == 0) _vacate(book, period, tick);
    }

    /// Slot of a tick, what it holds, and where the lane of a period and side begins in it.
    function _laneOf(
        Book storage book,
        uint256 period,
        bool sell,
        uint256 tick
    ) private view returns (uint256 slot, uint256 level, uint256 shift) {
        slot = _slotOf(book, period, tick);
        shift = _shiftOf(period, sell);
        assembly ("memory-safe") {
            level := sload(slot)
        }
    }

    /// The caller checked `period` and `tick`: the array is not asked to do it again.
    function _slotOf(Book storage book, uint256 period, uint256 tick) private view returns (uint256 slot) {
        uint256[MAX_TICKS][MAX_PERIODS / 2] storage levels = book.levels;
        assembly ("memory-safe") {
            slot := add(levels.slot, or(shl(12, shr(1, period)), tick))
        }
    }

    function _shiftOf(uint256 period, bool sell) private pure returns (uint256 shift) {
        assembly ("memory-safe") {
            shift := or(shl(7, and(period, 1)), shl(6, sell))
        }
    }

    /// Both sides of one of the two periods in a slot.
    function _sidesOf(uint256 level, uint256 period) private pure returns (uint256) {
        return uint128(level >> ((period & 1) << 7));
    }

    function _occupy(Book storage book, uint256 period, uint256 tick) private {
        uint256 word = book.words[period][tick >> 8];
        if (word == 0) book.summaries[period >> 4] |= 1 << (((period & 15) << 4) | (tick >> 8));
        book.words[period][tick >> 8] = word | (1 << (tick & 255));
    }

    function _vacate(Book storage book, uint256 period, uint256 tick) private {
        uint256 word = book.words[period][tick >> 8] ^ (1 << (tick & 255));
        book.words[period][tick >> 8] = word;
        if (word == 0) book.summaries[period >> 4] ^= 1 << (((period & 15) << 4) | (tick >> 8));
    }

    function _aheadOf(Book storage book, uint256 period, Cursor memory at) private view returns (Ahead memory ahead) {
        uint256 words = uint16(book.summaries[period >> 4] >> ((period & 15) << 4));
        ahead.upWords = words;
        ahead.downWords = words;
        if (at.low != 0) {
            ahead.upIndex = at.low >> 8;
            ahead.upWords = (words >> (ahead.upIndex + 1)) << (ahead.upIndex + 1);
            if (at.low != MAX_TICKS) {
                ahead.upBits = (book.words[period][ahead.upIndex] >> (at.low & 255)) << (at.low & 255);
            }
        }
        if (at.high != MAX_TICKS) {
            ahead.downIndex = at.high >> 8;
            ahead.downWords = words & ((1 << ahead.downIndex) - 1);
            ahead.downBits = book.words[period][ahead.downIndex] & ((1 << (at.high & 255)) - 1);
        }
    }

    /// Moves the pointers by at most `maxTicks` ticks.
    /// @return met Whether they met: all ticks are read.
    function _walk(
        Book storage book,
        uint256 period,
        Cursor memory at,
        uint256 maxTicks
    ) private view returns (bool met) {
        Ahead memory ahead = _aheadOf(book, period, at);
        unchecked {
            // Sums are below 2^76 and ticks below 2^12.
            for (; at.low <= at.high; --maxTicks) {
                if (at.supplyWh <= at.demandWh) {
                    if (ahead.upBits == 0) {
                        if (ahead.upWords == 0) return true;
                        ahead.upIndex = _lowestBit(ahead.upWords);
                        ahead.upWords &= ahead.upWords - 1;
                        ahead.upBits = book.words[period][ahead.upIndex];
                    }
                    uint256 tick = (ahead.upIndex << 8) | _lowestBit(ahead.upBits);
                    if (tick > at.high) return true;
                    if (maxTicks == 0) return false;
                    ahead.upBits &= ahead.upBits - 1;
                    (, uint256 level, ) = _laneOf(book, period, false, tick);
                    uint256 sides = _sidesOf(level, period);
                    if (sides > LANE) {
                        at.priorSellTick = at.sellTick;
                        at.sellTick = tick;
                        at.supplyWh += sides >> 64;
                    }
                    if (sides & LANE != 0 && tick < at.high) at.bidBelow = tick;
                    at.low = tick + 1;
                } else {
                    if (maxTicks == 0) return false;
                    // There is a tick further down: the one that the climbing pointer stands on.
                    if (ahead.downBits == 0) {
                        ahead.downIndex = Math.log2(ahead.downWords);
                        ahead.downWords ^= 1 << ahead.downIndex;
                        ahead.downBits = book.words[period][ahead.downIndex];
                    }
                    uint256 bit = Math.log2(ahead.downBits);
                    ahead.downBits ^= 1 << bit;
                    uint256 tick = (ahead.downIndex << 8) | bit;
                    (, uint256 level, uint256 shift) = _laneOf(book, period, false, tick);
                    uint256 demandWh = (level >> shift) & LANE;
                    if (demandWh != 0) {
                        at.buyTick = tick;
                        at.demandWh += demandWh;
                    }
                    at.high = tick;
                }
            }
        }
        return true;
    }

    function _lowestBit(uint256 bits) private pure returns (uint256) {
        unchecked {
            return Math.log2(bits & (~bits + 1));
        }
    }

    function _packCursor(Cursor memory at) private pure returns (uint256) {
        uint256 ticks = at.low | (at.high << 16) | (at.sellTick << 32);
        ticks |= (at.priorSellTick << 48) | (at.buyTick << 64) | (at.bidBelow << 80);
        return at.supplyWh | (at.demandWh << 80) | (ticks << 160);
    }

    function _unpackCursor(uint256 packed) private pure returns (Cursor memory) {
        return
            Cursor(
                uint80(packed),
                uint80(packed >> 80),
                uint16(packed >> 160),
                uint16(packed >> 176),
                uint16(packed >> 192),
                uint16(packed >> 208),
                uint16(packed >> 224),
                packed >> 240
            );
    }

    /// Packed result of pointers that met; each branch is one class of the derivation above.
    function _resultOf(Book storage book, uint256 period, Cursor memory at) private view returns (uint256) {
        uint256 supply = at.supplyWh;
        uint256 demand = at.demandWh;
        if (supply == 0 || demand == 0) return uint256(Class.None);
        uint256 sellTick = at.sellTick;
        uint256 nextSellTick = at.buyTick;
        if (supply > demand) {
            (, uint256 atTick) = levelOf(book, period, sellTick);
            uint256 left = demand - (supply - atTick);
            if (left != 0) {
                return _pack(Class.MarginalSeller, sellTick, sellTick, sellTick, at.buyTick, left, atTick, demand);
            }
            nextSellTick = Math.min(nextSellTick, sellTick);
            sellTick = at.priorSellTick;
        } else if (demand > supply) {
            (uint256 atTick, ) = levelOf(book, period, at.buyTick);
            uint256 left = supply - (demand - atTick);
            return _pack(Class.MarginalBuyer, at.buyTick, at.buyTick, sellTick, at.buyTick, left, atTick, supply);
        }
        uint256 low = Math.max(sellTick, at.bidBelow);
        return _pack(Class.Exact, low, nextSellTick, sellTick, at.buyTick, 0, 0, demand);
    }

    function _pack(
        Class class,
        uint256 lowTick,
        uint256 highTick,
        uint256 sellTick,
        uint256 buyTick,
        uint256 numerator,
        uint256 denominator,
        uint256 volumeWh
    ) private pure returns (uint256) {
        uint256 ticks = (lowTick << 4) | (highTick << 16) | (sellTick << 28) | (buyTick << 40);
        return uint256(class) | ticks | (numerator << 52) | (denominator << 116) | (volumeWh << 180);
    }
}
