"""Settings of every test.

Hypothesis has no deadline, because the clock of a shared machine says nothing. SIGINT interrupts the tests, also where the program that
started them in the background ignores it.
"""

from __future__ import annotations

import gc
import signal

from hypothesis import HealthCheck, settings

from tests.processor_time import pytest_configure

__all__ = ["pytest_configure"]

settings.register_profile("ingot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ingot")
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Freeze imported modules: they stay to the end, and the garbage collector need not walk them again and again."""
    gc.collect()
    gc.freeze()
