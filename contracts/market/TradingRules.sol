// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {ICommitmentRegistry} from "interfaces/ICommitmentRegistry.sol";
import {IEnergyMarket} from "interfaces/IEnergyMarket.sol";
import {IGridRegistry} from "interfaces/IGridRegistry.sol";
import {IMeterRegistry} from "interfaces/IMeterRegistry.sol";
import {IParticipantRegistry} from "interfaces/IParticipantRegistry.sol";
import {ITradingRules} from "interfaces/ITradingRules.sol";
import {Money} from "contracts/clearinghouse/Money.sol";
import {TickBook} from "contracts/market/TickBook.sol";
import {Curves} from "contracts/metering/Curves.sol";
import {Module} from "contracts/registry/Module.sol";

/// @title Standing rules by which bids and offers are placed automatically
contract TradingRules is ITradingRules, Module, EIP712 {
    using Curves for bytes;

    bytes32 private constant RULE_TYPEHASH = keccak256(
        "Rule(bytes32 connectionId,address agent,address forecaster,uint32 number,uint40 validFrom,uint40 validUntil,"
        "uint16 shareBps,bool greenOnly,int64[24] buyLimits,int64[24] sellLimits)"
    );

    IEnergyMarket private immutable _market;
    IGridRegistry private immutable _grid;
    IMeterRegistry private immutable _meters;
    ICommitmentRegistry private immutable _commitments;

    struct Registered {
        /// First 224 bits of the hash of the rule; zero: revoked.
        bytes28 hash;
        uint32 number;
    }

    mapping(bytes32 connectionId => Registered) private _rules;
    /// @dev Bit i of word k: ISP 256 k + i of a committed forecast was traded.
    mapping(bytes32 connectionId => mapping(uint64 commitmentId => mapping(uint256 => uint256))) private _traded;

    constructor(
        address authority_,
        IParticipantRegistry participants_,
        IEnergyMarket market_,
        IGridRegistry grid_,
        IMeterRegistry meters_,
        ICommitmentRegistry commitments_
    ) Module(authority_, participants_) EIP712("gridpact.rules", "1") {
        _market = market_;
        _grid = grid_;
        _meters = meters_;
        _commitments = commitments_;
    }

    /// @inheritdoc ITradingRules
    function register(Rule calldata rule, bytes calldata signature) external whenNotPaused {
        IGridRegistry.Connection memory connection = _grid.connection(rule.connectionId);
        if (!connection.active) revert IGridRegistry.ConnectionUnknown(rule.connectionId);
        uint32 latest = _rules[rule.connectionId].number;
        if (rule.number <= latest) revert RuleOutdated(rule.connectionId, rule.number, latest);
        if (msg.sender != connection.owner) {
            bytes32 digest = _hashTypedDataV4(_hashOf(rule));
            if (!SignatureChecker.isValidSignatureNow(connection.owner, digest, signature)) {
                revert RuleSignatureInvalid(rule.connectionId, connection.owner);
            }
        }
        _rules[rule.connectionId] = Registered(bytes28(_hashOf(rule)), rule.number);
        emit RuleRegistered(rule.connectionId, connection.owner, rule);
    }

    /// @inheritdoc ITradingRules
    function revoke(bytes32 connectionId) external {
        if (msg.sender != _grid.connection(connectionId).owner) revert NotOwnerOfRule(connectionId, msg.sender);
        Registered storage registered = _rules[connectionId];
        if (registered.hash == 0) revert RuleNotInForce(connectionId, registered.number);
        registered.hash = 0;
        emit RuleRevoked(connectionId, registered.number);
    }

    /// @inheritdoc ITradingRules
    function place(
        Rule calldata rule,
        uint64 sessionId,
        bytes calldata bundle,
        Forecast calldata forecast
    ) external whenNotPaused {
        _requireInForce(rule);
        if (_market.bundleOf(sessionId, rule.connectionId).sequence != 0) {
            revert OwnOrdersStand(sessionId, rule.connectionId);
        }
        IEnergyMarket.Terms memory terms = _market.termsOf(sessionId);
        uint32 firstIsp = _market.session(sessionId).firstIsp;
        uint32 forecastFirstIsp = _requireForecast(rule, forecast);
        uint256[] memory leftWh = _sharesOf(rule, terms, firstIsp, forecast, forecastFirstIsp);
        _trade(rule.connectionId, forecast.commitmentId, firstIsp, firstIsp - forecastFirstIsp, terms);
        _requireWithinRule(rule, terms, firstIsp, bundle, leftWh);
        emit PlacedByRule(sessionId, rule.connectionId, rule.number, forecast.commitmentId, msg.sender);
        _market.submitFor(sessionId, rule.connectionId, "", bundle);
    }

    /// @inheritdoc ITradingRules
    function ruleOf(bytes32 connectionId) external view returns (uint32 number, bool inForce) {
        Registered memory registered = _rules[connectionId];
        return (registered.number, registered.hash != 0);
    }

    function _requireInForce(Rule calldata rule) private view {
        if (_rules[rule.connectionId].hash != bytes28(_hashOf(rule))) {
            revert RuleNotInForce(rule.connectionId, rule.number);
        }
        if (block.timestamp < rule.validFrom || block.timestamp > rule.validUntil) {
            revert RuleNotValidNow(rule.validFrom, rule.validUntil, block.timestamp);
        }
        if (rule.agent != address(0) && rule.agent != msg.sender) {
            revert NotAgentOf(rule.connectionId, msg.sender, rule.agent);
        }
    }

    /// @return firstIsp First ISP of the forecast.
    function _requireForecast(Rule calldata rule, Forecast calldata forecast) private view returns (uint32 firstIsp) {
        ICommitmentRegistry.Commitment memory committed = _commitments.commitment(forecast.commitmentId);
        if (committed.kind != ICommitmentRegistry.Kind.Forecast || committed.committer != rule.forecaster) {
            revert ForecastNotUsable(forecast.commitmentId, committed.committer, rule.forecaster);
        }
        if (
            !forecast.values.isBaseline(committed.ispCount) ||
            _meters.meter(forecast.meterId).connectionId != rule.connectionId
        ) revert ForecastMismatch(forecast.meterId, committed.firstIsp, committed.ispCount);
        bytes32 leaf = _commitments.baselineLeaf(
            forecast.meterId,
            committed.firstIsp,
            committed.ispCount,
            keccak256(forecast.values)
        );
        if (!MerkleProof.verifyCalldata(forecast.proof, committed.root, leaf)) {
            revert ICommitmentRegistry.LeafNotCommitted(forecast.commitmentId, leaf);
        }
        return committed.firstIsp;
    }

    /// Marks the ISPs of a session, which begins at `position` of the forecast.
    function _trade(
        bytes32 connectionId,
        uint64 commitmentId,
        uint256 firstIsp,
        uint256 position,
        IEnergyMarket.Terms memory terms
    ) private {
        mapping(uint256 => uint256) storage words = _traded[connectionId][commitmentId];
        uint256 end = position + uint256(terms.ispsPerPeriod) * terms.periodCount;
        while (position < end) {
            uint256 word = position >> 8;
            uint256 count = Math.min(end, (word + 1) << 8) - position;
            uint256 isps = (type(uint256).max >> (256 - count)) << (position & 0xff);
            if (words[word] & isps != 0) revert ForecastTraded(connectionId, commitmentId, firstIsp);
            words[word] |= isps;
            position += count;
        }
    }

    /// @return leftWh What may be sold in each delivery period, followed by what may be bought, Wh.
    function _sharesOf(
        Rule calldata rule,
        IEnergyMarket.Terms memory terms,
        uint256 firstIsp,
        Forecast calldata forecast,
        uint32 forecastFirstIsp
    ) private pure returns (uint256[] memory leftWh) {
        uint256 forecastIsps = forecast.values.length / 4;
        uint256 endIsp = firstIsp + uint256(terms.ispsPerPeriod) * terms.periodCount;
        if (firstIsp < forecastFirstIsp || endIsp > forecastFirstIsp + forecastIsps) {
            revert ForecastMismatch(forecast.meterId, forecastFirstIsp, uint16(forecastIsps));
        }
        leftWh = new uint256[](2 * uint256(terms.periodCount));
        uint256 position = firstIsp - forecastFirstIsp;
        for (uint256 period = 0; period < terms.periodCount; ++period) {
            int256 netWh;
            for (uint256 end = position + terms.ispsPerPeriod; position < end; ++position) {
                netWh += forecast.values.baseline(position);
            }
            if (netWh > 0) leftWh[terms.periodCount + period] = Money.shareDown(uint256(netWh), rule.shareBps);
            else leftWh[period] = Money.shareDown(uint256(-netWh), rule.shareBps);
        }
    }

    function _requireWithinRule(
        Rule calldata rule,
        IEnergyMarket.Terms memory terms,
        uint256 firstIsp,
        bytes calldata bundle,
        uint256[] memory leftWh
    ) private pure {
        TickBook.Grid memory grid = TickBook.Grid(
            terms.basePrice,
            terms.priceStep,
            terms.tickCount,
            2 * terms.periodCount,
            terms.minQuantityWh
        );
        uint256 count = TickBook.count(bundle);
        for (uint256 i = 0; i < count; ++i) {
            uint256 quantityWh;
            uint256 share;
            {
                uint256 product;
                bool sell;
                uint256 tick;
                (product, sell, tick, quantityWh) = TickBook.orderAt(grid, bundle, i);
                if (!sell && rule.greenOnly && product < terms.periodCount) revert NotGreen(i, product);
                share = product % terms.periodCount;
                uint256 hour = (firstIsp + share * terms.ispsPerPeriod) / 4;
                _requireLimit(rule, i, sell, TickBook.priceOf(grid, tick), hour);
                if (!sell) share += terms.periodCount;
            }
            if (quantityWh > leftWh[share]) {
                revert ShareExceeded(share % terms.periodCount, quantityWh, leftWh[share]);
            }
            leftWh[share] -= quantityWh;
        }
    }

    /// @param hour Hours since the epoch.
    function _requireLimit(Rule calldata rule, uint256 position, bool sell, int256 price, uint256 hour) private pure {
        int256 limit = sell ? rule.sellLimits[hour % 24] : rule.buyLimits[hour % 24];
        if (sell ? price < limit : price > limit) revert LimitBroken(position, price, limit);
    }

    function _hashOf(Rule calldata rule) private pure returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    RULE_TYPEHASH,
                    rule.connectionId,
                    rule.agent,
                    rule.forecaster,
                    rule.number,
                    rule.validFrom,
                    rule.validUntil,
                    rule.shareBps,
                    rule.greenOnly,
                    keccak256(abi.encodePacked(rule.buyLimits)),
                    keccak256(abi.encodePacked(rule.sellLimits))
                )
            );
    }
}
