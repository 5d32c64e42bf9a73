"""Amounts of memory, numbers of instances, sizes and durations as people write them."""

import pytest

from components.client.units import format_bytes, format_memory, format_seconds, parse_count, parse_memory


@pytest.mark.parametrize(
    ("text", "mb"), [("128", 128), ("128M", 128), ("64 mb", 64), ("2G", 2048), ("1gb", 1024)]
)
def test_memory(text, mb):
    assert parse_memory(text) == mb


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "12K", "many", "M", "²", "٣", "9" * 5000])
def test_memory_that_is_none(text):
    with pytest.raises(ValueError, match="128M or 2G"):
        parse_memory(text)


@pytest.mark.parametrize(("text", "count"), [("4", 4), ("+2", 5), ("-2", 1)])
def test_count(text, count):
    assert parse_count(text, 3) == count


@pytest.mark.parametrize("text", ["0", "-3", "", "x", "1.5", "999999", "++1", "²", "٣"])
def test_count_that_is_none(text):
    with pytest.raises(ValueError):
        parse_count(text, 3)


def test_sizes_and_durations_as_people_write_them():
    assert [format_bytes(n) for n in (12, 1536, 2 << 20, 3 << 30)] == ["12B", "1.5K", "2.0M", "3.0G"]
    assert [format_memory(n) for n in (64, 1024, 1536)] == ["64M", "1G", "1536M"]
    assert [format_seconds(n) for n in (0.44, 12.9, 185, 7260, 180_000)] == [
        "0.4 s",
        "12 s",
        "3 min 5 s",
        "2 h 1 min",
        "2 d 2 h",
    ]
