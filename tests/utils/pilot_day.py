"""A small pilot day by hand: three homes on two lines, one of them with a fault."""

from copy import deepcopy
from datetime import date
from typing import Any

from offchain.audit import AuditReport
from offchain.domain.isp import MarketDay
from offchain.pilot.results import PilotResult

DAY = date(2016, 3, 16)
WINDOW = range(76, 79)
NOT_KNOWN = {"known_bias_percent": None}
CHECKED = {"readings": 288, "balances": 5}
MISMATCH = {"what": "reward", "where": "prosumer order 2", "expected": "300000", "found": "300001"}


def pilot_day(*, day: date = DAY, direction: str | None = "UP") -> PilotResult:
    """A day on which two of three homes deliver and the violation goes; change what a test is about."""
    market_day = MarketDay.of(day)
    count = market_day.isp_count
    quiet = [0] * count
    before = _with([50.0] * count, WINDOW, 112.5)
    after = _with([50.0] * count, WINDOW, 97.5)
    requested, delivered = _with(quiet, WINDOW, 4_000), _with(quiet, WINDOW, 3_000)
    report = {
        "schema": 1,
        "grid": {"code": "test-grid", "buses": 4, "connections": 3, "prosumers": 3},
        "day": day.isoformat(),
        "isps": count,
        "congestion": {"element": "Trafo 1", "before": congestion(112.5, 3), "after": congestion(97.5, 0)},
        "energy_wh": {
            "requested": 12_000,
            "ordered": 12_000,
            "delivered": 9_000,
            "shortfall": 3_000,
            "reassigned": 500,
        },
        "money_utoken": {
            "escrowed": 7_200_000,
            "rewards": 1_800_000,
            "penalties": 250_000,
            "dso_paid": 3_000_003,
            "aggregators_net": 1_450_000,
            "prosumers_net": 1_550_000,
            "returned": 4_199_997,
            "residual": -3,
        },
        "baseline": {
            "method": "weighted_10@1",
            "isps": 12,
            "connections": 70,
            "bias_percent": -1.5,
            "cv_rmse_percent": 12.3,
            "single_cv_rmse_percent": 81.0,
            "groups": [group_baseline("congestion point", 3), group_baseline("aggregator A", 1) | NOT_KNOWN],
        },
        "forecast": {
            "method": "ensemble@1",
            "issued_at": "2016-03-15T10:00:00+00:00",
            "runs": {name: dict.fromkeys(("sha256", "inputs", "outputs"), "ab" * 32) for name in ("connections",)},
            "basis": {"own history": 3},
            "quality": [quality("connections", "day_ahead_isp", 3), quality("congestion point", "hour_ahead", 1)],
        },
        "chain": {
            "transactions": 1_234,
            "gas_used": 5_600_000,
            "readings_anchored": 286,
            "gas_per_reading": 7.5,
            "gas_per_prosumer_settled": 150_000,
        },
        "trading": trading_figures(),
        "audit": {"ok": True, "checked": dict(CHECKED), "mismatches": []},
        "wall_seconds": 1.5,
    }
    first = market_day.first_isp
    details = {
        "scenario": "by hand",
        "seed": 7,
        "direction": direction,
        "zone": "Europe/Berlin",
        "first_isp": first,
        "limit_percent": 100.0,
        "loading": {"forecast": _with([55.0] * count, WINDOW, 115.0), "before": before, "after": after},
        "expected_wh": {
            "p10": _with([-1_000] * count, WINDOW, 3_000),
            "p50": _with([1_000] * count, WINDOW, 5_000),
            "p90": _with([2_000] * count, WINDOW, 8_000),
            "baseline": _with([1_100] * count, WINDOW, 5_500),
            "undisturbed": _with([1_200] * count, WINDOW, 6_000),
            "metered": _with([1_200] * count, WINDOW, 3_500),
        },
        "requested_wh": requested,
        "ordered_wh": list(requested),
        "delivered_wh": delivered,
        "direct_wh": 0,
        "missing_readings": 2,
        "map": {
            "buses": [[11.0, 53.0], [11.0, 53.001], [11.001, 53.0], [11.002, 53.0]],
            "lines": [
                {"name": "Line 1", "from": 1, "to": 2, "before_percent": [10] * count, "after_percent": [9] * count},
                {
                    "name": "Line 2",
                    "from": 2,
                    "to": 3,
                    "before_percent": _with([30] * count, WINDOW, 70),
                    "after_percent": [30] * count,
                },
            ],
            "trafos": [{"name": "Trafo 1", "bus": 1, "before_percent": before, "after_percent": after}],
            "connections": [
                {"name": "Home 1", "bus": 1, "prosumer": True, "ordered_wh": 6_000, "fault": None},
                {"name": "Home 2", "bus": 2, "prosumer": True, "ordered_wh": 3_000, "fault": None},
                {"name": "Home 3", "bus": 3, "prosumer": True, "ordered_wh": 3_000, "fault": "falls short"},
            ],
        },
        "parties": [
            {"name": "aggregator A", "prosumer": False, "ordered_by": [], "net_utoken": 1_450_000},
            {"name": "DSO", "prosumer": False, "ordered_by": [], "net_utoken": -3_000_003},
            _home("Home 1", credited=6_000, reward=1_200_000, by="aggregator A"),
            _home("Home 2", credited=3_000, reward=600_000, by="aggregator B"),
            _home("Home 3", penalised=1_000, penalty=250_000, missing=500, by="aggregator A"),
        ],
        "reassignments": [{"isp": first + 76, "from": "Home 3", "to": "Home 2", "shortfall_wh": 250, "taken_wh": 500}],
        "timeline": [
            _event(first, "ParticipantRegistry", "ParticipantRegistered", count=5),
            _event(first, "EnergyToken", "Transfer", count=9),
            _event(first, "FlexMarket", "RequestPublished", who="DSO", energy_wh=12_000, money_utoken=7_200_000),
            _event(first + 95, "FlexSettlement", "ProsumerSettled", count=3, energy_wh=9_000, money_utoken=1_550_000),
        ],
        "trading": trading_details(first, count),
        "faults": {"Home 3": "falls short"},
    }
    return PilotResult(report, details, AuditReport(True, dict(CHECKED), []))


