"""Who a component is (protocol 2.2)."""

import re

import msgspec
import pytest

from components.common.identity import Identity, format_uptime, new_id, persistent_id, resident_kb
from components.common.probes import authorised


def test_an_id_is_32_hex_characters_and_never_the_same():
    assert re.fullmatch("[0-9a-f]{32}", new_id())
    assert new_id() != new_id()


def test_a_persistent_id_survives_and_follows_its_index(tmp_path):
    path = tmp_path / "id"
    first = persistent_id(path, 2)
    assert first.startswith("2-")
    assert persistent_id(path, 2) == first
    assert persistent_id(path, 3).startswith("3-")
    assert [p.name for p in tmp_path.iterdir()] == ["id"]


def test_an_announcement_has_the_names_of_the_reference():
    said = Identity("DEA", 4, "4-ab", started=0.0).announcement("10.0.0.1:9051", ["u", "p"])
    body = msgspec.to_builtins(said)
    assert body.keys() == {"type", "index", "uuid", "host", "credentials", "start"}
    assert (body["type"], body["index"], body["host"], body["credentials"]) == (
        "DEA",
        4,
        "10.0.0.1:9051",
        ["u", "p"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", body["start"])
    found = Identity.fresh("DEA", 4).announcement("h:1", [], uptime=True)
    assert found.uptime == "0d:0h:0m:0s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0d:0h:0m:0s"), (59.9, "0d:0h:0m:59s"), (93784, "1d:2h:3m:4s")]
)
def test_uptime_is_written_as_in_2011(seconds, text):
    assert format_uptime(seconds) == text


def test_varz_has_what_all_components_share():
    facts = Identity.fresh("Router", 1).varz()
    assert facts.keys() == {"type", "index", "uuid", "start", "uptime", "num_cores", "mem", "cpu"}
    assert 1_000 < resident_kb() < 10_000_000


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("Basic dXNlcjpwYXNz", True),
        ("basic dXNlcjpwYXNz", True),
        ("Basic dXNlcjp3cm9uZw==", False),
        ("Bearer dXNlcjpwYXNz", False),
        ("Basic", False),
        ("Basic %%%", False),
        ("Basic dXNlcjpwYXNzIA", False),
        ("", False),
        (None, False),
    ],
)
def test_basic_authorisation(header, allowed):
    assert authorised(header, "user", "pass") is allowed
