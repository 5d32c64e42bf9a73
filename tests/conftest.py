"""What holds for every test: generated input is not judged by the clock, which on a shared machine says nothing; and who is
interrupted hears it, though whoever started the tests in the background ignores that."""

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
    """What has been imported stays to the end: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
