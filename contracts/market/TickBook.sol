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
/// **Levels.** The quantities of one side of a tick lie in a slot that four neighbouring delivery periods share, so
/// that a trader with one limit price for many hours touches a quarter as many slots:
///
///   bits       field                       unit   bound
///   0 .. 63    demand or supply, period 4k      Wh  2^64 - 1, checked
///   64 .. 127  the same side, period 4k + 1     Wh  2^64 - 1, checked
///   128 .. 191 the same side, period 4k + 2     Wh  2^64 - 1, checked
///   192 .. 255 the same side, period 4k + 3     Wh  2^64 - 1, checked         sum 256
///
/// **Bitmaps.** Per period and side 16 words of 256 ticks; a bit is set while the side has a quantity at its tick. Above
/// them 16 bits, one for each word that is not zero; eight periods share a slot of these. Sides are numbered
/// 2 * period for demand, 2 * period + 1 for supply. Bits stand in the order in which clearing comes to them: at the tick
/// for supply, at `MAX_TICKS - 1 - tick` for demand. Such a place in the order is a `position` below.
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
/// **Walk.** One pointer climbs over the ticks with supply, from the lowest, and absorbs it; one descends over the ticks
/// with demand, from the highest. The side with less absorbed goes on, supply on a tie, until its next tick lies beyond
/// the other pointer. Every level is read at most once, and none that is not needed. When they end:
/// - demand was only absorbed while less than supply, so the last tick with absorbed demand is b;
/// - supply was absorbed while not more than demand, so the last tick with absorbed supply is a, unless what was
///   absorbed before it equals D already: then it was not needed, is c, and the one before it is a. It is not above b:
///   the descending pointer never passes it;
/// - when both sides are equal, the next tick with supply is above b, or there is none;
/// - d is the next bit of the demand below b.
/// Gas: in a market about 44,000 once, 2,530 a tick that is read (2,840 where ticks are not neighbours), of which its slot
/// takes 2,100, and 2,200 for each further bitmap word of 256 ticks; the same for any number of orders.
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
    /// @dev From the first slot of a book to `words`, `levels` and `results`.
    uint256 private constant WORDS_OFFSET = 33;
    uint256 private constant LEVELS_OFFSET = 8225;
    uint256 private constant RESULTS_OFFSET = 532513;
    /// @dev Bit of a stored clearing that was begun.
    uint256 private constant BEGUN = 1 << 208;
    // Four orders side by side, 64 bits each: lowest bits, highest bits, quantities, tick and reserved bits moved down.
    uint256 private constant ONES = 0x0000000000000001000000000000000100000000000000010000000000000001;
    uint256 private constant HIGHS = 0x8000000000000000800000000000000080000000000000008000000000000000;
    uint256 private constant QUANTITIES = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
    uint256 private constant TICKS = 0x0000000000feffff0000000000feffff0000000000feffff0000000000feffff;

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
        uint256[MAX_PERIODS / 8] summaries;
        uint256[16][2 * MAX_PERIODS] words;
        /// Array 2k is the demand of periods 4k .. 4k + 3, array 2k + 1 their supply.
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

    /// Sums over the fills of a bundle, by period.
    struct Fills {
        uint256[] boughtWh;
        uint256[] soldWh;
        /// Clearing prices, micro-token per kWh; zero without meaning where nothing is filled.
        int256[] prices;
    }

    /// A side of a clearing: what its pointer absorbed, and the bits of its bitmap that it has not reached. In storage,
    /// between the calls of a clearing that takes several, the first three fields of both sides: supply 80 bits, demand 80,
    /// ends 16 each, prior end of supply 16; {BEGUN} above them; sum 209.
    struct Pointer {
        /// At most MAX_TICKS lanes, below 2^76 Wh.
        uint256 absorbedWh;
        /// One more than the last position absorbed; zero: none yet.
        uint256 end;
        /// `end` before that.
        uint256 priorEnd;
        /// What is left of the word that the pointer is in, the position of its lowest bit, and the words beyond.
        uint256 bits;
        uint256 next;
        uint256 words;
        /// Slot of the level at tick 0.
        uint256 levels;
        /// A position xor this is its tick.
        uint256 mirror;
        /// Bits below those of the period in a level.
        uint256 shift;
        /// Number of the side.
        uint256 side;
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
    function place(Book storage book, bytes calldata bundle) internal returns (Totals memory totals) {
        Grid memory grid = changeableGrid(book);
        _check(grid, bundle, totals);
        uint256 end;
        assembly ("memory-safe") {
            end := add(bundle.offset, bundle.length)
        }
        uint256 stop = _placeEach(book, grid, totals, end - bundle.length, end);
        if (stop != end) {
            uint256 position = (stop + bundle.length - end) / ORDER_BYTES;
            (uint256 period, bool sell, uint256 tick, uint256 quantityWh) = orderAt(grid, bundle, position);
            revert TickFull(position, _laneOf(book, period, sell, tick), quantityWh);
        }
    }

    /// Adds checked orders that lie in calldata from `start` to `end`, with their cost and the last period of a sale to
    /// `totals`. In assembly, as it is what most transactions of a market pay for; {orderAt}, {worstCaseCost} and {_laneOf}
    /// are written out. Neighbouring orders of one slot are stored together.
    /// @return at `end`, or where the order begins whose lane is too full for it: the caller reverts.
    function _placeEach(
        Book storage book,
        Grid memory grid,
        Totals memory totals,
        uint256 start,
        uint256 end
    ) private returns (uint256 at) {
        assembly ("memory-safe") {
            at := start
            let slot := 0
            let level := 0
            for {} lt(at, end) {
                at := add(at, 8)
            } {
                let word := shr(192, calldataload(at))
                let tick := and(shr(32, word), 0xffff)
                {
                    // Period / 4 and side above the tick.
                    let next := or(and(shr(45, word), 0x7e000), or(and(shr(36, word), 0x1000), tick))
                    next := add(add(book.slot, LEVELS_OFFSET), next)
                    if iszero(eq(next, slot)) {
                        if slot {
                            sstore(slot, level)
                        }
                        slot := next
                        level := sload(slot)
                    }
                }
                {
                    let shift := and(shr(50, word), 0xc0)
                    let presentWh := and(shr(shift, level), LANE)
                    if iszero(presentWh) {
                        // The tick becomes occupied on this side: period, side and position, from bit 13, 12 and 0.
                        let spot := or(and(shr(43, word), 0x1fe000), and(shr(36, word), 0x1000))
                        spot := or(spot, xor(tick, mul(TICK_MASK, iszero(and(spot, 0x1000)))))
                        let bits := add(add(book.slot, WORDS_OFFSET), shr(8, spot))
                        if iszero(sload(bits)) {
                            let summary := add(add(book.slot, 1), shr(16, spot))
                            sstore(summary, or(sload(summary), shl(and(shr(8, spot), 0xff), 1)))
                        }
                        sstore(bits, or(sload(bits), shl(and(spot, 0xff), 1)))
                    }
                    if gt(add(presentWh, and(word, 0xffffffff)), LANE) {
                        break
                    }
                    level := add(level, shl(shift, and(word, 0xffffffff)))
                }
                // basePrice and priceStep are the first two fields of the grid.
                let price := add(mload(grid), mul(tick, mload(add(grid, 0x20))))
                if and(shr(48, word), 1) {
                    price := sub(0, price)
                    if iszero(lt(shr(56, word), mload(add(totals, 0x60)))) {
                        mstore(add(totals, 0x60), add(shr(56, word), 1)) // sellEnd
                    }
                }
                if sgt(price, 0) {
                    mstore(totals, add(mload(totals), div(add(mul(and(word, 0xffffffff), price), 999), 1000)))
                }
            }
            sstore(slot, level)
        }
    }

    /// Checks the bounds of all orders and adds up their quantities by side, four orders at a time.
    /// @dev In a lane of 64 bits whose highest bit is set, x - y clears it exactly when the rest of x is below y.
    function _check(Grid memory grid, bytes calldata bundle, Totals memory totals) private pure {
        uint256 orders = count(bundle);
        uint256 bad;
        assembly ("memory-safe") {
            // tickCount, periodCount and minQuantityWh are the third to the fifth field of the grid.
            let ticks := or(mul(mload(add(grid, 0x40)), ONES), HIGHS)
            let periods := or(mul(mload(add(grid, 0x60)), ONES), HIGHS)
            let least := mul(mload(add(grid, 0x80)), ONES)
            let allWh := 0
            let soldWh := 0
            // The first group is what does not fill four.
            let size := add(and(sub(orders, 1), 3), 1)
            let at := bundle.offset
            for {} orders {} {
                let unused := sub(256, shl(6, size))
                let four := shr(unused, calldataload(at))
                // With the side masked out, reserved bits stand above the tick.
                let good := sub(ticks, add(and(shr(32, four), TICKS), ONES))
                good := and(good, sub(periods, add(and(shr(56, four), mul(ONES, 0xff)), ONES)))
                let wh := and(four, QUANTITIES)
                good := and(good, sub(or(wh, HIGHS), least))
                bad := or(bad, and(not(good), shr(unused, HIGHS)))
                allWh := add(allWh, wh)
                soldWh := add(soldWh, and(wh, mul(and(shr(48, four), ONES), 0xffffffff)))
                at := add(at, shl(3, size))
                orders := sub(orders, size)
                size := 4
            }
            // Digits to the base 2^64 add up modulo 2^64 - 1.
            mstore(add(totals, 0x20), mod(sub(allWh, soldWh), LANE)) // buyWh
            mstore(add(totals, 0x40), mod(soldWh, LANE)) // sellWh
        }
        if (bad != 0) {
            for (uint256 i = 0; ; ++i) orderAt(grid, bundle, i); // reverts at the first that breaks a bound
        }
    }

    /// @notice Takes the orders of a bundle that {place} added off their books: cancelled or replaced.
    /// @return totals As {place} returned them.
    function remove(Book storage book, bytes calldata bundle) internal returns (Totals memory totals) {
        Grid memory grid = changeableGrid(book);
        totals = totalsOf(grid, bundle);
        uint256 orders = bundle.length / ORDER_BYTES;
        unchecked {
            for (uint256 i = 0; i < orders; ++i) removeAt(book, grid, bundle, i);
        }
    }

    /// @notice Takes one order of a bundle that {place} added off its book: a rejected match. Relies on
    /// `position < count(bundle)` and on a grid that {changeableGrid} gave.
    /// @return period Its book, which has to be cleared again.
    function removeAt(
        Book storage book,
        Grid memory grid,
        bytes calldata bundle,
        uint256 position
    ) internal returns (uint256 period) {
        bool sell;
        uint256 tick;
        uint256 quantityWh;
        (period, sell, tick, quantityWh) = orderAt(grid, bundle, position);
        _subtract(book, position, period, sell, tick, quantityWh);
    }

    /// @notice Sums over the orders of a bundle that need not be in the book, each of them checked; without `sellEnd`.
    function totalsOf(Grid memory grid, bytes calldata bundle) internal pure returns (Totals memory totals) {
        _check(grid, bundle, totals);
        assembly ("memory-safe") {
            // {worstCaseCost} written out: half of the computation of an order otherwise.
            let base := mload(grid)
            let step := mload(add(grid, 0x20))
            let cost := 0
            let end := add(bundle.offset, bundle.length)
            for {
                let at := bundle.offset
            } lt(at, end) {
                at := add(at, 8)
            } {
                let word := shr(192, calldataload(at))
                let price := add(base, mul(and(shr(32, word), 0xffff), step))
                if and(shr(48, word), 1) {
                    price := sub(0, price)
                }
                if sgt(price, 0) {
                    cost := add(cost, div(add(mul(and(word, 0xffffffff), price), 999), 1000))
                }
            }
            mstore(totals, cost)
        }
    }

    /// @notice Clears a period, or goes on with it, reading at most `maxTicks` ticks.
    /// @dev Any split over several calls gives the same result. A finished clearing can be repeated.
    /// @return finished Whether the result is stored now.
    function clear(Book storage book, uint256 period, uint256 maxTicks) internal returns (bool finished) {
        if (period >= book.periodCount) revert PeriodOutsideSession(0, period, book.periodCount);
        uint256 packed = book.unfinished == 0 ? 0 : book.cursors[period];
        Pointer memory supply = _pointerAt(book, 2 * period + 1, uint80(packed), uint16(packed >> 160));
        Pointer memory demand = _pointerAt(book, 2 * period, uint80(packed >> 80), uint16(packed >> 176));
        supply.priorEnd = uint16(packed >> 192);
        finished = _walk(book, supply, demand, maxTicks);
        if (finished) {
            book.results[period] = _resultOf(book, supply, demand);
            if (packed != 0) {
                book.cursors[period] = 0;
                --book.unfinished;
            }
        } else {
            uint256 ends = supply.end | (demand.end << 16) | (supply.priorEnd << 32);
            book.cursors[period] = supply.absorbedWh | (demand.absorbedWh << 80) | (ends << 160) | BEGUN;
            if (packed == 0) ++book.unfinished;
        }
    }

    /// @notice Result of a period as it was cleared last.
    function resultOf(Book storage book, uint256 period) internal view returns (Result memory result) {
        Grid memory grid = gridOf(book);
        if (period >= grid.periodCount) revert PeriodOutsideSession(0, period, grid.periodCount);
        return unpack(grid, book.results[period]);
    }

    /// @notice Adds what the orders of a bundle get, by the stored results, to sums by period.
    /// @dev Relies on orders that {place} or {totalsOf} checked, and on arrays of `periodCount` elements.
    /// @return filledWh All that was added, Wh.
    function addFills(
        Book storage book,
        Grid memory grid,
        bytes calldata bundle,
        Fills memory fills
    ) internal view returns (uint256 filledWh) {
        uint256 left = bundle.length;
        assembly ("memory-safe") {
            for {} left {
                left := sub(left, 8)
            } {
                // {orderAt} written out.
                let word := shr(192, calldataload(sub(add(bundle.offset, bundle.length), left)))
                let packed := sload(add(add(book.slot, RESULTS_OFFSET), shr(56, word)))
                if iszero(packed) {
                    break
                }
                let tick := and(shr(32, word), 0xffff)
                let sell := and(shr(48, word), 1)
                let wh := and(word, 0xffffffff)
                let last := and(shr(sub(40, mul(12, sell)), packed), TICK_MASK) // sellTick or buyTick
                switch eq(tick, last)
                case 0 {
                    if xor(lt(tick, last), sell) {
                        wh := 0
                    }
                }
                default {
                    // MarginalBuyer, or MarginalSeller
                    if eq(and(packed, 0xf), sub(3, sell)) {
                        // basePrice and priceStep are the first two fields of the grid. Who pays gets a Wh rounded up.
                        let pays := eq(sell, slt(add(mload(grid), mul(tick, mload(add(grid, 0x20)))), 0))
                        // Below 2^96 + 2^64; the denominator is not zero in these classes.
                        let denominator := and(shr(116, packed), LANE)
                        wh := mul(wh, and(shr(52, packed), LANE))
                        wh := div(add(wh, mul(sub(denominator, 1), pays)), denominator)
                    }
                }
                // Class None is a word of its own.
                if eq(packed, 1) {
                    wh := 0
                }
                if wh {
                    filledWh := add(filledWh, wh)
                    let offset := add(0x20, shl(5, shr(56, word)))
                    // boughtWh or soldWh
                    let sum := add(mload(add(fills, shl(5, sell))), offset)
                    mstore(sum, add(mload(sum), wh))
                    // prices, {clearingPrice} written out
                    let price := add(and(shr(4, packed), TICK_MASK), and(shr(16, packed), TICK_MASK))
                    price := add(mload(grid), shr(1, mul(price, mload(add(grid, 0x20)))))
                    mstore(add(mload(add(fills, 0x40)), offset), price)
                }
            }
        }
        if (left != 0) revert NotCleared(uint8(bundle[bundle.length - left]));
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

    /// @notice Matched volume of a stored result, and bounds on what all buyers and all sellers are filled with, Wh.
    /// @dev On the rationed side each order at the margin may add a Wh by rounding up.
    function boundsOf(
        Grid memory grid,
        uint256 packed
    ) internal pure returns (uint256 volumeWh, uint256 boughtWh, uint256 soldWh) {
        volumeWh = packed >> 180;
        (boughtWh, soldWh) = (volumeWh, volumeWh);
        uint256 marginalOrders = ((packed >> 116) & LANE) / grid.minQuantityWh + 1;
        uint256 class = packed & 0xf;
        if (class == uint256(Class.MarginalBuyer)) boughtWh += marginalOrders;
        else if (class == uint256(Class.MarginalSeller)) soldWh += marginalOrders;
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
        return _summaryOf(book, 2 * period) | _summaryOf(book, 2 * period + 1) == 0;
    }

    /// @notice Demand and supply at a tick, Wh.
    function levelOf(
        Book storage book,
        uint256 period,
        uint256 tick
    ) internal view returns (uint256 demandWh, uint256 supplyWh) {
        return (_laneOf(book, period, false, tick), _laneOf(book, period, true, tick));
    }

    function _subtract(
        Book storage book,
        uint256 position,
        uint256 period,
        bool sell,
        uint256 tick,
        uint256 quantityWh
    ) private {
        uint256 slot = _slotOf(book, period, sell, tick);
        uint256 shift = (period & 3) << 6;
        uint256 level;
        assembly ("memory-safe") {
            level := sload(slot)
        }
        uint256 present = (level >> shift) & LANE;
        if (present < quantityWh) revert NotInBook(position, present, quantityWh);
        unchecked {
            level -= quantityWh << shift;
        }
        assembly ("memory-safe") {
            sstore(slot, level)
        }
        if (present == quantityWh) _vacate(book, 2 * period + (sell ? 1 : 0), tick);
    }

    /// Quantity of one side of a period at a tick, Wh.
    function _laneOf(Book storage book, uint256 period, bool sell, uint256 tick) private view returns (uint256) {
        uint256 slot = _slotOf(book, period, sell, tick);
        uint256 level;
        assembly ("memory-safe") {
            level := sload(slot)
        }
        return (level >> ((period & 3) << 6)) & LANE;
    }

    /// The caller checked `period` and `tick`: the array is not asked to do it again.
    function _slotOf(Book storage book, uint256 period, bool sell, uint256 tick) private pure returns (uint256 slot) {
        assembly ("memory-safe") {
            slot := or(shl(13, shr(2, period)), or(shl(12, sell), tick))
            slot := add(add(book.slot, LEVELS_OFFSET), slot)
        }
    }

    function _vacate(Book storage book, uint256 side, uint256 tick) private {
        uint256 position = tick ^ _mirrorOf(side);
        uint256 word = book.words[side][position >> 8] ^ (1 << (position & 255));
        book.words[side][position >> 8] = word;
        if (word == 0) book.summaries[side >> 4] ^= 1 << (((side & 15) << 4) | (position >> 8));
    }

    /// Of a tick and its position on a side each is the other xor this.
    function _mirrorOf(uint256 side) private pure returns (uint256) {
        return side & 1 == 0 ? MAX_TICKS - 1 : 0;
    }

    /// Bit i: word i of a side has a bit.
    function _summaryOf(Book storage book, uint256 side) private view returns (uint256) {
        return uint16(book.summaries[side >> 4] >> ((side & 15) << 4));
    }

    /// A pointer that absorbed what a side has before the position `end`.
    function _pointerAt(
        Book storage book,
        uint256 side,
        uint256 absorbedWh,
        uint256 end
    ) private view returns (Pointer memory pointer) {
        pointer.absorbedWh = absorbedWh;
        pointer.end = end;
        pointer.side = side;
        pointer.mirror = _mirrorOf(side);
        pointer.levels = _slotOf(book, side >> 1, side & 1 != 0, 0);
        pointer.shift = (side & 6) << 5;
        pointer.words = _summaryOf(book, side);
        if (end != 0) {
            uint256 index = end >> 8;
            pointer.next = end;
            pointer.words = (pointer.words >> (index + 1)) << (index + 1);
            if (end != MAX_TICKS) pointer.bits = book.words[side][index] >> (end & 255);
        }
    }

    /// Moves the pointers by at most `maxTicks` ticks.
    /// @return met Whether the pointer whose turn it is has nothing left before the other.
    function _walk(
        Book storage book,
        Pointer memory supply,
        Pointer memory demand,
        uint256 maxTicks
    ) private view returns (bool met) {
        unchecked {
            for (; ; --maxTicks) {
                Pointer memory moving = supply;
                Pointer memory other = demand;
                if (supply.absorbedWh > demand.absorbedWh) (moving, other) = (demand, supply);
                if (moving.bits & 1 == 0 && !_seek(book, moving)) return true;
                // The last tick of the other side lies at MAX_TICKS - other.end from here.
                if (moving.next + other.end > MAX_TICKS) return true;
                if (maxTicks == 0) return false;
                assembly ("memory-safe") {
                    // Fields of a pointer, a word each: absorbedWh, end, priorEnd, bits, next, words, levels, mirror, shift.
                    let position := mload(add(moving, 0x80))
                    let level := sload(add(mload(add(moving, 0xc0)), xor(position, mload(add(moving, 0xe0)))))
                    level := and(shr(mload(add(moving, 0x100)), level), LANE)
                    mstore(moving, add(mload(moving), level))
                    mstore(add(moving, 0x40), mload(add(moving, 0x20)))
                    position := add(position, 1)
                    mstore(add(moving, 0x20), position)
                    mstore(add(moving, 0x60), shr(1, mload(add(moving, 0x60))))
                    mstore(add(moving, 0x80), position)
                }
            }
        }
        return true;
    }

    /// Moves a pointer on to the next bit of its side: `bits` begins with it.
    /// @return found Whether there is one.
    function _seek(Book storage book, Pointer memory pointer) private view returns (bool found) {
        uint256 bits = pointer.bits;
        uint256 next = pointer.next;
        unchecked {
            if (bits == 0) {
                uint256 words = pointer.words;
                if (words == 0) return false;
                uint256 index = _lowestBit(words);
                pointer.words = words & (words - 1);
                bits = book.words[pointer.side][index];
                next = index << 8;
            }
            uint256 gap = _lowestBit(bits);
            pointer.bits = bits >> gap;
            pointer.next = next + gap;
        }
        return true;
    }

    /// Number of the lowest bit; `bits` is not zero.
    /// @dev A product and a table give its group of 32, a quotient and a table its place there, for a third of what halving
    /// takes: A. Husson, "Cheap find-first-set in the EVM", with the constants of Solady's `LibBit.ffs`.
    function _lowestBit(uint256 bits) private pure returns (uint256 index) {
        assembly ("memory-safe") {
            bits := and(bits, sub(0, bits))
            index := shr(250, mul(bits, 0xb6db6db6ddddddddd34d34d349249249210842108c6318c639ce739cffffffff))
            index := shl(shl(2, index), 0x8040405543005266443200005020610674053026020000107506200176117077)
            index := shl(5, shr(252, index))
            let at := and(div(0xd76453e0, shr(index, bits)), 0x1f)
            index := or(index, byte(at, 0x001f0d1e100c1d070f090b19131c1706010e11080a1a141802121b1503160405))
        }
    }

    /// Packed result of pointers that ended; each branch is one class of the derivation above.
    function _resultOf(Book storage book, Pointer memory supply, Pointer memory demand) private view returns (uint256) {
        uint256 supplyWh = supply.absorbedWh;
        uint256 demandWh = demand.absorbedWh;
        if (supplyWh == 0 || demandWh == 0) return uint256(Class.None);
        uint256 sellTick = supply.end - 1;
        uint256 buyTick = MAX_TICKS - demand.end;
        uint256 highTick = buyTick;
        if (supplyWh > demandWh) {
            uint256 atTick = _laneOf(book, supply.side >> 1, true, sellTick);
            uint256 left = demandWh - (supplyWh - atTick);
            if (left != 0) {
                return _pack(Class.MarginalSeller, sellTick, sellTick, sellTick, buyTick, left, atTick, demandWh);
            }
            highTick = sellTick;
            sellTick = supply.priorEnd - 1;
        } else if (demandWh > supplyWh) {
            uint256 atTick = _laneOf(book, demand.side >> 1, false, buyTick);
            uint256 left = supplyWh - (demandWh - atTick);
            return _pack(Class.MarginalBuyer, buyTick, buyTick, sellTick, buyTick, left, atTick, supplyWh);
        }
        uint256 lowTick = sellTick;
        if (demand.bits & 1 != 0 || _seek(book, demand)) lowTick = Math.max(sellTick, demand.next ^ demand.mirror);
        return _pack(Class.Exact, lowTick, highTick, sellTick, buyTick, 0, 0, demandWh);
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
