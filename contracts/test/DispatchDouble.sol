// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IFlexMarket} from "interfaces/IFlexMarket.sol";

/// @title Test double: what the market and the regime ask of dispatch, told by the test
contract DispatchDouble {
    uint64 public constant GROUP_ID = (1 << 63) + 7;

    mapping(uint64 groupId => uint32) private _issued;

    event DirectIssued(
        address payer,
        bytes32 congestionPointId,
        IFlexMarket.Direction direction,
        uint32 dayFirstIsp,
        uint16 ispCount,
        uint32 rate,
        uint64 baselineCommitmentId,
        bytes32 ordersHash
    );

    function setIssued(uint64 groupId, uint32 issued) external {
        _issued[groupId] = issued;
    }

    function group(uint64 groupId) external view returns (IFlexDispatch.Group memory found) {
        found.issued = _issued[groupId];
    }

    function issueDirect(
        address payer,
        bytes32 congestionPointId,
        IFlexMarket.Direction direction,
        uint32 dayFirstIsp,
        uint16 ispCount,
        uint32 rate,
        uint64 baselineCommitmentId,
        IFlexDispatch.Direct[] calldata orders
    ) external returns (uint64) {
        emit DirectIssued(
            payer,
            congestionPointId,
            direction,
            dayFirstIsp,
            ispCount,
            rate,
            baselineCommitmentId,
            keccak256(abi.encode(orders))
        );
        return GROUP_ID;
    }
}
