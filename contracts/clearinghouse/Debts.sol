// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {IDebts} from "interfaces/IDebts.sol";

/// @title Debts of corrections
abstract contract Debts is IDebts {
    IClearingHouse internal immutable _clearingHouse;

    /// @inheritdoc IDebts
    mapping(address debtor => mapping(address creditor => uint256 amount)) public owed;

    constructor(IClearingHouse clearingHouse_) {
        _clearingHouse = clearingHouse_;
    }

    /// @inheritdoc IDebts
    function collectOwed(address debtor, address creditor) external returns (uint256 amount) {
        uint256 debt = owed[debtor][creditor];
        if (debt == 0) revert NothingOwed(debtor, creditor);
        amount = Math.min(debt, _clearingHouse.balanceOf(debtor));
        owed[debtor][creditor] = debt - amount;
        if (amount != 0) _clearingHouse.move(debtor, creditor, amount);
        emit OwedCollected(debtor, creditor, amount, debt - amount);
    }

    /// @dev Sets off, pays from free balance what it covers and records the rest as owed.
    function _settleDebt(address debtor, address creditor, uint256 amount) internal {
        if (debtor == creditor) return;
        amount = _setOff(debtor, creditor, amount);
        uint256 payable_ = Math.min(amount, _clearingHouse.balanceOf(debtor));
        if (payable_ != 0) _clearingHouse.move(debtor, creditor, payable_);
        if (payable_ == amount) return;
        owed[debtor][creditor] += amount - payable_;
        emit Owed(debtor, creditor, amount - payable_, owed[debtor][creditor]);
    }

    /// @dev Sets an amount off against what is owed the other way.
    /// @return left What `debtor` still has to pay.
    function _setOff(address debtor, address creditor, uint256 amount) internal returns (uint256 left) {
        uint256 counterclaim = owed[creditor][debtor];
        uint256 setOff = Math.min(amount, counterclaim);
        if (setOff == 0) return amount;
        owed[creditor][debtor] = counterclaim - setOff;
        emit OwedSetOff(creditor, debtor, setOff, counterclaim - setOff);
        return amount - setOff;
    }
}
