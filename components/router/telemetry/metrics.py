"""The counters of nginx's workers as Prometheus metrics: in all, by application, and by endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from components.router.telemetry.counters import CLASSES, CounterReading, Numbers
from components.router.telemetry.stats import cumulative

_Column = tuple[str, str, Callable[[Numbers], float]]
_COUNTERS: tuple[_Column, ...] = (
    ("received_bytes", "Bytes of requests.", lambda n: n.bytes_in),
    ("sent_bytes", "Bytes of answers.", lambda n: n.bytes_out),
    ("retries", "Tries after the first.", lambda n: n.retries),
    ("ejections", "Times an endpoint was passed over from then on.", lambda n: n.ejections),
)
_GAUGES: tuple[_Column, ...] = (
    ("open_requests", "Requests on their way.", lambda n: n.open),
    ("websockets", "Open WebSockets.", lambda n: n.websockets),
)


class Exporter(Collector):
    """A collector that exports the last reading.

    Args:
        reading: returns the reading.
        endpoints: whether endpoints have metrics of their own.
    """

    def __init__(self, reading: Callable[[], CounterReading], *, endpoints: bool) -> None:
        self._reading = reading
        self._endpoints = endpoints

    def register(self) -> None:
        """Register the collector with the process's metrics."""
        REGISTRY.register(self)

    def unregister(self) -> None:
        """Remove the collector from the process's metrics."""
        REGISTRY.unregister(self)

    def describe(self) -> list[Metric]:
        """Return nothing: no metric is known before the first reading."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        reading = self._reading()
        yield _one("ingot_router_bad_requests", "Requests for no host that is known.", reading.bad_requests)
        yield _one("ingot_router_limited_requests", "Requests a limit turned away.", reading.limited)
        yield _one("ingot_router_websockets_told", "WebSockets a drain told to go elsewhere.", reading.told)
        yield _one(
            "ingot_router_websockets_ended", "WebSockets that did not go and were ended.", reading.ended
        )
        yield from _families("ingot_router", [], [([], reading.total)])
        yield from _families("ingot_router_app", ["app"], [([app], n) for app, n in reading.apps.items()])
        if self._endpoints:
            rows = [
                ([app, peer, reading.instances.get(peer, "")], n)
                for app, endpoints in reading.endpoints.items()
                for peer, n in endpoints.items()
            ]
            yield from _families("ingot_router_endpoint", ["app", "endpoint", "instance"], rows)


def _one(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _families(prefix: str, labels: list[str], rows: list[tuple[list[str], Numbers]]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        f"{prefix}_requests", "Requests by class of their status.", labels=[*labels, "class"]
    )
    seconds = HistogramMetricFamily(f"{prefix}_seconds", "Time from request to last byte.", labels=labels)
    for values, numbers in rows:
        for name, count in zip(CLASSES, numbers.status, strict=True):
            if count:
                requests.add_metric([*values, name], count)
        seconds.add_metric(values, cumulative(numbers), numbers.latency_ms / 1000)
    yield requests
    yield seconds
    for name, text, give in _COUNTERS:
        family = CounterMetricFamily(f"{prefix}_{name}", text, labels=labels)
        for values, numbers in rows:
            family.add_metric(values, give(numbers))
        yield family
    for name, text, give in _GAUGES:
        gauge = GaugeMetricFamily(f"{prefix}_{name}", text, labels=labels)
        for values, numbers in rows:
            gauge.add_metric(values, give(numbers))
        yield gauge
