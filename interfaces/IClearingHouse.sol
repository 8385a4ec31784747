// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title One ledger of energy tokens for all modules
/// @notice Participants deposit tokens and withdraw what is free. Modules lock, release and move ledger balances;
/// no module ever holds a token itself.
/// @dev Conservation: sum of free balances + sum of locks = `totalHeld` <= tokens held. Money is integer uToken.
/// @custom:stop Paused: no deposit, no new lock. Withdrawal, release and settlement always work.
/// A lock is known by an id that the module derives from its own name and the matter at hand, for example
/// `keccak256(abi.encode("FlexibilityMarket.budget", requestId))`; any module may release it by its own rules, so that
/// one module can escrow what another one settles. Modules may lock, release and move zero: no amount changes.
///
/// The first call that names an account opens it, at 20,000 gas, even by an amount of zero, and it stays open when it is
/// emptied. The agreement of a prosumer locks its bond, if only of zero: nobody's first reward pays for the opening.
/// @custom:trust Modules are named by governance and trusted to lock and release by their own rules. The token is
/// trusted not to take tokens away from the ledger; one that charges a fee on transfer is credited as it arrives.
interface IClearingHouse {
    event Deposited(address indexed account, address indexed from, uint256 amount);
    event Withdrawn(address indexed account, address indexed to, uint256 amount);
    /// @notice `amount` went from the free balance of `account` to the lock.
    event Locked(bytes32 indexed lockId, address indexed account, address indexed module, uint256 amount);
    /// @notice `amount` went from the lock to the free balance of `account`.
    event Released(bytes32 indexed lockId, address indexed account, address indexed module, uint256 amount);
    /// @notice `amount` went from one lock to another.
    event Relocked(bytes32 indexed fromLockId, bytes32 indexed toLockId, address indexed module, uint256 amount);
    /// @notice `amount` went from one free balance to another.
    event Moved(address indexed from, address indexed to, address indexed module, uint256 amount);

    error InsufficientBalance(address account, uint256 available, uint256 required);
    error InsufficientLock(bytes32 lockId, uint256 available, uint256 required);
    /// @notice Nothing asked for, or nothing arrived.
    error ZeroAmount();

    /// @notice Takes tokens from the caller into the ledger balance of `account`.
    /// @dev Credits what arrived. Errors: {ZeroAmount}. Emits: {Deposited} with the amount credited.
    /// @param amount Tokens to take from the caller, uToken.
    function deposit(address account, uint256 amount) external;

    /// @notice As {deposit} for the caller, with an ERC-2612 permit instead of an approval. A permit that was
    /// already used is ignored as long as the allowance suffices.
    function depositWithPermit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Pays free balance of the caller out to `to`. Never pausable, needs no role.
    /// @dev Errors: {ZeroAmount}, {InsufficientBalance}. Emits: {Withdrawn}.
    function withdraw(address to, uint256 amount) external;

    /// @notice Locks free balance of `account`. Only a module; not while paused.
    /// @dev Errors: {InsufficientBalance}, `NotModule`. Emits: {Locked}.
    function lock(bytes32 lockId, address account, uint256 amount) external;

    /// @notice Pays out of a lock to the free balance of `account`, who need not be the one it came from. Only a module.
    /// @dev Errors: {InsufficientLock}, `NotModule`. Emits: {Released}.
    function release(bytes32 lockId, address account, uint256 amount) external;

    /// @notice Moves a locked amount to another lock. Only a module.
    /// @dev Errors: {InsufficientLock}, `NotModule`. Emits: {Relocked}.
    function relock(bytes32 fromLockId, bytes32 toLockId, uint256 amount) external;

    /// @notice Moves free balance from one account to another. Only a module.
    /// @dev Errors: {InsufficientBalance}, `NotModule`. Emits: {Moved}.
    function move(address from, address to, uint256 amount) external;

    function balanceOf(address account) external view returns (uint256 freeBalance);

    function lockOf(bytes32 lockId) external view returns (uint256 amount);

    /// @notice Sum of all free balances and locks.
    function totalHeld() external view returns (uint256);

    /// @notice How long it was paused in all, the running pause included, seconds. For windows in which somebody has to be
    /// able to lock: block time less this stands still while nobody can.
    function pausedSeconds() external view returns (uint256);

    /// @notice The ERC-20 token of the ledger.
    function token() external view returns (address);
}
