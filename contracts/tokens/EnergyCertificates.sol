// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC1155} from "@openzeppelin/contracts/token/ERC1155/ERC1155.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IEnergyCertificates} from "interfaces/IEnergyCertificates.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {IProducerRegistry} from "interfaces/IProducerRegistry.sol";
import {TickBook} from "contracts/market/TickBook.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Energy as a digital asset: certificates of final matches, guarantees of origin of what was delivered
/// @dev See {IEnergyCertificates}.
contract EnergyCertificates is IEnergyCertificates, ERC1155, Module {
    uint256 private constant LANE = type(uint64).max;
    uint256 private constant CLASSES = 7;

    IGridRegistry private immutable _grid;
    IEnergyMarket private immutable _market;
    IProducerRegistry private immutable _producers;

    /// Injected Wh, four neighbouring products a word of 64 bits each; the key is class * 2^16 + product / 4.
    mapping(uint64 sessionId => mapping(uint256 key => uint256)) private _injected;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IGridRegistry grid_,
        IEnergyMarket market_,
        IProducerRegistry producers_
    ) Module(authority_, participants_) ERC1155("") {
        _grid = grid_;
        _market = market_;
        _producers = producers_;
    }

    /// @inheritdoc IEnergyCertificates
    function issue(uint64 sessionId, bytes32 connectionId, bytes calldata bundle) external whenNotPaused {
        uint256[] memory boughtWh = _market.certify(sessionId, connectionId, bundle).boughtWh;
        uint256 count;
        for (uint256 product = 0; product < boughtWh.length; ++product) {
            if (boughtWh[product] != 0) ++count;
        }
        if (count == 0) revert NothingIssued(sessionId, connectionId);
        uint256[] memory ids = new uint256[](count);
        uint256[] memory amounts = new uint256[](count);
        for (uint256 product = boughtWh.length; count != 0;) {
            if (boughtWh[--product] == 0) continue;
            ids[--count] = certificateId(sessionId, uint16(product));
            amounts[count] = boughtWh[product];
        }
        address holder = _grid.connection(connectionId).owner;
        emit CertificatesIssued(sessionId, connectionId, holder);
        _mintBatch(holder, ids, amounts, "");
    }

    /// @inheritdoc IEnergyCertificates
    function recordInjection(uint64 sessionId, bytes32 connectionId, uint256[] calldata injected) external onlyModule {
        IProducerRegistry.ProducerClass producerClass = _producers.producerClassOf(connectionId);
        mapping(uint256 => uint256) storage pool = _injected[sessionId];
        uint256 base = uint256(producerClass) << 16;
        for (uint256 first = 0; first < injected.length; first += 4) {
            uint256 word;
            uint256 end = Math.min(first + 4, injected.length);
            // A meter counts less than 2^32 Wh an ISP: a lane takes 65,536 sellers at that in every ISP of a product.
            for (uint256 product = first; product < end; ++product) {
                word |= injected[product] << (64 * (product & 3));
            }
            if (word != 0) pool[base | (first >> 2)] += word;
        }
        emit InjectionRecorded(sessionId, connectionId, producerClass, injected);
    }

    /// @inheritdoc IEnergyCertificates
    function redeem(uint256 id, uint256 amount) external {
        (uint64 sessionId, uint16 product, uint256 kind) = _parts(id);
        if (kind != 0) revert NotACertificate(id);
        if (!_market.session(sessionId).closed) revert SessionNotClosed(sessionId);
        _burn(msg.sender, id, amount);
        emit Redeemed(msg.sender, id, amount);
        uint256 issued = _issuedBound(sessionId, product);
        for (uint256 class = 0; class < CLASSES; ++class) {
            IProducerRegistry.ProducerClass producerClass = IProducerRegistry.ProducerClass(class);
            uint256 guarantees = (amount * injectedWh(sessionId, product, producerClass)) / issued;
            if (guarantees != 0) _mint(msg.sender, guaranteeId(sessionId, product, producerClass), guarantees, "");
        }
    }

    /// @inheritdoc IEnergyCertificates
    function retire(uint256 id, uint256 amount, bytes32 purpose) external {
        (, , uint256 kind) = _parts(id);
        if (kind == 0) revert NotAGuarantee(id);
        _burn(msg.sender, id, amount);
        emit Retired(msg.sender, id, amount, purpose);
    }

    /// @inheritdoc IEnergyCertificates
    function injectedWh(
        uint64 sessionId,
        uint16 product,
        IProducerRegistry.ProducerClass producerClass
    ) public view returns (uint256) {
        uint256 word = _injected[sessionId][(uint256(producerClass) << 16) | (product >> 2)];
        return (word >> (64 * (product & 3))) & LANE;
    }

    /// @inheritdoc IEnergyCertificates
    function certificateId(uint64 sessionId, uint16 product) public pure returns (uint256) {
        return uint256(sessionId) | (uint256(product) << 64);
    }

    /// @inheritdoc IEnergyCertificates
    function guaranteeId(
        uint64 sessionId,
        uint16 product,
        IProducerRegistry.ProducerClass producerClass
    ) public pure returns (uint256) {
        return certificateId(sessionId, product) | ((uint256(producerClass) + 1) << 80);
    }

    function _parts(uint256 id) private pure returns (uint64 sessionId, uint16 product, uint256 kind) {
        return (uint64(id), uint16(id >> 64), id >> 80);
    }

    /// At least what was issued of a product, see {IEnergyCertificates}.
    function _issuedBound(uint64 sessionId, uint16 product) private view returns (uint256 boundWh) {
        TickBook.Grid memory grid;
        TickBook.Result memory result = TickBook.unpack(grid, _market.resultOf(sessionId, product));
        boundWh = result.volumeWh;
        if (result.class == TickBook.Class.MarginalBuyer) {
            boundWh += result.rationDenominator / _market.termsOf(sessionId).minQuantityWh + 1;
        }
    }
}
