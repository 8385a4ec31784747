// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Test double: an ERC-20 that misbehaves as told
/// @notice Any number of decimals, a fee on transfer, no return value, a call back to anybody in the middle of a transfer,
/// no transfer at all.
contract HostileToken {
    error TransfersStopped();

    uint8 public immutable decimals;
    /// Taken from what arrives, basis points.
    uint256 public immutable feeBps;
    /// Returns nothing from transfers, as some old tokens do.
    bool public immutable silent;
    /// No transfer goes through, as while an issuer has paused its token.
    bool public stopped;

    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    address private _calledBack;
    bytes private _callback;

    constructor(uint8 decimals_, uint256 feeBps_, bool silent_) {
        decimals = decimals_;
        feeBps = feeBps_;
        silent = silent_;
    }

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    /// Takes tokens away from their holder.
    function burn(address from, uint256 amount) external {
        balanceOf[from] -= amount;
    }

    /// From now on every transfer calls `target` with `data`, and fails as that call fails.
    function setCallback(address target, bytes calldata data) external {
        _calledBack = target;
        _callback = data;
    }

    function setStopped(bool stopped_) external {
        stopped = stopped_;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return _transfer(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        allowance[from][msg.sender] -= amount;
        return _transfer(from, to, amount);
    }

    function _transfer(address from, address to, uint256 amount) private returns (bool) {
        if (stopped) revert TransfersStopped();
        if (_calledBack != address(0)) {
            (bool ok, bytes memory answer) = _calledBack.call(_callback);
            if (!ok) {
                assembly {
                    revert(add(answer, 32), mload(answer))
                }
            }
        }
        balanceOf[from] -= amount;
        balanceOf[to] += amount - (amount * feeBps) / 10_000;
        if (silent) {
            assembly {
                return(0, 0)
            }
        }
        return true;
    }
}
