// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFlexDispatch} from "interfaces/IFlexDispatch.sol";
import {IMeteringLedger} from "interfaces/IMeteringLedger.sol";

/// @title Standby lists and reassignment of what an order misses
/// @notice A shortfall that a device-signed reading proves is handed to the standby list of the flex order in merit
/// order. Source: eDREAM D2.5 LL-UC08; FRs MF03_BR03_UR03_FR07, UR04_FR08.
/// @dev A list is kept as its hash; the event carries it, callers bring it back. The baseline of every agreement on a
/// list was proven when it was listed, so nobody who is able can stop the list by a curve that was never committed or
/// is not shown. An agreement is passed over only for what the contract sees itself: not in force, no longer standby or
/// of another baseline method, connection not allowed, another meter than the one listed, weekly limit reached, nothing
/// free and available with notice, no power.
///
/// A reading proves a shortfall until `maxReadingAgeSeconds` after its ISP: an older one says little about an order that
/// may have recovered since. Within that time any reading of the order's day may be brought, also when a later one is
/// better: what it takes over never exceeds the share that was missing at that ISP.
/// @custom:stop Paused: no list, no reassignment. Orders stand and are settled.
/// @custom:trust The aggregator chooses who is listed; order and quantities are the contract's.
interface IFlexReassignment {
    /// @notice An agreement on a list, with the meter and the baseline that it would be settled by.
    struct Standby {
        uint64 agreementId;
        bytes32 meterId;
        /// Hash of the packed baseline of the meter.
        bytes32 baselineHash;
    }

    /// @notice What is brought to list an agreement. Its meter is the one in service.
    struct Candidate {
        uint64 agreementId;
        bytes baselineWh;
        bytes32[] baselineProof;
    }

    /// @notice What proves a shortfall.
    struct Shortfall {
        uint64 prosumerOrderId;
        bytes quantitiesWh;
        bytes baselineWh;
        /// Quantities of the order taken over so far; empty when none.
        bytes takenWh;
        IMeteringLedger.Reading reading;
        /// The list of the flex order, whole.
        Standby[] standby;
    }

    event StandbyListed(uint64 indexed flexOrderId, Standby[] standby);
    event Reassigned(
        uint64 indexed failedOrderId,
        uint64 indexed replacementOrderId,
        uint32 indexed isp,
        uint256 shortfallWh,
        uint256 takenWh,
        bytes totalTakenWh
    );

    error StandbyNotInMeritOrder(uint256 index);
    error StandbyListTooLong(uint256 length, uint256 limit);
    error StandbyListMismatch(uint64 flexOrderId);
    error NotStandby(uint64 agreementId);
    error ReadingNotOfOrder(uint64 prosumerOrderId);
    error IspNotOver(uint32 isp, uint256 nowTs);
    error ReadingTooOld(uint32 isp, uint256 usableUntil, uint256 nowTs);
    error NoShortfall(uint64 prosumerOrderId, int256 deliveredWh, uint256 dueWh);
    error NothingLeftToReassign(uint64 prosumerOrderId);
    error NoStandbyLeft(uint64 flexOrderId);

    /// @notice Sets the standby list of a flex order: agreements marked standby with their committed baselines, ascending
    /// reward rate, at most 32. Only its aggregator, until `dispatchBy`.
    function listStandby(uint64 flexOrderId, Candidate[] calldata candidates) external;

    /// @notice Hands the missing share of a failing order, from the next ISP that allows notice, to the first standby
    /// able to take it. Anyone may call, as often as something is missing and standby is left.
    /// @dev A standby takes per remaining ISP down(quantity * (ordered - delivered) / ordered) with ordered and delivered of
    /// the proven ISP, less what was taken over before.
    function reassign(
        IFlexDispatch.OrderTerms calldata terms,
        Shortfall calldata shortfall
    ) external returns (uint64 replacementOrderId);

    /// @notice `keccak256(abi.encode(Standby[]))` of the list of a flex order; zero when none was set.
    function standbyHashOf(uint64 flexOrderId) external view returns (bytes32);

    /// @notice How long after the end of its ISP a reading proves a shortfall, s.
    function maxReadingAgeSeconds() external view returns (uint32);
}
