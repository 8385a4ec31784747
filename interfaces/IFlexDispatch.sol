// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IFlexMarket} from "interfaces/IFlexMarket.sol";

/// @title Prosumer orders: dispatch, replacements, direct control
/// @notice An aggregator disaggregates its flex order into prosumer orders within their agreements; what one of them
/// misses is taken over by others, which {IFlexReassignment} finds. Source: eDREAM D2.2 HL-UC01_LL-UC07; FRs
/// MF03_BR03_UR01_FR05, UR03_FR07.
/// @dev A prosumer order pins all it is settled by in {OrderTerms}; storage holds the hash, events carry the content,
/// callers bring it back. The baseline is proven against its commitment when the order is issued, so prosumer, DSO and
/// aggregator know before delivery what will be measured against.
///
/// A group is what prosumer orders are paid from: a flex order (id below 2**63) or a direct control event (id from
/// 2**63). The largest reward of every order is locked from the payer when it is issued.
///
/// State of a prosumer order: Issued --cancel, until notice--> Cancelled | --settle--> Settled (with or without readings)
/// | group finalised after the settlement deadline: nothing more is paid.
/// @custom:stop Paused: no dispatch, no replacement, no direct order. Settlement works.
interface IFlexDispatch {
    enum OrderStatus {
        None,
        Issued,
        Cancelled,
        Settled
    }

    /// @notice Everything a prosumer order is settled by.
    struct OrderTerms {
        uint64 groupId;
        /// Zero for a direct order.
        uint64 agreementId;
        /// Order whose missing energy this one takes; zero for an original order.
        uint64 replaces;
        address prosumer;
        bytes32 meterId;
        IFlexMarket.Direction direction;
        uint32 dayFirstIsp;
        uint16 ispCount;
        uint32 rewardRate;
        uint32 penaltyRate;
        uint16 toleranceBps;
        uint32 multiplierBps;
        /// Time before its first ordered ISP until which the order can be withdrawn, s.
        uint32 noticeSeconds;
        bool missingIsShortfall;
        /// Hash of the packed ordered quantities.
        bytes32 quantitiesHash;
        /// Hash of the packed baseline of the meter.
        bytes32 baselineHash;
    }

    struct ProsumerOrder {
        OrderStatus status;
        uint64 groupId;
        /// Batch version it was settled by; zero when settled without readings.
        uint16 version;
        /// Energy delivered that counts for the group, Wh; after settlement.
        uint40 creditedWh;
        /// Ordered energy in ISPs without a reading, Wh; after settlement.
        uint40 missingWh;
        /// Standby took over part of it.
        bool replaced;
        /// Reward minus penalty, uToken, negative when taken from the bond; after settlement.
        int72 net;
        /// `keccak256(abi.encode(OrderTerms))`.
        bytes32 termsHash;
    }

    struct Group {
        address payer;
        uint32 dayFirstIsp;
        uint16 ispCount;
        /// From here on a second slot, all that settlement reads and writes of a group.
        uint64 creditedWh;
        uint64 missingWh;
        /// Orders issued and not cancelled.
        uint32 issued;
        uint32 settled;
        bool finalised;
    }

    /// @notice What a settlement stands on.
    struct Basis {
        OrderStatus status;
        bytes32 termsHash;
        /// Hash of the packed quantities that standby took over; zero when none.
        bytes32 takenHash;
        bool groupFinalised;
        bytes32 groupLockId;
    }

    /// @notice What a failing order lost to standby.
    struct Reassignment {
        /// Hash of the packed quantities taken over so far.
        bytes32 takenHash;
        uint48 takenWh;
        /// Penalty collected from the failing order when it was settled, uToken.
        uint64 pot;
    }

    /// @notice One prosumer's part of a flex order.
    /// @dev The baseline curve itself is brought, not its hash: everybody can settle from what the transaction shows, and
    /// a committed hash that nobody can open, or of another length, is refused.
    struct Dispatch {
        uint64 agreementId;
        bytes quantitiesWh;
        bytes baselineWh;
        bytes32[] baselineProof;
    }

    /// @notice One connection's part of a direct order. Only the regime module makes it.
    struct Direct {
        bytes32 connectionId;
        bytes quantitiesWh;
        bytes baselineWh;
        bytes32[] baselineProof;
    }

    /// @notice An order that takes over from another. Only the reassignment module makes it.
    struct Replacement {
        uint64 failedOrderId;
        uint64 agreementId;
        /// Meter and hash of the packed baseline that the replacement is settled by, proven when it was listed.
        bytes32 meterId;
        bytes32 baselineHash;
        bytes quantitiesWh;
        /// All that the failing order lost so far, with this replacement.
        bytes totalTakenWh;
        /// Energy of this replacement, Wh.
        uint48 takenWh;
        /// What the failing order can earn less than before, uToken.
        uint256 rewardFreed;
    }

    event ProsumerOrdered(
        uint64 indexed prosumerOrderId,
        uint64 indexed groupId,
        address indexed prosumer,
        OrderTerms terms,
        bytes quantitiesWh,
        uint64 orderedWh,
        uint64 rewardLocked
    );
    event ProsumerOrderCancelled(uint64 indexed prosumerOrderId, uint64 indexed groupId, uint64 rewardReleased);
    event DirectGroupOpened(
        uint64 indexed groupId,
        address indexed payer,
        bytes32 indexed congestionPointId,
        uint64 baselineCommitmentId,
        uint32 rate
    );
    event GroupFinalised(uint64 indexed groupId, uint256 payerReturned);

