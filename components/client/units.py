"""Sizes, counts and durations, parsed from and formatted for people. Pure."""

from __future__ import annotations

import re

_MEMORY = re.compile(r"([0-9]{1,9})\s*(|m|mb|g|gb)", re.IGNORECASE)
_BINARY = ("B", "K", "M", "G", "T")


def parse_memory(text: str) -> int:
    """Return the MB of `128`, `128M` or `2G`.

    Raises:
        ValueError: it is none of these, or zero; the text says what is wanted.
    """
    match = _MEMORY.fullmatch(text.strip())
    megabytes = int(match[1]) * (1024 if match[2].lower().startswith("g") else 1) if match else 0
    if megabytes < 1:
        raise ValueError(f"{text!r} is not an amount of memory: give for example 128M or 2G")
    return megabytes


def format_memory(megabytes: float) -> str:
    """Return MB as `128M` or `2G`."""
    if megabytes >= 1024 and megabytes % 1024 == 0:
        return f"{megabytes / 1024:.0f}G"
    return f"{megabytes:.0f}M"


def format_bytes(count: float) -> str:
    """Return bytes as `12B`, `1.5K`, `2.0M`."""
    for unit in _BINARY:
        if count < 1024 or unit == _BINARY[-1]:
            break
        count /= 1024
    return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"


def parse_count(text: str, current: int) -> int:
    """Return the count of `4`, or of `+2` or `-1` relative to the current count.

    Raises:
        ValueError: it is not a count, or would be less than 1.
    """
    match = re.fullmatch(r"([+-]?)([0-9]{1,5})", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a number of instances: give 4, +2 or -1")
    number = int(match[2])
    wanted = {"": number, "+": current + number, "-": current - number}[match[1]]
    if wanted < 1:
        raise ValueError(f"{wanted} instances are too few: to stop an application, `ingot stop NAME`")
    return wanted


def format_seconds(seconds: float) -> str:
    """Return a duration as `0.4 s`, `12 s`, `3 min 5 s` or `2 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole // 60 % 60} min"
    return f"{whole // 86400} d {whole // 3600 % 24} h"
