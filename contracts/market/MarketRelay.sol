// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMarketRelay} from "interfaces/IMarketRelay.sol";

/// @title Signed orders and rejections of the peer-to-peer energy market
/// @dev Checks signatures alone; all else is checked by the market, of which this is a module. Needs no governance.
contract MarketRelay is IMarketRelay, EIP712 {
    bytes32 private constant BUNDLE_TYPEHASH = keccak256(
        "Bundle(uint64 sessionId,bytes32 connectionId,uint16 sequence,bytes32 bundleHash,uint64 deadline)"
    );
    bytes32 private constant REJECTION_TYPEHASH = keccak256(
        "Rejection(uint64 sessionId,bytes32 connectionId,uint16 sequence,uint256 positions)"
    );

    IGridRegistry private immutable _grid;
    IEnergyMarket private immutable _market;

    constructor(IGridRegistry grid_, IEnergyMarket market_) EIP712("gridpact.market", "1") {
        _grid = grid_;
        _market = market_;
    }

    /// @inheritdoc IMarketRelay
    function submitSigned(uint64 sessionId, SignedBundle[] calldata bundles) external {
        for (uint256 i = 0; i < bundles.length; ++i) {
            SignedBundle calldata signed = bundles[i];
            IEnergyMarket.BundleState memory state = _market.bundleOf(sessionId, signed.connectionId);
            if (_isInPlace(state, signed.bundle)) continue;
            if (block.timestamp > signed.deadline) revert SignatureExpired(i, signed.deadline, block.timestamp);
            bytes32 structHash = keccak256(
                abi.encode(
                    BUNDLE_TYPEHASH,
                    sessionId,
                    signed.connectionId,
                    state.sequence,
                    keccak256(signed.bundle),
                    signed.deadline
                )
            );
            _requireSigned(i, signed.connectionId, structHash, signed.signature);
            _market.submitFor(sessionId, signed.connectionId, signed.previous, signed.bundle);
        }
    }

    /// @inheritdoc IMarketRelay
    function rejectSigned(
        uint64 sessionId,
        bytes32 connectionId,
        bytes calldata bundle,
        uint256 positions,
        bytes calldata signature
    ) external {
        uint16 sequence = _market.bundleOf(sessionId, connectionId).sequence;
        bytes32 structHash = keccak256(abi.encode(REJECTION_TYPEHASH, sessionId, connectionId, sequence, positions));
        _requireSigned(0, connectionId, structHash, signature);
        _market.rejectFor(sessionId, connectionId, bundle, positions);
    }

    /// Whether a bundle stands already, or was cancelled: there is nothing to bring.
    function _isInPlace(IEnergyMarket.BundleState memory state, bytes calldata bundle) private pure returns (bool) {
        if (bundle.length == 0) return state.sequence != 0 && !state.placed;
        return state.placed && state.hash == bytes25(keccak256(bundle));
    }

    function _requireSigned(
        uint256 index,
        bytes32 connectionId,
        bytes32 structHash,
        bytes calldata signature
    ) private view {
        (address owner, ) = _grid.ownerOf(connectionId);
        if (!SignatureChecker.isValidSignatureNow(owner, _hashTypedDataV4(structHash), signature)) {
            revert InvalidSignature(index, owner);
        }
    }
}
