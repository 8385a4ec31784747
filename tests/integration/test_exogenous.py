"""Weather and prices over real HTTP and from files: mappings, ETag, retries, time-outs, refusals, what is new."""

import asyncio
import inspect
import json
import os
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from offchain.domain.errors import PermanentError, TransientError
from oracles.clock import SimulatedClock
from oracles.sources import feeds
from oracles.sources.exogenous import ExternalSourceConfig
from oracles.sources.external_mapping import ExternalMapping
from oracles.sources.feeds import FileFeed, HttpFeed
from oracles.sources.port import ExternalValue, Quantity
from oracles.sources.tabular import load_mapping

NOW = datetime(2019, 6, 14, 12, tzinfo=UTC)
START = 1_560_470_400  # 2019-06-14T00:00Z
PRICES = {
    "data": [
        {"start_timestamp": (START + 3_600 * i) * 1_000, "marketprice": price, "unit": "Eur/MWh"}
        for i, price in enumerate((42.09, -5.12, 0))
    ]
}


@pytest.fixture(scope="module")
def service():
    """A server on a free port; what it answers is set by the test."""
    app = FastAPI()
    state = SimpleNamespace(answers=[], requests=[])

    @app.get("/{path:path}")
    async def answer(request: Request):
        state.requests.append(request)
        given = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
        if inspect.iscoroutinefunction(given):
            given = await given(request)
        return given

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/prices"
    yield state
    server.should_exit = True
    thread.join()


@pytest.fixture(autouse=True)
def fresh(request):
    if "service" in request.fixturenames:
        service = request.getfixturevalue("service")
        service.answers, service.requests = [Response(json.dumps(PRICES))], []


def config(service, **changes):
    data = {"series": "DE-LU", "mapping": "awattar", "url": service.url, "timeout_s": 5}
    return ExternalSourceConfig.model_validate(data | changes)


def fetched(service, **changes):
    async def run():
        clock = SimulatedClock(NOW)
        source = config(service, every_s=None, **changes).source(clock)
        source.feed.delay_s = 0.001
        return [value async for value in source.values()]

    return asyncio.run(run())


def price(hour, value, belief_time=int(NOW.timestamp())):
    start = START + 3_600 * hour
    return ExternalValue("DE-LU", Quantity.PRICE, start, start + 3_600, value, belief_time, "127.0.0.1")


def test_values_are_prices_with_event_and_belief_time(service):
    values = fetched(service)
    assert values == [price(0, 42_090), price(1, -5_120), price(2, 0)]
    assert all(isinstance(value.value, int) for value in values)


def test_belief_time_is_that_of_publication_but_never_in_the_future(service):
    service.answers = [Response(json.dumps(PRICES), headers={"Last-Modified": "Fri, 14 Jun 2019 11:00:00 GMT"})]
    assert {v.belief_time for v in fetched(service)} == {int(NOW.timestamp()) - 3_600}
    service.answers = [Response(json.dumps(PRICES), headers={"Last-Modified": "Fri, 14 Jun 2029 11:00:00 GMT"})]
    assert {v.belief_time for v in fetched(service)} == {int(NOW.timestamp())}
    service.answers = [Response(json.dumps(PRICES), headers={"Last-Modified": "yesterday"})]
    assert {v.belief_time for v in fetched(service)} == {int(NOW.timestamp())}


def polls(service, count, *, between=None, **changes):
    """Values of each of ``count`` polls an hour apart."""

    async def run():
        clock = SimulatedClock(NOW)
        source = config(service, **changes).source(clock)
        source.feed.delay_s = 0.001
        seen, rounds = [], []

        async def consume():
            async for value in source.values():
                seen.append(value)

        task = asyncio.create_task(consume())
        for hour in range(1, count + 1):
            while not clock._sleepers:
                await asyncio.sleep(0.005)
            rounds.append(seen.copy())
            seen.clear()
            if between is not None:
                between(hour)
            clock.advance_to(NOW + timedelta(hours=hour))
        task.cancel()
        return rounds

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_unchanged_answer_is_neither_sent_nor_delivered_again(service):
    sent = []

    async def answer(request):
        if request.headers.get("if-none-match") == '"v1"':
            return Response(status_code=304)
        sent.append(request)
        return Response(json.dumps(PRICES), headers={"ETag": '"v1"'})

    service.answers = [answer]
    assert [len(values) for values in polls(service, 3)] == [3, 0, 0]
    assert (len(sent), len(service.requests)) == (1, 3)


