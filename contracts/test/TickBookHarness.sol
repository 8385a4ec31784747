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

    /// A claim without the money: sums of what the bundle bought and sold.
    function claim(uint256 session, bytes calldata bundle) external returns (uint256 boughtWh, uint256 soldWh) {
        TickBook.Book storage book = _books[session];
        TickBook.Grid memory grid = book.gridOf();
        uint256 orders = TickBook.count(bundle);
        unchecked {
            for (uint256 i = 0; i < orders; ++i) {
                (, bool sell, uint256 filledWh, ) = book.fillAt(grid, bundle, i);
                if (sell) soldWh += filledWh;
                else boughtWh += filledWh;
            }
        }
    }

    function resultOf(uint256 session, uint256 period) external view returns (TickBook.Result memory) {
        return _books[session].resultOf(period);
    }

    function fills(uint256 session, bytes calldata bundle) external view returns (uint256[] memory) {
        return _books[session].fills(bundle);
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
}
