"""Accounts and keys: the same for a seed, others for another, nobody twice."""

from offchain.chain.signatures import address_of
from offchain.pilot.cast import commitment, make_cast

CONNECTIONS = ["LV1-Load-1", "LV1-Load-2", "LV1-Load-3"]


def addresses(cast):
    people = [p.address for p in cast.prosumers] + [p.device_address for p in cast.prosumers]
    return [a.address for a in cast.senders] + people


def test_make_cast_is_the_same_when_the_seed_is_the_same():
    one, two = make_cast(4, CONNECTIONS, aggregators=2), make_cast(4, CONNECTIONS, aggregators=2)
    assert addresses(one) == addresses(two)
    assert [p.meter_id for p in one.prosumers] == [p.meter_id for p in two.prosumers]


def test_make_cast_shares_nothing_when_the_seed_is_another():
    one, two = make_cast(4, CONNECTIONS, aggregators=2), make_cast(5, CONNECTIONS, aggregators=2)
    assert set(addresses(one)).isdisjoint(addresses(two))
    assert {p.connection_id for p in one.prosumers}.isdisjoint(p.connection_id for p in two.prosumers)


def test_make_cast_gives_nobody_the_key_of_another():
    cast = make_cast(1, CONNECTIONS, aggregators=3)
    assert len(set(addresses(cast))) == len(addresses(cast)) == 6 + 3 + 2 * 3
    assert len({i for p in cast.prosumers for i in (p.connection_id, p.meter_id)}) == 2 * 3


def test_make_cast_gives_keys_that_belong_to_the_addresses():
    for position, prosumer in enumerate(make_cast(1, CONNECTIONS, aggregators=1).prosumers):
        assert (prosumer.position, prosumer.name) == (position, CONNECTIONS[position])
        assert prosumer.address == address_of(prosumer.wallet)
        assert prosumer.device_address == address_of(prosumer.device)


def test_names_name_everybody():
    cast = make_cast(1, CONNECTIONS, aggregators=2)
    names = cast.names
    assert set(names) == {a.address for a in cast.senders} | {p.address for p in cast.prosumers}
    assert [names[a.address] for a in cast.aggregators] == ["aggregator A", "aggregator B"]
    assert names[cast.dso.address] == "DSO"
    assert names[cast.prosumers[1].address] == "LV1-Load-2"


def test_commitment_hides_and_distinguishes():
    values = {commitment(seed, what) for seed in (1, 2) for what in ("meter a", "meter b")}
    assert len(values) == 4
    assert all(len(value) == 32 for value in values)
    assert commitment(1, "meter a") in values
