// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {IClearingHouse} from "interfaces/IClearingHouse.sol";
import {Governed} from "contracts/registry/Governed.sol";

/// @title One ledger of energy tokens for all modules
/// @dev Conservation: F + L = H <= T, with F the sum of `balanceOf`, L the sum of `lockOf`, H = `totalHeld` and T the
/// tokens held. It holds at construction (all zero), and every branch below says why it keeps holding. Tokens that are
/// sent here without {deposit} only raise T.
contract ClearingHouse is IClearingHouse, Governed, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @dev Highest bit of an account: it was used before.
    uint256 private constant OPENED = 1 << 255;

    IERC20 private immutable _token;

    /// @dev Bits 0 to 254: free balance, uToken; bit 255: {OPENED}. An account that is emptied keeps its slot, so that
    /// paying it costs 5,000 gas and not 22,100: that is paid once, at the first use. A balance that reached bit 255
    /// would run over bit 256, which reverts.
    mapping(address account => uint256) private _accounts;
    /// @inheritdoc IClearingHouse
    mapping(bytes32 lockId => uint256) public lockOf;
    /// @inheritdoc IClearingHouse
    uint256 public totalHeld;

    /// @dev Length of all pauses that are over, and when the running one began.
    uint128 private _pastPausedSeconds;
    uint128 private _pausedSince;

    constructor(address authority_, IERC20 token_) Governed(authority_) {
        _token = token_;
    }

    /// @inheritdoc IClearingHouse
    function deposit(address account, uint256 amount) external {
        _deposit(account, amount);
    }

    /// @inheritdoc IClearingHouse
    function depositWithPermit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        // Somebody may have used the permit first; the transfer below fails if the allowance does not suffice.
        try IERC20Permit(address(_token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(msg.sender, amount);
    }

    /// @inheritdoc IClearingHouse
    function withdraw(address to, uint256 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        // F and H fall by `amount`; T falls by `amount` or the whole call reverts.
        _debit(msg.sender, amount);
        totalHeld -= amount;
        emit Withdrawn(msg.sender, to, amount);
        _token.safeTransfer(to, amount);
    }

    /// @inheritdoc IClearingHouse
    function lock(bytes32 lockId, address account, uint256 amount) external onlyModule whenNotPaused {
        // F falls, L rises by the same.
        _debit(account, amount);
        lockOf[lockId] += amount;
        emit Locked(lockId, account, msg.sender, amount);
    }

    /// @inheritdoc IClearingHouse
    function release(bytes32 lockId, address account, uint256 amount) external onlyModule {
        // L falls, F rises by the same.
        _unlock(lockId, amount);
        _credit(account, amount);
        emit Released(lockId, account, msg.sender, amount);
    }

    /// @inheritdoc IClearingHouse
    function relock(bytes32 fromLockId, bytes32 toLockId, uint256 amount) external onlyModule {
        // L stays: one lock falls before the other rises, so that the same id twice changes nothing.
        _unlock(fromLockId, amount);
        lockOf[toLockId] += amount;
        emit Relocked(fromLockId, toLockId, msg.sender, amount);
    }

    /// @inheritdoc IClearingHouse
    function move(address from, address to, uint256 amount) external onlyModule {
        // F stays: one balance falls before the other rises, so that the same account twice changes nothing.
        _debit(from, amount);
        _credit(to, amount);
        emit Moved(from, to, msg.sender, amount);
    }

    /// @inheritdoc IClearingHouse
    function balanceOf(address account) public view returns (uint256) {
        return _accounts[account] & ~OPENED;
    }

    /// @inheritdoc IClearingHouse
    function token() external view returns (address) {
        return address(_token);
    }

    /// @inheritdoc IClearingHouse
    function pausedSeconds() external view returns (uint256) {
        return paused() ? _pastPausedSeconds + block.timestamp - _pausedSince : _pastPausedSeconds;
    }

    function _pause() internal override {
        super._pause();
        _pausedSince = uint128(block.timestamp);
    }

    function _unpause() internal override {
        super._unpause();
        _pastPausedSeconds += uint128(block.timestamp) - _pausedSince;
    }

    function _deposit(address account, uint256 amount) private nonReentrant whenNotPaused {
        // F and H rise by what T rose by. No other deposit or withdrawal can run in between (nonReentrant); a direct
        // transfer in between is credited here, and is there.
        uint256 heldBefore = _token.balanceOf(address(this));
        _token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = _token.balanceOf(address(this)) - heldBefore;
        if (received == 0) revert ZeroAmount();
        _credit(account, received);
        totalHeld += received;
        emit Deposited(account, msg.sender, received);
    }

    function _credit(address account, uint256 amount) private {
        _accounts[account] = (_accounts[account] | OPENED) + amount;
    }

    function _debit(address account, uint256 amount) private {
        uint256 available = balanceOf(account);
        if (available < amount) revert InsufficientBalance(account, available, amount);
        unchecked {
            _accounts[account] = OPENED | (available - amount);
        }
    }

    function _unlock(bytes32 lockId, uint256 amount) private {
        uint256 available = lockOf[lockId];
        if (available < amount) revert InsufficientLock(lockId, available, amount);
        unchecked {
            lockOf[lockId] = available - amount;
        }
    }
}
