"""Every declared dependency does its work once: that versions resolve does not say that they run."""

import json
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from offchain.chain.toolchain import anvil_path

ROOT = Path(__file__).resolve().parents[2]
KEY = "0x" + "01" * 32


def check_coincurve():
    from coincurve import PrivateKey, PublicKey

    signature = PrivateKey.from_hex(KEY[2:]).sign_recoverable(b"reading")
    assert PublicKey.from_signature_and_message(signature, b"reading") == PrivateKey.from_hex(KEY[2:]).public_key


def check_eth_account():
    from eth_account import Account
    from eth_account.messages import encode_defunct

    account = Account.from_key(KEY)
    signed = account.sign_message(encode_defunct(text="reading"))
    assert Account.recover_message(encode_defunct(text="reading"), signature=signed.signature) == account.address


def check_web3():
    from web3 import Web3

    selector = Web3.keccak(text="transfer(address,uint256)")[:4]
    assert selector.hex() == "a9059cbb"


def check_numpy():
    import numpy as np

    assert np.frombuffer(b"\x00\x00\x01\x00", ">u4").tolist() == [256]


def check_pandas():
    import pandas as pd

    day = pd.date_range("2026-03-29", "2026-03-30", freq="15min", tz="Europe/Berlin", inclusive="left")
    assert pd.Series(1, index=day).resample("1h").sum().size == 23


def check_sqlalchemy():
    import sqlalchemy as sa

    with sa.create_engine("sqlite://").connect() as connection:
        assert connection.scalar(sa.select(sa.literal(96))) == 96


def check_pydantic():
    from pydantic import BaseModel, ValidationError

    class Site(BaseModel):
        connections: int

    assert Site(connections=28).connections == 28
    with pytest.raises(ValidationError):
        Site(connections="many")


def check_typer():
    import typer
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(lambda count: print(count))
    assert CliRunner().invoke(app, ["3"]).output == "3\n"


def check_rich():
    from rich.console import Console

    console = Console(no_color=True)
    with console.capture() as capture:
        console.print("[bold]ISP[/bold]")
    assert capture.get() == "ISP\n"


def check_orjson():
    import orjson

    assert orjson.loads(orjson.dumps({"wh": 1})) == {"wh": 1}


def check_pandapower():
    import pandapower

    net = pandapower.networks.simple_four_bus_system()
    pandapower.runpp(net)
    assert net.converged


def check_simbench():
    import simbench

    assert simbench.collect_all_simbench_codes(mv_level="", lv_level="rural1", scenario=2, shunts="no_sw")


def check_power_grid_model():
    from power_grid_model import PowerGridModel, initialize_array

    node = initialize_array("input", "node", 1)
    node["id"], node["u_rated"] = 1, 400.0
    source = initialize_array("input", "source", 1)
    source["id"], source["node"], source["status"], source["u_ref"] = 2, 1, 1, 1.0
    result = PowerGridModel({"node": node, "source": source}).calculate_power_flow()
    assert result["node"]["u_pu"][0] == pytest.approx(1.0)


def check_numba():
    import numba

    assert numba.njit(lambda a: a + 1)(1) == 2


def check_scipy():
    from scipy.stats import norm

    assert norm.ppf(0.5) == 0


def check_highspy():
    import highspy

    model = highspy.Highs()
    model.silent()
    power = model.addIntegral(lb=0, ub=10)
    model.addConstr(2 * power <= 7)
    model.maximize(power)
    assert model.val(power) == 3


def check_scikit_learn():
    from sklearn.linear_model import LinearRegression

    assert LinearRegression().fit([[0], [1]], [0, 2]).predict([[2]])[0] == pytest.approx(4)


def check_paho_mqtt():
    from paho.mqtt.client import topic_matches_sub

    assert topic_matches_sub("meter/+/import_wh", "meter/7/import_wh")


def check_ocpp():
    from ocpp.messages import Call, unpack

    message = unpack(Call("1", "Heartbeat", {}).to_json())
    assert (message.action, message.payload) == ("Heartbeat", {})


def check_websockets():
    import asyncio

    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def echo():
        async with serve(lambda link: link.send("Wh"), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}") as link:
                return await link.recv()

    assert asyncio.run(echo()) == "Wh"


def check_starlette():
    from starlette.datastructures import Headers

    assert Headers({"Fiware-Service": "site"})["fiware-service"] == "site"


def check_cryptography():
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    assert key.public_key().key_size == 256


def check_pymodbus():
    from pymodbus.client.mixin import ModbusClientMixin

    data_type = ModbusClientMixin.DATATYPE.UINT32
    registers = ModbusClientMixin.convert_to_registers(70_000, data_type)
    assert registers == [1, 4464]
    assert ModbusClientMixin.convert_from_registers(registers, data_type) == 70_000


def check_fastapi():
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    app.get("/isp")(lambda: {"isp": 1})
    assert TestClient(app).get("/isp").json() == {"isp": 1}


def check_httpx():
    import httpx

    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=request.url.path))
    assert httpx.Client(transport=transport).get("http://device/state").text == "/state"


def check_uvicorn():
    import uvicorn

    assert not uvicorn.Server(uvicorn.Config(lambda: None)).started


