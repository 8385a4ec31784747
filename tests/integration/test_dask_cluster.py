"""Forecasts on a Dask cluster: a scheduler and two workers in processes of their own, over TCP."""

import logging

import numpy as np
import pytest
from dask.distributed import LocalCluster

from offchain.domain.errors import TransientError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.forecasting.horizons import DAY_AHEAD
from offchain.forecasting.parallel import dask_cluster, forecast_many
from tests.offchain.forecasting.panels import QUICK, homes

PANEL = homes(6)
ISSUED = (PANEL.end_isp - 52) * SECONDS_PER_ISP
"""11:00 of the last day."""


@pytest.fixture(scope="module")
def cluster():
    settings = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=2, silence_logs=logging.ERROR, host="127.0.0.1", **settings) as cluster:
        yield cluster


def many(panel, executor=None):
    return forecast_many(panel, DAY_AHEAD, ISSUED, settings=QUICK, part=2, executor=executor)


def test_forecast_many_is_the_same_when_a_cluster_runs_it(cluster):
    told = []
    with dask_cluster(cluster.scheduler_address) as client:
        there = forecast_many(
            PANEL, DAY_AHEAD, ISSUED, settings=QUICK, part=2, executor=client, progress=lambda *step: told.append(step)
        )
    assert [f.digest() for f in there.forecasts] == [f.digest() for f in many(PANEL).forecasts]
    assert [f.ids for f in there.forecasts] == [PANEL.ids[i : i + 2] for i in (0, 2, 4)]
    assert told[-1] == ("day_ahead forecasts", 3, 3)


def test_forecast_many_goes_on_when_a_part_on_the_cluster_has_no_readings(cluster):
    values = PANEL.values_wh.copy()
    values[:, :2] = np.nan
    panel = type(PANEL)(PANEL.ids, PANEL.first_isp, values)
    with dask_cluster(cluster.scheduler_address) as client:
        there = many(panel, client)
    assert set(there.problems) == set(PANEL.ids[:2])
    assert [f.ids for f in there.forecasts] == [PANEL.ids[2:4], PANEL.ids[4:6]]


def test_dask_cluster_says_so_when_nobody_listens(monkeypatch):
    monkeypatch.setattr("offchain.forecasting.parallel.CLUSTER_TIMEOUT_S", 1)
    with pytest.raises(TransientError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"):
        dask_cluster("tcp://127.0.0.1:9")
