// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IPoolRelay} from "interfaces/IPoolRelay.sol";
import {IPostDeliveryPool} from "interfaces/IPostDeliveryPool.sol";

/// @title Signed joining of a post-delivery pool
/// @dev Checks signatures alone; all else is checked by the pool, of which this is a module. Needs no governance.
contract PoolRelay is IPoolRelay, EIP712 {
    bytes32 private constant JOINING_TYPEHASH = keccak256(
        "Joining(uint64 poolId,bytes32 connectionId,uint128 deposit,uint16 buyTick,uint16 sellTick,uint64 deadline)"
    );

    IGridRegistry private immutable _grid;
    IPostDeliveryPool private immutable _pool;

    constructor(IGridRegistry grid_, IPostDeliveryPool pool_) EIP712("gridpact.pool", "1") {
        _grid = grid_;
        _pool = pool_;
    }

    /// @inheritdoc IPoolRelay
    function joinSigned(uint64 poolId, SignedJoining[] calldata joinings) external {
        for (uint256 i = 0; i < joinings.length; ++i) {
            SignedJoining calldata signed = joinings[i];
            if (_isMember(poolId, signed.connectionId)) continue;
            if (block.timestamp > signed.deadline) revert SignatureExpired(i, signed.deadline, block.timestamp);
            (address owner, ) = _grid.ownerOf(signed.connectionId);
            bytes32 structHash = keccak256(
                abi.encode(
                    JOINING_TYPEHASH,
                    poolId,
                    signed.connectionId,
                    signed.deposit,
                    signed.buyTick,
                    signed.sellTick,
                    signed.deadline
                )
            );
            if (!SignatureChecker.isValidSignatureNow(owner, _hashTypedDataV4(structHash), signed.signature)) {
                revert InvalidSignature(i, owner);
            }
            _pool.joinFor(poolId, signed.connectionId, signed.deposit, signed.buyTick, signed.sellTick);
        }
    }

    function _isMember(uint64 poolId, bytes32 connectionId) private view returns (bool) {
        return _pool.memberOf(poolId, connectionId).state != IPostDeliveryPool.MemberState.None;
    }
}