def quiet_day(day: date = DAY) -> PilotResult:
    """No congestion, nothing requested, nobody paid."""
    result = deepcopy(pilot_day(day=day, direction=None))
    report, details = result.report, result.details
    report["congestion"] |= {"before": congestion(54.0, 0), "after": congestion(54.0, 0)}
    report["energy_wh"] = dict.fromkeys(report["energy_wh"], 0)
    report["money_utoken"] = dict.fromkeys(report["money_utoken"], 0)
    report["chain"]["gas_per_prosumer_settled"] = None
    count = report["isps"]
    details["loading"] = {name: [54.0] * count for name in details["loading"]}
    details |= {f"{name}_wh": [0] * count for name in ("requested", "ordered", "delivered")}
    details |= {"missing_readings": 0, "parties": [], "reassignments": [], "faults": {}}
    for connection in details["map"]["connections"]:
        connection |= {"ordered_wh": 0, "fault": None}
    details["timeline"] = details["timeline"][:2]
    for figures in (report["trading"], *report["trading"]["sessions"]):
        figures |= {"matched_wh": {"brown": 0, "green": 0}, "price_utoken_per_kwh": None}
    nothing = {"price": None, "volume_wh": 0}
    for session in details["trading"]["sessions"]:
        for period in session["periods"]:
            period |= {"brown": nothing, "green": nothing}
    details["trading"] |= {"book": None, "parties": [], "operator": 0}
    return result


def quality(group: str, horizon: str, series: int) -> dict[str, Any]:
    return {
        "group": group,
        "horizon": horizon,
        "series": series,
        "relative_mae": 0.1234,
        "relative_mae_weekly_naive": 0.2345,
        "relative_mae_persistence": 0.3456,
        "share_better_than_weekly_naive": 1.0,
        "share_better_than_persistence": 1.0,
        "relative_pinball": 0.0456,
        "rcrps": 0.0912,
        "coverage": 0.8125 if series > 1 else None,
    }


def group_baseline(group: str, connections: int) -> dict[str, Any]:
    return {
        "group": group,
        "connections": connections,
        "events": 243,
        "bias_percent": -0.34,
        "bias_error_percent": 2.11,
        "cv_rmse_percent": 39.3,
        "known_bias_percent": 1.25,
        "day_bias_percent": -7.1,
    }


