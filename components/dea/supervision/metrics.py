"""The counters of starts and crashes."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from components.common import log
from components.common.bus.messages import DeaStart

STARTS = Counter("ingot_dea_starts_total", "Starts asked for, by how they ended.", ["result"])
CRASHES = Counter("ingot_dea_crashes_total", "Instances that ended unasked.")
START_SECONDS = Histogram(
    "ingot_dea_start_seconds",
    "From the start message to a running instance.",
    buckets=(0.25, 0.5, 1, 2, 4, 8, 16, 32, 64),
)
logger = log.get(__name__)


def refused(message: DeaStart, why: str) -> None:
    """Count a refused start, and log the reason."""
    STARTS.labels("refused").inc()
    logger.warning("start_refused", app=message.droplet, instance_index=message.index, reason=why)