def test_only_what_is_new_is_delivered_when_service_knows_no_etag(service):
    def change(hour):
        if hour == 2:
            more = {"start_timestamp": (START + 10_800) * 1_000, "marketprice": 9, "unit": "Eur/MWh"}
            changed = PRICES["data"][1] | {"marketprice": 1}
            service.answers = [Response(json.dumps({"data": [PRICES["data"][0], changed, PRICES["data"][2], more]}))]

    first, second, third = polls(service, 3, between=change)
    later = int(NOW.timestamp()) + 7_200
    assert (len(first), second) == (3, [])
    assert third == [price(1, 1_000, later), price(3, 9_000, later)]


def test_cached_answer_is_not_used_for_other_parameters(service):
    async def run():
        clock = SimulatedClock(NOW)
        feed = HttpFeed(service.url, clock, params={"day": "{tomorrow:%Y%m%d}", "from": "{today}"}, zone="Asia/Tokyo")
        service.answers = [Response(json.dumps(PRICES), headers={"ETag": '"v1"'})]
        await feed.fetch()
        await feed.fetch()
        clock.advance_to(NOW + timedelta(hours=4))  # 15 June in Tokyo
        await feed.fetch()

    asyncio.run(run())
    assert [dict(r.query_params) for r in service.requests] == [
        {"day": "20190615", "from": "2019-06-14"},
        {"day": "20190615", "from": "2019-06-14"},
        {"day": "20190616", "from": "2019-06-15"},
    ]
    assert [r.headers.get("if-none-match") for r in service.requests] == [None, '"v1"', None]


def test_each_consumer_gets_everything(service):
    """A probe, and a consumer that failed, take nothing away from the next."""

    async def answer(request):
        unchanged = request.headers.get("if-none-match") == '"v1"'
        return Response(status_code=304) if unchanged else Response(json.dumps(PRICES), headers={"ETag": '"v1"'})

    service.answers = [answer]

    async def run():
        source = config(service, every_s=None).source(SimulatedClock(NOW))
        said = await source.probe()
        return said, [[value async for value in source.values()] for _ in range(2)]

    said, (first, second) = asyncio.run(run())
    assert said == "3 values from 2019-06-14T00:00:00+00:00 to 2019-06-14T02:00:00+00:00"
    assert first == second == [price(0, 42_090), price(1, -5_120), price(2, 0)]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_fetch_repeats_when_failure_is_passing(service, status):
    service.answers = [Response(status_code=status), Response(status_code=status), Response(json.dumps(PRICES))]
    assert len(fetched(service)) == 3
    assert len(service.requests) == 3


def test_fetch_repeats_when_service_is_slow(service):
    async def slow(_):
        await asyncio.sleep(0.6)

    service.answers = [slow, Response(json.dumps(PRICES))]
    assert len(fetched(service, timeout_s=0.3)) == 3


def test_fetch_waits_as_long_as_service_asks(service, monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    service.answers = [
        Response(status_code=503, headers={"Retry-After": "7"}),
        Response(status_code=503, headers={"Retry-After": "86400"}),
        Response(json.dumps(PRICES)),
    ]
    monkeypatch.setattr(feeds, "asyncio", SimpleNamespace(sleep=sleep))
    asyncio.run(HttpFeed(service.url, SimulatedClock(NOW)).fetch())
    assert pauses == [7.0, feeds.MAX_DELAY_S]


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [(500, TransientError, 3), (404, TransientError, 1), (401, PermanentError, 1), (403, PermanentError, 1)],
)
def test_fetch_raises_when_service_does_not_give_data(service, status, error, requests):
    service.answers = [Response(status_code=status)]
    with pytest.raises(error, match=str(status)):
        fetched(service)
    assert len(service.requests) == requests


def test_fetch_raises_transient_when_nobody_listens(service):
    with pytest.raises(TransientError, match=r"no connection \(ConnectError\)"):
        fetched(service, url="http://127.0.0.1:9/x")


def test_fetch_raises_when_answer_is_endless(service, monkeypatch):
    monkeypatch.setattr(feeds, "MAX_BYTES", 100)
    with pytest.raises(TransientError, match="more than"):
        fetched(service)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"error": 1}', "there is no 'data'"),
        ('{"data": {}}', "data is not a list"),
    ],
    ids=["page", "nested", "error", "object"],
)
def test_values_raise_transient_when_document_is_another(service, body, message):
    service.answers = [Response(body)]
    with pytest.raises(TransientError, match=message):
        fetched(service)