def trading_figures() -> dict[str, Any]:
    """Home 1 sells 2 kWh of green energy to Home 2 for noon the day before, and buys 0.4 kWh back on the day."""
    both = {"traders": 2, "orders": 2, "surplus_wh": 0}
    day_ahead = both | {
        "session": 1,
        "delivery": "2016-03-15T23:00:00+00:00",
        "periods": 24,
        "period_minutes": 60,
        "matched_wh": {"brown": 0, "green": 2_000},
        "price_utoken_per_kwh": {"lowest": 150_000, "highest": 150_000},
        **{"bought_wh": 2_000, "sold_wh": 2_000, "injected_wh": 1_500, "covered_wh": 400, "shortage_wh": 100},
    }
    intraday = both | {
        "session": 2,
        "delivery": "2016-03-16T11:00:00+00:00",
        "periods": 8,
        "period_minutes": 30,
        "matched_wh": {"brown": 0, "green": 400},
        "price_utoken_per_kwh": {"lowest": 250_000, "highest": 250_000},
        **{"bought_wh": 400, "sold_wh": 400, "injected_wh": 0, "covered_wh": 400, "shortage_wh": 0},
    }
    return {
        "sessions": [day_ahead, intraday],
        "traders": 2,
        "by_rule": 1,
        "orders": 4,
        "matched_wh": {"brown": 0, "green": 2_400},
        "price_utoken_per_kwh": {"lowest": 150_000, "highest": 250_000},
        "rejections": 1,
        "bought_wh": 2_400,
        "sold_wh": 2_400,
        "injected_wh": 1_500,
        "covered_wh": 800,
        "shortage_wh": 100,
        "surplus_wh": 0,
        "day_ahead_alone": {"shortage_wh": 500, "surplus_wh": 600},
        "paid_utoken": 400_000,
        "received_utoken": 400_000,
        "charges_utoken": 31_000,
        "rewards_utoken": 0,
        "fees_utoken": 9_600,
        "operator_net_utoken": 40_600,
        "residual_utoken": 0,
        "gas_per_order": 9_000,
        "gas_per_order_by_rule": 20_000,
    }


def trading_details(first_isp: int, isp_count: int) -> dict[str, Any]:
    nothing = {"price": None, "volume_wh": 0}

    def periods(start: int, end: int, length: int) -> list[dict[str, Any]]:
        return [
            {"first_isp": first_isp + position, "brown": dict(nothing), "green": dict(nothing)}
            for position in range(start, end, length)
        ]

    day_ahead, intraday = periods(0, isp_count, 4), periods(48, 64, 2)
    day_ahead[12]["green"] = {"price": 150_000, "volume_wh": 2_000}
    intraday[1]["green"] = {"price": 250_000, "volume_wh": 400}
    trader = {"fees": 4_800, "reward": 0, "rejection_fee": 0, "metered": True, "surplus_wh": 0}
    return {
        "sessions": [
            {"isps_per_period": 4, "periods": day_ahead},
            {"isps_per_period": 2, "periods": intraday},
        ],
        "book": {
            "type": "green",
            "first_isp": first_isp + 48,
            "price": 150_000,
            "volume_wh": 2_000,
            "supply": [[2_000, 100_000], [1_000, 220_000]],
            "demand": [[2_000, 200_000], [500, 90_000]],
        },
        "parties": [
            trader
            | {"name": "Home 1", "bought_wh": 400, "sold_wh": 2_000, "injected_wh": 1_500, "covered_wh": 400}
            | {"shortage_wh": 100, "cost": 100_000, "receipts": 300_000, "charges": 31_000, "net": 164_200},
            trader
            | {"name": "Home 2", "bought_wh": 2_000, "sold_wh": 400, "injected_wh": 0, "covered_wh": 400}
            | {"shortage_wh": 0, "cost": 300_000, "receipts": 100_000, "charges": 0, "net": -204_800, "metered": False},
        ],
        "operator": 40_600,
    }


def congestion(loading_percent: float, violated_isps: int) -> dict[str, Any]:
    """Half of ``congestion`` in a report, with voltages in their band."""
    return {
        "max_loading_percent": loading_percent,
        "min_voltage_pu": 0.96,
        "max_voltage_pu": 1.02,
        "violated_isps": violated_isps,
    }


def _with(values: list, positions: range, value) -> list:
    return [value if i in positions else v for i, v in enumerate(values)]


def _home(
    name: str, *, by: str, credited: int = 0, penalised: int = 0, missing: int = 0, reward: int = 0, penalty: int = 0
) -> dict[str, Any]:
    return {
        "name": name,
        "prosumer": True,
        "ordered_by": [by],
        "net_utoken": reward - penalty,
        "creditedWh": credited,
        "penalisedWh": penalised,
        "missingWh": missing,
        "reward": reward,
        "penalty": penalty,
        "bonus": 0,
        "orders": 1,
    }


def _event(isp: int, contract: str, name: str, *, count: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "time": isp * 900,
        "until": isp * 900,
        "block": 5,
        "until_block": 5,
        "contract": contract,
        "event": name,
        "who": None,
        "note": "",
        "count": count,
        "energy_wh": None,
        "money_utoken": None,
    } | more
