"""check: keeps a number under GAS_UPDATE=1; fails on another, on none and on another compiler."""

import json

import pytest

from tests.gas.snapshot import check


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Snapshots with one number kept."""
    path = tmp_path / "snapshots.json"
    monkeypatch.setenv("GAS_UPDATE", "1")
    check("clear 10 ticks", 32_000, path)
    monkeypatch.delenv("GAS_UPDATE")
    return path


def test_check_passes_when_nothing_changed(kept):
    check("clear 10 ticks", 32_000, kept)


@pytest.mark.parametrize(("value", "difference"), [(32_001, r"\+1"), (31_000, "-1000")])
def test_check_fails_with_both_numbers_when_gas_changed(kept, value, difference):
    with pytest.raises(AssertionError, match=f"clear 10 ticks: was 32000, is {value} \\({difference};"):
        check("clear 10 ticks", value, kept)


def test_check_fails_when_scenario_is_new(kept):
    with pytest.raises(AssertionError, match="clear 20 ticks: no number kept, measured 1"):
        check("clear 20 ticks", 1, kept)


def test_check_fails_when_compiler_settings_changed(kept):
    content = json.loads(kept.read_text())
    content["compiler"]["optimizerRuns"] += 1
    kept.write_text(json.dumps(content))
    with pytest.raises(AssertionError, match="kept with"):
        check("clear 10 ticks", 32_000, kept)


def test_check_keeps_the_other_numbers_when_one_is_rewritten(kept, monkeypatch):
    monkeypatch.setenv("GAS_UPDATE", "1")
    check("anchor", 5, kept)
    assert json.loads(kept.read_text())["scenarios"] == {"anchor": 5, "clear 10 ticks": 32_000}
