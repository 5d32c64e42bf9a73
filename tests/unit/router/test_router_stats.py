from __future__ import annotations

from typing import Any

from components.router.telemetry.counters import CounterReading, Numbers
from components.router.telemetry.stats import Stats, UsageSampler, cumulative


def reading(requests: float, latency: float = 0) -> CounterReading:
    return CounterReading(total=numbers(requests, latency))


def numbers(requests: float, latency: float = 0) -> Numbers:
    return Numbers(status=[0, 0, requests, 0, 0, 0], buckets=[requests] + [0.0] * 11, latency_ms=latency)


def test_rates_and_latency_are_of_the_last_minute() -> None:
    stats = Stats()
    stats.add(reading(0), 0, 0)
    stats.add(reading(600, 1200), 3, 50)
    varz: dict[str, Any] = stats.varz()
    assert (varz["requests"], varz["requests_per_sec"]) == (600, 12.0)
    assert varz["latency"] == {"value": 1200, "samples": 600}
    assert varz["client_connections"] == 3
    stats.add(reading(600, 1200), 0, 115)
    assert stats.varz()["requests_per_sec"] == 0


def test_without_a_reading_everything_is_zero() -> None:
    assert Stats().varz()["requests_per_sec"] == 0


def test_applications_and_endpoints_are_told_by_name() -> None:
    stats = Stats(most_endpoints=1)
    latest = CounterReading(
        apps={"7": numbers(10, 20)},
        endpoints={"7": {"10.0.0.1:61001": numbers(10, 20)}},
        instances={"10.0.0.1:61001": "abc"},
    )
    stats.add_reading(latest, 2)
    varz: dict[str, Any] = stats.varz()
    assert varz["apps"]["7"]["responses_2xx"] == 10
    assert varz["apps"]["7"]["latency_buckets"] == {"1": 10}
    assert varz["endpoints"]["10.0.0.1:61001"]["instance"] == "abc"
    latest.endpoints["7"]["10.0.0.2:61001"] = numbers(1)
    more: dict[str, Any] = stats.varz()
    assert more["endpoints_omitted"] == 2
    assert "endpoints" not in more


def test_the_busiest_applications_of_the_last_reading_come_first() -> None:
    stats = Stats()
    stats.add_reading(CounterReading(apps={"1": numbers(100), "2": numbers(0)}), 1)
    here = {"1": {"10.0.0.1:61001": numbers(101)}}
    stats.add_reading(CounterReading(apps={"1": numbers(101), "2": numbers(50)}, endpoints=here), 5)
    assert stats.varz(url={("10.0.0.1", 61001): "one.x"}.get)["top10_app_requests"] == [
        {"url": "", "app": "2", "rps": 10.0, "clients": []},
        {"url": "one.x", "app": "1", "rps": 0.2, "clients": []},
    ]


def test_numbers_are_told_by_tag() -> None:
    tags: dict[tuple[str, int], dict[str, Any]] = {
        ("10.0.0.1", 1): {"framework": "sinatra", "zone": 7, "odd": [1]},
        ("fd00::1", 2): {"component": "CloudController"},
    }
    stats = Stats()
    endpoints = {
        "7": {"10.0.0.1:1": numbers(1), "10.0.0.2:1": numbers(2)},
        "0": {"[fd00::1]:2": numbers(4, 8), "10.0.0.9:9": numbers(5)},
    }
    # An application's own numbers include those of endpoints that are gone.
    stats.add_reading(CounterReading(apps={"7": numbers(10, 20), "0": numbers(9)}, endpoints=endpoints), 1)
    ten = {"requests": 10, "responses_2xx": 10, "latency": {"value": 20, "samples": 10}}
    assert stats.varz(lambda peer: tags.get(peer, {}))["tags"] == {
        "framework": {"sinatra": ten},
        "zone": {"7": ten},
        "component": {
            "CloudController": {"requests": 4, "responses_2xx": 4, "latency": {"value": 8, "samples": 4}}
        },
    }


def test_usage_is_what_was_asked_since_the_last_sample_that_was_told() -> None:
    usage = UsageSampler()
    assert usage.sample(CounterReading(), 0) is None
    usage.mark_sent(CounterReading(apps={"7": numbers(100)}), 0)
    later = CounterReading(apps={"7": numbers(130), "8": numbers(5), "9": numbers(0), "0": numbers(7)})
    # Not told: the next sample has it too.
    assert usage.sample(later, 60) == (60, {"7": 30, "8": 5})
    assert usage.sample(later, 70) == (70, {"7": 30, "8": 5})
    usage.mark_sent(later, 70)
    assert usage.sample(later, 130) == (60, {})


def test_the_histogram_is_cumulative_and_in_seconds() -> None:
    n = Numbers(buckets=[1, 2] + [0.0] * 9 + [4])
    found = cumulative(n)
    assert found[:2] == [("0.001", 1), ("0.002", 3)]
    assert found[-1] == ("+Inf", 7)