def test_values_go_on_when_service_was_lost(service, caplog):
    caplog.set_level("INFO", "oracles.sources.exogenous")

    def change(hour):
        service.answers = [Response("<html>")] if hour < 3 else [Response(json.dumps(PRICES))]

    service.answers = [Response(status_code=404)]
    assert [len(values) for values in polls(service, 4, between=change)] == [0, 0, 0, 3]
    texts = [record.getMessage() for record in caplog.records]
    assert [("lost" in t, "is back" in t) for t in texts] == [(True, False), (False, True)]


def test_bad_records_are_named_and_others_count(service, caplog):
    records = [
        PRICES["data"][0],
        {"start_timestamp": "soon", "marketprice": 1},
        {"start_timestamp": START * 1_000, "marketprice": "x"},
        {"marketprice": 1},
        {"start_timestamp": (START + 3_600) * 1_000, "marketprice": None},
        {"start_timestamp": (START + 3_600) * 1_000, "marketprice": True},
        7,
        {"start_timestamp": START * 1_000, "marketprice": "1e999999999"},
        PRICES["data"][2],
    ]
    service.answers = [Response(json.dumps({"data": records}))]
    assert [value.value for value in fetched(service)] == [42_090, 0]
    assert [r.getMessage().split(" line ")[1].split(":")[0] for r in caplog.records] == ["2", "3", "4", "6", "7", "8"]


def test_secret_is_sent_and_never_logged(service, caplog, monkeypatch):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("PRICE_TOKEN", "s3cret")
    service.answers = [Response(status_code=500)]
    with pytest.raises(TransientError) as caught:
        fetched(
            service,
            secret={"env": "PRICE_TOKEN"},
            params={"securityToken": "{secret}"},
            headers={"Authorization": "Bearer {secret}"},
        )
    assert service.requests[0].query_params["securityToken"] == "s3cret"
    assert service.requests[0].headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(caught.value) + caplog.text
    with pytest.raises(TransientError) as caught:
        fetched(service, url=service.url.replace("//", "//me:s3cret@") + "?token=s3cret")
    assert "s3cret" not in str(caught.value) + caplog.text


def test_secret_does_not_follow_a_redirect(service, monkeypatch):
    monkeypatch.setenv("PRICE_TOKEN", "s3cret")
    moved = Response(status_code=302, headers={"Location": service.url})
    service.answers = [moved, Response(json.dumps(PRICES))]
    assert len(fetched(service)) == 3
    service.answers = [moved, Response(json.dumps(PRICES))]
    with pytest.raises(TransientError, match="status 302"):
        fetched(service, secret={"env": "PRICE_TOKEN"}, headers={"X-Key": "{secret}"})


def test_weather_of_parallel_lists_covers_what_it_says(service):
    service.answers = [
        Response(
            json.dumps(
                {
                    "hourly": {
                        "time": [START, START + 3_600],
                        "temperature_2m": [18.5, None],
                        "wind_speed_10m": [3, 4.5],
                        "cloud_cover": [100, 20],
                        "shortwave_radiation": [0, 120],
                    }
                }
            )
        )
    ]
    values = fetched(service, mapping="open_meteo", series="Terni", source_name="Open-Meteo")
    assert [(v.quantity, v.event_start - START, v.event_end - START, v.value) for v in values] == [
        (Quantity.IRRADIANCE, -3_600, 0, 0.0),
        (Quantity.CLOUD_COVER, 0, 0, 100.0),
        (Quantity.IRRADIANCE, 0, 3_600, 120.0),
        (Quantity.TEMPERATURE, 0, 0, 18.5),
        (Quantity.WIND_SPEED, 0, 0, 3.0),
        (Quantity.CLOUD_COVER, 3_600, 3_600, 20.0),
        (Quantity.WIND_SPEED, 3_600, 3_600, 4.5),
    ]
    assert {v.source for v in values} == {"Open-Meteo"}


def test_weather_of_unequal_lists_is_refused(service):
    service.answers = [Response(json.dumps({"hourly": {"time": [1], "temperature": [1, 2]}}))]
    with pytest.raises(TransientError, match="there is none of temperature_2m, wind_speed_10m"):
        fetched(service, mapping="open_meteo")
    lists = {"time": [1], "temperature_2m": [1, 2], "wind_speed_10m": [], "shortwave_radiation": []}
    service.answers = [Response(json.dumps({"hourly": lists}))]
    with pytest.raises(TransientError, match="not lists of the same length"):
        fetched(service, mapping="open_meteo")


