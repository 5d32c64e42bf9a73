"""What holds for every test: generated input is not judged by the clock, which on a shared machine says nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("ingot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ingot")
