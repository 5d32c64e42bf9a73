from __future__ import annotations

from typing import Any

from components.router.stats import Stats


def reading(requests: float, latency: float = 0, **more: float) -> dict[str, float]:
    return {"requests": requests, "latency_ms": latency, "responses_2xx": requests, **more}


def test_rates_and_latency_are_of_the_last_minute() -> None:
    stats = Stats()
    stats.add(reading(0), 0)
    stats.add(reading(600, 1200, client_connections=3), 50)
    varz: dict[str, Any] = stats.varz()
    assert (varz["requests"], varz["requests_per_sec"]) == (600, 12.0)
    assert varz["latency"] == {"value": 1200, "samples": 600}
    assert varz["client_connections"] == 3
    stats.add(reading(600, 1200), 115)
    assert stats.varz()["requests_per_sec"] == 0


def test_totals_go_on_over_a_restart_of_nginx() -> None:
    stats = Stats()
    stats.add(reading(100), 0)
    stats.add(reading(5), 2)
    assert stats.varz()["requests"] == 105
    assert stats.varz()["responses_2xx"] == 105


def test_without_a_reading_everything_is_zero() -> None:
    assert Stats().varz()["requests_per_sec"] == 0
