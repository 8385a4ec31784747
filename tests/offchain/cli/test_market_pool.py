"""Files of ``gridpact market pool``: what is wrong with them is named in one line."""

import json

import pytest

from offchain.cli.market_files import read_signed
from offchain.cli.market_pool import SCHEMA, SIGNED_BY, _draft, _terms, _trade_of
from offchain.domain.errors import DomainError
from offchain.market.pool import Mechanism
from offchain.market.terms import EnergyType

TERMS = {
    "mechanism": '"supply-demand-ratio"',
    "delivery": "2026-11-21T00:00:00+01:00",
    "join_by": "2026-11-20T23:00:00+01:00",
    "trade_by": "2026-11-23T00:00:00+01:00",
    "report_by": "2026-11-28T00:00:00+01:00",
    "retail_price": 300_000,
    "feed_in_price": 80_000,
    "isps_per_period": 4,
    "period_count": 24,
    "budget": 100_000,
}
TRADE = {
    "pool": 1,
    "seller": f'"0x{"11" * 32}"',
    "buyer": f'"0x{"22" * 32}"',
    "price": -150_000,
    "type": '"green"',
    "valid_until": "2026-11-22T00:00:00Z",
    "quantities_wh": [1_000, 0],
}


def write(tmp_path, fields):
    path = tmp_path / "given.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in fields.items() if value is not None))
    return path


def test_terms_are_those_of_the_file(tmp_path):
    terms = _terms(write(tmp_path, TERMS))
    assert terms.mechanism is Mechanism.SUPPLY_DEMAND_RATIO
    assert (terms.first_isp, terms.join_by, terms.period_count) == (1_795_215_600 // 900, 1_795_212_000, 24)
    assert (terms.retail_weight_bps, terms.compensation, terms.congestion_point_id) == (5_000, 0, bytes(32))


def test_terms_name_the_intermediate_rate_with_its_weight(tmp_path):
    terms = _terms(write(tmp_path, TERMS | {"mechanism": '"intermediate-rate"', "retail_weight_bps": 2_500}))
    assert (terms.mechanism, terms.retail_weight_bps) == (Mechanism.INTERMEDIATE_RATE, 2_500)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mechanism": '"auction"'}, "mechanism 'auction'"),
        ({"budget": None}, "budget is missing"),
        ({"budgets": 1}, "unknown field budgets"),
        ({"retail_price": 0.3}, "retail_price is 0.3, not a whole number"),
        ({"retail_price": 1}, "feed-in price 80000, retail price 1"),
        ({"mechanism": '"intermediate-rate"', "retail_weight_bps": 10_001}, "weight of the retail price 10001"),
        ({"mechanism": '"intermediate-rate"', "retail_weight_bps": -1}, "weight of the retail price -1"),
        ({"feed_in_price": 0}, "lowest price of shared energy 0"),
        ({"join_by": '"tomorrow"'}, "join_by is no time with a zone"),
        ({"join_by": "2026-11-21T01:00:00+01:00"}, "joining until"),
        ({"report_by": "2026-11-22T00:00:00Z"}, "reports until"),
        ({"period_count": 257}, "pool of 257 periods"),
        ({"delivery": "2026-11-21T00:01:00Z"}, "not at a quarter hour"),
        ({"congestion_point_id": '"12"'}, "is not 32 bytes in hex"),
    ],
)
def test_terms_name_what_is_wrong_with_the_file(tmp_path, changed, words):
    with pytest.raises(DomainError, match=words):
        _terms(write(tmp_path, TERMS | changed))


def test_trade_is_that_of_the_file_and_never_twice_the_same(tmp_path):
    path = write(tmp_path, TRADE)
    first, second = _draft(path), _draft(path)
    trade = _trade_of(path, json.loads(json.dumps(first)))
    assert (trade.price, trade.energy_type, trade.quantities_wh) == (-150_000, EnergyType.GREEN, (1_000, 0))
    assert trade.salt != _trade_of(path, second).salt


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"type": '"grey"'}, "type 'grey'"),
        ({"quantities_wh": "[1.5]"}, "quantities_wh are whole numbers"),
        ({"valid_until": "2026-11-22"}, "valid_until is no time with a zone"),
        ({"price": None}, "price is missing"),
    ],
)
def test_trade_names_what_is_wrong_with_the_file(tmp_path, changed, words):
    with pytest.raises(DomainError, match=words):
        _draft(write(tmp_path, TRADE | changed))


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 2}', "[]"])
def test_signed_trade_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "trade.json"
    path.write_text(content)
    with pytest.raises(DomainError, match="is no signed trade"):
        read_signed(path, "trade", SCHEMA, SIGNED_BY)
    with pytest.raises(DomainError, match="is no signed trade"):
        _trade_of(path, {"schema": 1, "trade": {"pool": 1}})
