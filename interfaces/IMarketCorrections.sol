// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IDebts} from "interfaces/IDebts.sol";
import {IMarketSettlement} from "interfaces/IMarketSettlement.sol";

/// @title Corrections of settled peer-to-peer trades by newer readings
/// @notice A bundle was settled by the readings that stood then, without any, or by a batch of outcomes. When the metered day
/// gets a newer version, or comes at last, anyone brings it and the difference is settled between the trader and the
/// operator of the session. Source: eDREAM D2.5 MF03_BR04, rules of `IFlexSettlement`. Decision 0036.
///
/// @dev **Formula.** With the outcome that `IMarketSettlement.outcomeOf` finds now:
///
///   difference = payout now - {paidOf}     positive: the operator pays the trader, negative: the trader the operator
///   {paidOf} = payout now, afterwards
///
/// The operator got what was left of the pot, which the newer outcome would have made smaller by the difference: once debts
/// are paid, everybody has what settlement by the newest readings would have left it, whatever was settled and corrected
/// before, by whom and in which order. Amounts are payouts, rounded once; differences add no rounding.
/// Example: 1,000 Wh sold at 120,000, guarantee rate 200,000, settled as missing: payout = guarantee = 200,000. Readings then
/// show 600 Wh injected: shortage 400 Wh at 250,000 + 50,000, payout 200,000 (example of `IMarketSettlement`): nothing to
/// correct. The next version shows 1,000 Wh: payout 320,000, the operator pays 120,000 uToken.
///
/// **Solvency.** No pot is needed: the session is closed, and the difference moves between two free balances. What the
/// debtor does not have is recorded as owed ({IDebts}). All newest payouts of a session stay within its pot (bound of
/// `IMarketSettlement`), so that an operator that keeps the residual of the pot can pay all corrections of the session.
///
/// **Rules.**
/// - Only of a closed session (`IEnergyMarket.closeSession`), so that the operator has the residual. Until then a bundle that
///   was settled waits; anybody can have the session closed by settling the rest. `IMarketSessions` has terms leave at least
///   `correctionSeconds` from then on.
/// - Until readings no longer count (`IMarketSessions.recordSeconds`, `ReadingsTooLate`).
/// - The newest version of a day counts. While it can be challenged, nothing is corrected; when it was rejected, what was
///   settled stands until there is a newer one. A trader whose day a newer version does not hold keeps its outcome.
/// - Money is corrected and nothing else: certificates and guarantees of origin are those of closing, when redeeming begins.
///   A pool after delivery settles by its own reports, which are final. The fee of a claim stays with the proposer; it was
///   part of the payout, so that the trader bears it also of what it has to pay back.
/// - An outcome that was claimed from a batch is corrected likewise, whatever made it differ.
/// - The other party is the owner of the connection, which never changes.
/// @custom:stop Never paused.
/// @custom:trust Meter operators and devices, for the readings, as `IMeteringLedger` says; where an operator anchors days that
/// overlap each other, whoever calls chooses between them. The DSO, for the congestion point of a connection: what it moved
/// since settlement is netted with the sessions of its new area. The debtor, for what it owes: there is no collateral.
interface IMarketCorrections is IDebts {
    /// @param outcome By the newest readings.
    /// @param difference To the trader, uToken; negative: from the trader.
    event TraderCorrected(
        uint64 indexed sessionId,
        bytes32 indexed connectionId,
        address indexed trader,
        IMarketSettlement.Outcome outcome,
        int256 difference
    );

    error SessionNotClosed(uint64 sessionId);
    /// @notice The newest readings lead to what was paid.
    error NothingToCorrect(uint64 sessionId, bytes32 connectionId, uint256 paid);

    /// @notice Settles the difference that the newest readings make to what was paid for a bundle. Anyone may call.
    /// @dev Errors: {SessionNotClosed}, {NothingToCorrect}, those of `IMarketSettlement.outcomeOf`. Emits: {TraderCorrected},
    /// {OwedSetOff}, {Owed}.
    /// @param positions As for `IMarketSettlement.settle`.
    /// @param meterDays As for `IMarketSettlement.settle`.
    function correct(
        uint64 sessionId,
        bytes32 connectionId,
        IMarketSettlement.Position[] calldata positions,
        IMarketSettlement.Evidence[] calldata meterDays
    ) external returns (int256 difference);

    /// @notice What the bundle of a connection is worth to it as things stand, uToken: what settlement paid, fee of a claim
    /// included, and all corrections, collected or still owed. Zero before it was settled.
    function paidOf(uint64 sessionId, bytes32 connectionId) external view returns (uint256);
}