    error ProsumerOrderUnknown(uint64 prosumerOrderId);
    error OrderNotIssued(uint64 prosumerOrderId, OrderStatus status);
    error TermsMismatch(uint64 prosumerOrderId);
    error NotAggregatorOf(uint64 flexOrderId, address caller);
    error FlexOrderClosed(uint64 flexOrderId);
    error DispatchClosed(uint40 dispatchBy, uint256 nowTs);
    error OutsideAgreement(uint64 agreementId, uint256 position, uint256 quantityWh, uint256 limitWh);
    error OutsideAvailability(uint64 agreementId, uint256 position);
    error AlreadyOrdered(bytes32 connectionId, uint256 position);
    error AlreadyReplaced(uint64 prosumerOrderId);
    error EmptyCurve();
    error CurveLength(uint256 length, uint256 expected);
    error CurveMismatch(bytes32 given, bytes32 expected);
    error DayTooFarAhead(uint256 correctableUntil, uint256 bondHeldUntil);
    error NoticeTooShort(uint64 agreementId, uint256 firstIspStart, uint256 earliest);
    error WeeklyLimitReached(uint64 agreementId, uint256 week, uint8 limit);
    error OtherAggregator(uint64 agreementId, address aggregator);
    error OtherCongestionPoint(bytes32 connectionId, bytes32 congestionPointId);
    error OtherBaselineMethod(uint64 agreementId, bytes32 agreed, bytes32 committed);
    error ConnectionNotAllowed(bytes32 connectionId);
    error NoMeter(bytes32 connectionId);
    error MoreThanOrdered(uint256 position, uint256 dispatchedWh, uint256 orderedWh);
    error GroupAlreadyFinalised(uint64 groupId);

    /// @notice Issues prosumer orders for a flex order and locks their largest rewards. Only its aggregator, until
    /// `dispatchBy`; in as many calls as it needs. Not for a day so far ahead that a bond could leave before the last
    /// correction: the end of the day plus `correctionSeconds` lies before now plus the bonds' `bondHoldSeconds`.
    /// @param orderedWh The flex order's curve.
    function dispatch(
        uint64 flexOrderId,
        bytes calldata orderedWh,
        Dispatch[] calldata dispatches
    ) external returns (uint64 firstProsumerOrderId);

    /// @notice Withdraws a prosumer order while its notice time, as it was when the order was issued, has not begun. Only
    /// the aggregator.
    function cancelProsumerOrder(
        uint64 prosumerOrderId,
        OrderTerms calldata terms,
        bytes calldata quantitiesWh
    ) external;

    /// @notice Issues an order that takes over from a failing one, with all the checks of {dispatch} but `dispatchBy`, and
    /// locks what it can earn more than the failing one can earn less. Only the reassignment module.
    function issueReplacement(Replacement calldata replacement) external returns (uint64 replacementOrderId);

    /// @notice Opens a direct control group and issues its orders. Only the regime module, which checks limits.
    function issueDirect(
        address payer,
        bytes32 congestionPointId,
        IFlexMarket.Direction direction,
        uint32 dayFirstIsp,
        uint16 ispCount,
        uint32 rate,
        uint64 baselineCommitmentId,
        Direct[] calldata orders
    ) external returns (uint64 groupId);

    /// @notice Records the verdict of an order, or the corrected one. Only the settlement module.
    function recordSettlement(
        uint64 prosumerOrderId,
        uint16 version,
        uint40 creditedWh,
        uint40 missingWh,
        int72 net
    ) external;

    /// @notice Records the penalty collected from a failing order, for those who took over. Only the settlement module.
    function recordPot(uint64 failedOrderId, uint64 collected) external;

    /// @notice Closes a group and returns what is left in its lock to the payer. Only the settlement module.
    function finaliseGroup(uint64 groupId) external returns (uint256 payerReturned);

    function prosumerOrder(uint64 prosumerOrderId) external view returns (ProsumerOrder memory);

    function group(uint64 groupId) external view returns (Group memory);

    function reassignment(uint64 prosumerOrderId) external view returns (Reassignment memory);

    /// @notice All that settlement needs of an order, in one call.
    function basisOf(uint64 prosumerOrderId) external view returns (Basis memory);

    /// @notice Energy dispatched per ISP of a flex order, packed `uint32` Wh.
    function dispatchedWh(uint64 flexOrderId) external view returns (bytes memory);

    /// @notice Bit p set: the connection has an order at position p of the market day.
    function orderedIsps(bytes32 connectionId, uint32 dayFirstIsp) external view returns (uint128);

    /// @notice Orders of an agreement in the week of a market day, cancelled ones not counted.
    function activationsOf(uint64 agreementId, uint32 dayFirstIsp) external view returns (uint256);

    /// @notice How long verdicts can be corrected, s after the end of the market day; {IFlexSettlement} goes by it.
    function correctionSeconds() external view returns (uint32);

    /// @notice Lock in the clearing house that rewards of a group are paid from.
    function groupLockId(uint64 groupId) external view returns (bytes32);

    function hashTerms(OrderTerms calldata terms) external pure returns (bytes32);
}
