// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {TickBook} from "contracts/market/TickBook.sol";

/// @title Opens {TickBook} to tests: any number of sessions, no sender, no money
contract TickBookHarness {
    using TickBook for TickBook.Book;

    mapping(uint256 session => TickBook.Book) private _books;

    function open(uint256 session, TickBook.Grid calldata grid) external {
        _books[session].open(grid);
    }

    function place(uint256 session, bytes calldata bundle) external returns (uint256 escrow) {
        return _books[session].place(bundle).cost;
    }

    /// Several traders' bundles in one transaction, as a relayer brings them.
    function placeAll(uint256 session, bytes[] calldata bundles) external returns (uint256 escrow) {
        for (uint256 i = 0; i < bundles.length; ++i) escrow += _books[session].place(bundles[i]).cost;
    }

    function remove(uint256 session, bytes calldata bundle) external returns (uint256 escrow) {
        return _books[session].remove(bundle).cost;
    }

    function clear(uint256 session, uint256 period, uint256 maxTicks) external returns (bool finished) {
        return _books[session].clear(period, maxTicks);
    }

    /// Clears the periods below `end` and returns their results.
    function clearAll(uint256 session, uint256 end) external returns (TickBook.Result[] memory results) {
        results = new TickBook.Result[](end);
        for (uint256 period = 0; period < end; ++period) {
            assert(_books[session].clear(period, type(uint256).max));
            results[period] = _books[session].resultOf(period);
        }
    }

    /// A claim without the money: all that a placed bundle bought and sold, Wh.
    function claim(uint256 session, bytes calldata bundle) external view returns (uint256 filledWh) {
        TickBook.Book storage book = _books[session];
        TickBook.Grid memory grid = book.gridOf();
        return book.addFills(grid, bundle, _noFills(grid.periodCount));
    }

    function resultOf(uint256 session, uint256 period) external view returns (TickBook.Result memory) {
        return _books[session].resultOf(period);
    }

    /// What each order of a bundle gets, Wh.
    function fills(uint256 session, bytes calldata bundle) external view returns (uint256[] memory filledWh) {
        TickBook.Book storage book = _books[session];
        TickBook.Grid memory grid = book.gridOf();
        TickBook.totalsOf(grid, bundle);
        filledWh = new uint256[](TickBook.count(bundle));
        TickBook.Fills memory sums = _noFills(grid.periodCount);
        for (uint256 i = 0; i < filledWh.length; ++i) {
            filledWh[i] = book.addFills(grid, bundle[8 * i:8 * i + 8], sums);
        }
    }

    function levelOf(uint256 session, uint256 period, uint256 tick) external view returns (uint256, uint256) {
        return _books[session].levelOf(period, tick);
    }

    function unfinished(uint256 session) external view returns (uint256) {
        return _books[session].unfinished;
    }

    function worstCaseCost(int256 limitPrice, uint256 quantityWh, bool sell) external pure returns (uint256) {
        return TickBook.worstCaseCost(limitPrice, quantityWh, sell);
    }

    /// First slot of a session's books, for tests that look at the storage itself.
    function slotOf(uint256 session) external view returns (uint256 slot) {
        TickBook.Book storage book = _books[session];
        assembly ("memory-safe") {
            slot := book.slot
        }
    }

    function _noFills(uint256 periods) private pure returns (TickBook.Fills memory) {
        return TickBook.Fills(new uint256[](periods), new uint256[](periods), new int256[](periods));
    }
}
