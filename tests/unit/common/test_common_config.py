"""A configuration is checked as a whole, and every problem is named."""

import msgspec
import pytest

from components.common.config import DaemonConfig, load, parse
from components.common.errors import ConfigError, IngotError


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 1

    def problems(self) -> list[str]:
        return [] if self.size > 0 else [f"size: want more than 0, not {self.size}"]


class Sample(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    inner: Inner = Inner()

    def problems(self) -> list[str]:
        return [] if self.name.islower() else ["name: want lower case"]


BUS = {"urls": ["nats://127.0.0.1:4222"]}


def problems(raw):
    with pytest.raises(ConfigError) as caught:
        parse(raw, Sample, "file")
    return list(caught.value.problems)


def test_a_good_one_has_its_defaults():
    config = parse({"bus": BUS, "name": "x"}, Sample)
    assert (config.name, config.inner.size, config.status.user, config.log.level) == (
        "x",
        1,
        "status",
        "info",
    )


def test_every_problem_is_reported_at_once_by_its_path():
    found = problems(
        {
            "bus": {"urls": [], "usr": "x"},
            "status": {"port": "many"},
            "log": {"level": "loud"},
            "inner": {"size": 0},
            "index": "zero",
            "extra": 1,
        }
    )
    for path in ("bus.usr", "status.port", "log.level", "inner.size", "index", "extra", "name"):
        assert any(p.startswith(f"{path}: ") for p in found), (path, found)


def test_an_object_that_is_no_mapping_is_named():
    assert problems({"bus": "nats://x", "name": "x"}) == ["bus: want a mapping"]


def test_rules_across_keys_are_asked_when_the_types_are_right():
    assert problems({"bus": BUS, "name": "X"}) == ["name: want lower case"]


@pytest.mark.parametrize("url", ["http://x", "127.0.0.1:4222", ""])
def test_bus_addresses_are_bus_addresses(url):
    (found,) = problems({"bus": {"urls": [url]}, "name": "x"})
    assert found.startswith("bus.urls: want nats://")


def test_a_port_is_a_port():
    (found,) = problems({"bus": BUS, "name": "x", "status": {"port": 70000}})
    assert found == "status.port: want 0 to 65535, not 70000"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "is not YAML at line"),
        ("- 1", "want a mapping of keys at the top level"),
        ("", "want a mapping"),
    ],
)
def test_a_file_that_is_no_configuration_says_why(tmp_path, text, reason):
    path = tmp_path / "x.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load(path, Sample)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load(tmp_path / "none.yml", Sample)
    assert isinstance(caught.value, IngotError)


def test_named_entries_are_checked_one_by_one():
    class Many(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
        inner: dict[str, Inner]

    good = parse({"bus": BUS, "inner": {"a": {"size": 2}}}, Many)
    assert good.inner == {"a": Inner(size=2)}
    with pytest.raises(ConfigError) as caught:
        parse({"bus": BUS, "inner": {"a": {"size": 0}, "b": {"size": "x", "siz": 1}, "c": 3}}, Many)
    assert sorted(caught.value.problems) == [
        "inner.a.size: want more than 0, not 0",
        "inner.b.siz: not a key of this configuration",
        "inner.b.size: expected `int`, got `str`",
        "inner.c: want a mapping",
    ]
