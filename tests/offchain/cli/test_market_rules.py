"""Files of `gridpact market rules`: what is wrong with them, in one line."""

import pytest

from offchain.cli.market_rules import _read_signed, _read_terms
from offchain.domain.errors import DomainError

CONNECTION = bytes(31) + b"\x01"
FIELDS = {
    "forecaster": '"0x' + "c0" * 20 + '"',
    "valid_from": "2016-01-01T00:00:00Z",
    "valid_until": "2017-01-01T00:00:00+01:00",
    "share_bps": "8000",
    "buy_limits": "151_000",
    "sell_limits": '["never", ' + ", ".join(["90_000"] * 23) + "]",
}


def rule_file(folder, **changed):
    path = folder / "rule.toml"
    fields = FIELDS | changed
    path.write_text("\n".join(f"{name} = {value}" for name, value in fields.items() if value is not None))
    return path


def test_read_terms_takes_one_limit_for_all_hours_or_one_for_each(tmp_path):
    rule = _read_terms(rule_file(tmp_path), CONNECTION, 7)
    assert rule.buy_limits == (151_000,) * 24
    assert rule.sell_limits == (None, *(90_000,) * 23)
    assert (rule.number, rule.green_only, rule.agent) == (7, False, "0x" + "0" * 40)
    assert (rule.valid_from, rule.valid_until) == (1_451_606_400, 1_483_225_200)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"share": "1"}, "unknown field share"),
        ({"share_bps": None}, "share_bps is missing"),
        ({"share_bps": "10_001"}, "share 10001 of the forecast"),
        ({"share_bps": "0.5"}, "share_bps is a whole number"),
        ({"valid_from": "2016-01-01T00:00:00"}, "valid_from is no time with a zone"),
        ({"valid_until": "2015-01-01T00:00:00Z"}, "trading rule from 1451606400 until"),
        ({"buy_limits": "[1, 2]"}, "2 limits"),
        ({"buy_limits": '"always"'}, "buy_limits are whole numbers"),
        ({"sell_limits": str(2**63 - 1)}, "a limit outside 64 bits"),
        ({"forecaster": '"0x12"'}, "agent and forecaster are addresses"),
        ({"agent": "3"}, "agent and forecaster are addresses"),
        ({"agent": '"'}, "is not TOML"),
    ],
)
def test_read_terms_names_what_is_wrong(tmp_path, changed, words):
    with pytest.raises(DomainError, match=words):
        _read_terms(rule_file(tmp_path, **changed), CONNECTION, 1)


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"schema": 2}', '{"schema": 1, "rule": 5}'])
def test_read_signed_refuses_another_file(tmp_path, content):
    path = tmp_path / "signed.json"
    path.write_text(content)
    with pytest.raises(DomainError, match="is no signed rule"):
        _read_signed(path)
