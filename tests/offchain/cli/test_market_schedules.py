"""``gridpact market schedule``: what is refused before anything is sent, with its exit code, and rows of the list.

terms or delivery wrong, gate passed, unknown, cancelled, another's, no session left → 2; too early → 4
"""

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from offchain.chain.errors import ContractRevertedError
from offchain.cli import main, market_schedules
from offchain.cli.market_chain import hinted, stamp
from offchain.market.schedules import ScheduleRecord
from tests.offchain.market.session import TERMS

FIRST, EVERY, LEAD = 2_000_000, 96, 600
OPERATOR, OUTSIDER = "0x" + "33" * 20, "0x" + "44" * 20
GATE = FIRST * 900 - TERMS.gate_lead_seconds


@pytest.fixture
def schedule():
    return ScheduleRecord(1, OPERATOR, TERMS, FIRST, EVERY, 3, LEAD)


@pytest.fixture
def gridpact(monkeypatch, capsys, schedule):
    """Runs a command at a time of the chain; its exit code and lines on stderr. Nothing is sent."""

    def run(*arguments, now: int):
        chain = SimpleNamespace(block=lambda: {"timestamp": now})
        monkeypatch.setattr(market_schedules, "open_suite", lambda *_: SimpleNamespace(chain=chain))
        monkeypatch.setattr(market_schedules, "choose_signer", lambda *_: SimpleNamespace(address=OUTSIDER))
        monkeypatch.setattr(market_schedules, "_replay", lambda _: {1: schedule})
        monkeypatch.setattr("sys.argv", ["gridpact", "market", "schedule", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main.app_main()
        return caught.value.code, capsys.readouterr().err.splitlines()

    return run


def write_terms(folder, **changed):
    path = folder / "terms.toml"
    fields = asdict(TERMS) | {"congestion_point_id": ""} | changed
    path.write_text("\n".join(f"{name} = {value!r}" for name, value in fields.items() if value is not None))
    return path


def registering(path, **changed):
    options = {"delivery": "2027-01-15T08:00Z", "every-isps": 96, "sessions": 3, "open-lead-seconds": LEAD} | changed
    return ("register", path, *(part for name, value in options.items() for part in (f"--{name}", value)))


@pytest.mark.parametrize(
    ("terms", "options", "words"),
    [
        ({"fee_rate": None}, {}, "fee_rate is missing"),
        ({"fee_rate": -1}, {}, "fee_rate is below zero"),
        ({"acceptance_seconds": 10**6}, {}, "ends after delivery begins"),
        ({}, {"delivery": "tomorrow"}, "'tomorrow' is not a time"),
        ({}, {"delivery": "2027-01-15T08:01Z"}, "not at a quarter hour"),
        ({}, {"every-isps": 0}, "--every-isps"),
        ({}, {"sessions": 2**16}, "--sessions"),
        ({}, {"open-lead-seconds": -1}, "--open-lead-seconds"),
        ({}, {"delivery": "1990-01-01T00:00Z"}, "the gate of the first session"),
    ],
)
def test_register_names_what_is_wrong(gridpact, tmp_path, terms, options, words):
    code, lines = gridpact(*registering(write_terms(tmp_path, **terms), **options), now=GATE)
    assert (code, len(lines) <= 2) == (2, True)
    assert lines[0].startswith("error: ") and words in lines[0]


def test_open_and_cancel_name_a_schedule_that_there_is_not(gridpact):
    for command in ("open", "cancel"):
        code, lines = gridpact(command, 2, now=GATE)
        assert (code, lines[0]) == (2, "error: there is no schedule 2")
        assert lines[1] == "hint: 1 were registered; `gridpact market schedule list`"


def test_open_says_when_the_next_session_can_be_opened(gridpact, schedule):
    code, lines = gridpact("open", 1, now=GATE - LEAD - 1)
    delivery, opens_at = stamp(FIRST * 900), stamp(GATE - LEAD)
    assert (code, lines) == (
        4,
        [
            f"error: the next session of schedule 1, delivery {delivery}, can be opened from {opens_at}",
            f"hint: it is {stamp(GATE - LEAD - 1)} on the chain",
        ],
    )


def test_open_says_that_no_session_is_left(gridpact, schedule):
    schedule.opened[0] = 5
    last_gate = GATE + 2 * EVERY * 900
    code, lines = gridpact("open", 1, now=last_gate + 1)
    assert (code, lines[0]) == (2, "error: schedule 1 has no session left")
    assert lines[1] == "hint: 1 of 3 were opened, the gates of the others have closed"


def test_open_and_cancel_say_that_a_schedule_was_cancelled(gridpact, schedule):
    schedule.cancelled = True
    for command in ("open", "cancel"):
        code, lines = gridpact(command, 1, now=GATE)
        assert (code, lines[0]) == (2, "error: schedule 1 was cancelled")


def test_cancel_names_the_operator_to_whoever_is_another(gridpact):
    code, lines = gridpact("cancel", 1, now=GATE)
    assert (code, lines[0]) == (2, f"error: schedule 1 belongs to {OPERATOR}, not to {OUTSIDER}")


@pytest.mark.parametrize("name", ["DayFull", "PeriodsCross", "GatePassed", "InsufficientBalance", "MissingRole"])
def test_hinted_says_what_can_be_done_about_a_refused_opening(name):
    with pytest.raises(ContractRevertedError) as caught, hinted():
        raise ContractRevertedError("MarketSessions", "openScheduled", name, {"day": 1})
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("now", "cancelled", "state", "remaining"),
    [
        (GATE - LEAD - 1, False, "waiting", 3),
        (GATE - LEAD, False, "can be opened", 3),
        (GATE + 1, False, "waiting", 2),
        (GATE + 2 * EVERY * 900 + 1, False, "ended", 0),
        (GATE, True, "cancelled", 0),
    ],
)
def test_list_says_where_a_schedule_stands(schedule, now, cancelled, state, remaining):
    schedule.cancelled = cancelled
    row = market_schedules._row(schedule, now)
    assert (row["state"], row["remaining"]) == (state, remaining)
    assert (row["next_delivery"] is None) == (remaining == 0)
    if remaining == 2:
        assert row["opens_from"] == stamp(GATE + EVERY * 900 - LEAD)
