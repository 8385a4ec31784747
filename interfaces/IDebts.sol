// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Debts of corrections: what a party got too much and cannot pay back at once
/// @notice A correction is paid from the debtor's free balance of the clearing house as far as that goes; the rest is owed.
/// Whatever falls due the other way is set off against it first, so that nobody pays out who is owed as much: two
/// corrections that cancel out leave nobody worse off, whoever had money in between. An account owes itself nothing.
/// @dev A debt has no deadline and no collateral. Example: 100 uToken owed by A to B; B comes to owe A 130: 100 are set off,
/// B pays 30.
interface IDebts {
    /// @param total What `debtor` owes `creditor` now, uToken.
    event Owed(address indexed debtor, address indexed creditor, uint256 amount, uint256 total);
    /// @notice Paid from the debtor's free balance.
    event OwedCollected(address indexed debtor, address indexed creditor, uint256 amount, uint256 left);
    /// @notice Settled by what fell due the other way.
    event OwedSetOff(address indexed debtor, address indexed creditor, uint256 amount, uint256 left);

    error NothingOwed(address debtor, address creditor);

    /// @notice Collects what is owed, as far as the debtor's free balance goes. Anyone may call.
    /// @dev Errors: {NothingOwed}. Emits: {OwedCollected}.
    function collectOwed(address debtor, address creditor) external returns (uint256 amount);

    /// @notice What a debtor owes a creditor, uToken.
    function owed(address debtor, address creditor) external view returns (uint256);
}