CSV = """time,known_since,temperature_c,irradiance_w_m2,price_eur_per_mwh
2019-06-14T00:00:00Z,2019-06-13T12:00:00Z,18.5,,42.09
2019-06-14T01:00:00Z,2019-06-13T12:00:00Z,x,0,1
2019-06-14T02:00:00Z,2019-06-13T12:00:00Z,17,5.5,-1
"""


def test_file_gives_values_with_their_own_belief_time(tmp_path, caplog):
    path = tmp_path / "weather.csv"
    path.write_text(CSV)
    source = ExternalSourceConfig(series="Terni", mapping="external_csv", file=path).source(SimulatedClock(NOW))

    async def run():
        return await source.probe()

    assert asyncio.run(run()) == "5 values from 2019-06-14T00:00:00+00:00 to 2019-06-14T02:00:00+00:00"
    assert "weather.csv line 3: temperature_c 'x' is not a number" in caplog.text
    values = source._values(feeds.Document(CSV.encode(), "f", 0))
    assert values[0] == ExternalValue(
        "Terni", Quantity.PRICE, START, START + 3_600, 42_090, START - 43_200, "weather.csv"
    )
    assert [v.value for v in values] == [42_090, 18.5, 5.5, -1_000, 17.0]


def test_file_is_read_again_when_it_changed(tmp_path):
    path = tmp_path / "weather.csv"
    feed = FileFeed(path)
    with pytest.raises(TransientError, match="the file may come later"):
        asyncio.run(feed.fetch())
    path.write_text(CSV)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert asyncio.run(feed.fetch()).published_at == 1_500_000_000
    assert asyncio.run(feed.fetch()) is None
    path.write_text(CSV)
    assert asyncio.run(feed.fetch()) is not None


@contextmanager
def mapping_file(tmp_path, text):
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    yield str(path)


LOCAL = """
format = "json"
records = ""
zone = "Europe/Rome"
duration_s = 3600
time = {path = "at.start"}
[[values]]
path = "price.0"
quantity = "price_utoken_per_kwh"
"""


def test_local_times_are_placed_when_the_hour_comes_twice(tmp_path):
    with mapping_file(tmp_path, LOCAL) as path:
        mapping = load_mapping(path, ExternalMapping)
    hours = ["01", "02", "02", "03"]
    document = [{"at": {"start": f"2019-10-27T{h}:00"}, "price": [i]} for i, h in enumerate(hours)]
    values = mapping.values(json.dumps(document).encode(), "d", "s", "x", 0)
    first = int(datetime(2019, 10, 26, 23, tzinfo=UTC).timestamp())
    assert [(v.event_start - first) // 3_600 for v in values] == [0, 1, 2, 3]
    once = mapping.values(json.dumps(document[:2] + document[3:]).encode(), "d", "s", "x", 0)
    assert [v.value for v in once] == [0, 3]
    spring = mapping.values(b'[{"at": {"start": "2019-03-31T02:00"}, "price": [1]}]', "d", "s", "x", 0)
    assert spring == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LOCAL.replace('"json"', '"xml"'), "format|discriminator|tag"),
        (LOCAL.replace('records = ""', ""), "either records or columns"),
        (LOCAL.replace("3600", "-1"), "duration_s"),
        (LOCAL + 'unit = "EUR/GJ"', "unit 'EUR/GJ' of price_utoken_per_kwh"),
    ],
)
def test_load_mapping_names_entry_when_wrong(tmp_path, text, message):
    with mapping_file(tmp_path, text) as path, pytest.raises(PermanentError, match=message):
        load_mapping(path, ExternalMapping)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": None}, "either file or url"),
        ({"file": "x.csv"}, "either file or url"),
        ({"url": "ftp://x"}, "must start with https"),
        ({"params": {"token": "{secret}"}}, "token: '{secret}' may hold"),
        ({"params": {"day": "{yesterday}"}}, "day: '{yesterday}' may hold"),
        ({"every_s": 1}, "every_s"),
        ({"zone": "Mars"}, "no time zone is called 'Mars'"),
        ({"url": None, "file": "x.csv", "headers": {"a": "b"}}, "are for a url"),
        ({"url": "http://example.org", "secret": {"env": "TOKEN"}}, "a secret is sent to https:// only"),
    ],
)
def test_config_names_what_is_wrong(change, message):
    good = {"series": "s", "mapping": "awattar", "url": "https://example.org"}
    with pytest.raises(ValidationError, match=message):
        ExternalSourceConfig.model_validate(good | change)
