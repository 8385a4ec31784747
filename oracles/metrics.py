"""Prometheus metrics of a site, taken from its state when they are asked for."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from offchain.store.batches import recent_batches
from offchain.store.outbox import outbox_counts
from oracles.clock import SteadyClock, unix

if TYPE_CHECKING:
    from oracles.site import Site

PREFIX = "gridpact_oracle_"


def registry_of(site: "Site") -> CollectorRegistry:
    """Registry with everything about one site."""
    registry = CollectorRegistry()
    registry.register(_SiteCollector(site))
    return registry


class _SiteCollector:
    def __init__(self, site: "Site"):
        self._site = site

    def describe(self) -> list[Metric]:
        return []  # names depend on nothing; asking the store while registering would be wasted

    def collect(self) -> Iterator[Metric]:
        site = self._site
        yield _counter("readings_accepted", "Readings on disk since the start", "source", site.accepted)
        rejected: Counter[str] = Counter()
        for (_, reason), count in list(site.pipeline.rejections.items()):
            rejected[reason] += count
        yield _counter("values_rejected", "Values refused, ever", "reason", rejected)
        yield _counter("observations_rejected", "Telemetry refused since the start", "reason", site.live.rejected)
        yield _counter("observations_accepted", "Telemetry since the start", None, {"": site.live.accepted})
        yield _counter("corrections", "Readings corrected since the start", None, {"": site.corrected})
        yield _counter("task_restarts", "Tasks started again after a failure", "task", site.restarts)
        yield _gauge("alarms", "Alarms that are on", "kind", Counter(alarm.kind for alarm in site.alarms))
        yield _gauge("chain_node_up", "Whether a node worked when last tried", "url", site.chain.endpoints)
        yield _gauge("devices", "Devices by step", "state", Counter(s.state for s in site.registration.steps.values()))
        jumped = isinstance(site.clock, SteadyClock) and site.clock.jumped
        yield _gauge("clock_jumped", "Whether the machine's clock is not believed", None, {"": jumped})
        now_isp = unix(site.clock) // 900
        regimes = {point.hex(): period.at(now_isp) for point, period in site.regimes().items()}
        yield _gauge("grid_regime", "0 green, 1 yellow, 2 orange, 3 red", "congestion_point", regimes)
        if site.last_boundary is not None:
            yield _gauge(
                "last_boundary_isp", "ISP at whose start meters were last read", None, {"": site.last_boundary}
            )
        if site.chain_seen_at is not None:
            yield _gauge(
                "chain_seen_timestamp_seconds", "When publishing last went through", None, {"": site.chain_seen_at}
            )
        yield from self._from_store()

    def _from_store(self) -> Iterator[Metric]:
        site = self._site
        first_isp = unix(site.clock) // 900 - 96 * 8
        with site.store.read() as connection:
            work = outbox_counts(connection)
            batches = recent_batches(connection, site.operator.address, first_isp)
        outbox = GaugeMetricFamily(PREFIX + "outbox", "Work in the outbox", labels=["topic", "state"])
        for (topic, state), count in work.items():
            outbox.add_metric([topic.split(":")[0], state], count)
        yield outbox
        by_state = Counter((batch.kind.value, batch.status.value) for batch in batches)
        family = GaugeMetricFamily(PREFIX + "batches", "Batches of the last days", labels=["kind", "status"])
        for labels, count in by_state.items():
            family.add_metric(list(labels), count)
        yield family


def _counter(name: str, text: str, label: str | None, values: dict) -> CounterMetricFamily:
    return _filled(CounterMetricFamily(PREFIX + name, text, labels=[label] if label else []), label, values)


def _gauge(name: str, text: str, label: str | None, values: dict) -> GaugeMetricFamily:
    return _filled(GaugeMetricFamily(PREFIX + name, text, labels=[label] if label else []), label, values)


def _filled(family, label: str | None, values: dict):
    for key, value in list(values.items()):
        family.add_metric([str(getattr(key, "value", key))] if label else [], float(value))
    return family