def check_jinja2():
    from jinja2 import Template

    assert Template("{{ wh }} Wh").render(wh=5) == "5 Wh"


def check_py_solc_x():
    import solcx

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOLCX_BINARY_PATH", str(ROOT / ".venv" / "solcx"))
        assert [str(v) for v in solcx.get_installed_solc_versions()] == ["0.8.30"]
        source = {"a.sol": {"content": "pragma solidity ^0.8.24; contract A {}"}}
        settings = {"outputSelection": {"*": {"*": ["abi"]}}}
        output = solcx.compile_standard(
            {"language": "Solidity", "sources": source, "settings": settings}, solc_version="0.8.30"
        )
    assert output["contracts"]["a.sol"]["A"]["abi"] == []


def check_eth_brownie():
    # In a process of its own: importing Brownie changes hypothesis and web3 for everything after it.
    from sys import executable

    command = [executable, "-c", "import brownie; print(brownie.Wei('1 gwei'))"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1000000000\n"


def check_pyrevm():
    from pyrevm import EVM, AccountInfo

    evm = EVM()
    evm.insert_account_info("0x" + "11" * 20, AccountInfo(balance=7))
    assert evm.get_balance("0x" + "11" * 20) == 7


def check_alembic():
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    with create_engine("sqlite://").connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() is None


def check_psycopg():
    from psycopg import sql

    assert sql.SQL("isp = {}").format(sql.Literal(96)).as_string(None) == "isp = 96"


def check_holidays():
    from datetime import date

    import holidays

    assert date(2026, 12, 25) in holidays.country_holidays("DE")


def check_lightgbm():
    import lightgbm
    import numpy as np

    x = np.arange(200.0)[:, None]
    model = lightgbm.LGBMRegressor(n_estimators=20, n_jobs=1, verbose=-1).fit(x, 3 * x[:, 0])
    assert abs(model.predict([[100.0]])[0] - 300) < 30


def check_dask():
    from dask.distributed import Client

    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        assert client.submit(sum, [40, 2]).result() == 42


def check_matplotlib():
    from io import BytesIO

    from matplotlib.figure import Figure

    figure, picture = Figure(), BytesIO()
    figure.subplots().plot([0, 1])
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")


def check_prometheus_client():
    from prometheus_client import CollectorRegistry, Counter, generate_latest

    registry = CollectorRegistry()
    Counter("readings", "Readings", registry=registry).inc(3)
    assert b"readings_total 3.0" in generate_latest(registry)


def check_pvlib():
    import pandas as pd
    from pvlib.solarposition import get_solarposition

    noon = pd.DatetimeIndex(["2026-06-21T12:00"], tz="UTC")
    assert get_solarposition(noon, 51.5, 0.0)["elevation"].iloc[0] > 60


def check_pyarrow():
    from io import BytesIO

    import pyarrow as pa
    from pyarrow import parquet

    file = BytesIO()
    parquet.write_table(pa.table({"energy_wh": [1, 2]}), file)
    assert parquet.read_table(file).column("energy_wh").to_pylist() == [1, 2]


def check_structlog():
    import structlog
    from structlog.testing import capture_logs

    with capture_logs() as logs:
        structlog.get_logger().info("anchored", readings=96)
    assert logs == [{"event": "anchored", "log_level": "info", "readings": 96}]


def check_threadpoolctl():
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(1):
        assert all(pool["num_threads"] == 1 for pool in threadpool_info())


def check_requests():
    import requests

    assert requests.Request("GET", "http://node/rpc").prepare().path_url == "/rpc"


def check_aiohttp():
    from aiohttp import web

    assert web.json_response({"isp": 1}).status == 200


def check_hypothesis():
    from hypothesis import find, strategies

    assert find(strategies.integers(), lambda n: n > 10) == 11


def check_pytest():
    assert pytest.approx(0.3) == 0.1 + 0.2


def check_pytest_xdist():
    import xdist

    assert xdist.is_xdist_worker is not None


def check_ruff():
    from sys import executable

    command = [executable, "-m", "ruff", "check", "--isolated", "--quiet", "-"]
    assert subprocess.run(command, input="import os\n", capture_output=True, text=True).returncode == 1


CHECKS = {name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")}


def declared_distributions() -> list[str]:
    """Distributions that ``pyproject.toml`` names, own extras aside, and ``speed``: it needs a wheel or a compiler."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = [project["dependencies"], *(extras[name] for name in extras.keys() - {"speed"})]
    names = {re.match(r"[A-Za-z0-9-]+", requirement)[0] for group in groups for requirement in group}
    return sorted(names - {"gridpact"})


@pytest.mark.parametrize("distribution", declared_distributions())
def test_dependency_works_when_called_once(distribution):
    CHECKS[distribution.replace("-", "_")]()


@pytest.mark.parametrize("distribution", declared_distributions())
def test_dependency_is_the_pinned_version_when_installed(distribution):
    pins = dict(line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert version(distribution) == pins[distribution]


def test_locks_hold_no_address_when_read():
    assert "://" not in (ROOT / "constraints.txt").read_text()
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_anvil_answers_when_started_from_its_package():
    shown = subprocess.run([anvil_path(), "--version"], capture_output=True, text=True, check=True).stdout
    assert "1.7.1" in shown
