"""The client's small pure parts: sizes, the resolver, the configuration, the manifest, the outcome of a start."""

import json
import re
import sys
from collections import Counter

import httpx
import pytest

from components.client import output
from components.client.config import Config, normalise_target
from components.client.errors import ApiError, ConfigurationError, PackageError
from components.client.follow.start import AppSnapshot, StartFollower, StartOutcome
from components.client.lifecycle import tail
from components.client.localhost_transport import LocalhostTransport, is_localhost, is_loopback
from components.client.manifest import Settings, find, load
from components.client.pusher import app_url, default_host, merge_environment
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


def test_tail_says_what_it_leaves_out():
    assert tail("a\nb\nc\n", 2) == "... 1 lines more\nb\nc"
    assert tail("a\n", 2) == "a"


def test_localhost_and_everything_below_it():
    assert all(is_localhost(h) for h in ("localhost", "api.ingot.localhost", "A.LOCALHOST."))
    assert not any(is_localhost(h) for h in ("localhost.example.com", "notlocalhost", "127.0.0.1"))
    assert is_loopback("127.0.0.1")
    assert is_loopback("x.localhost")
    assert not is_loopback("10.0.0.1")


def test_resolver_changes_the_way_and_nothing_else(monkeypatch):
    seen = []

    def send(_transport, request):
        seen.append(request)
        return httpx.Response(200)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", send)
    with httpx.Client(transport=LocalhostTransport()) as client:
        client.get("https://hello.ingot.localhost:8443/a?b=c")
        client.get("http://example.com/")
    assert str(seen[0].url) == "https://127.0.0.1:8443/a?b=c"
    assert seen[0].headers["host"] == "hello.ingot.localhost:8443"
    assert seen[0].extensions["sni_hostname"] == "hello.ingot.localhost"
    assert seen[1].url.host == "example.com"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("api.x.localhost:8080", "http://api.x.localhost:8080"),
        ("HTTP://API.X.COM:80/", "http://api.x.com"),
        ("https://api.x.com:443/path", "https://api.x.com"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_target(text, target):
    assert normalise_target(text) == target


@pytest.mark.parametrize("text", ["", "ftp://x", "http://", "http://x:port", "http://x:99999"])
def test_target_that_is_none(text):
    with pytest.raises(ConfigurationError):
        normalise_target(text)


def test_config_keeps_a_token_for_each_target(tmp_path):
    config = Config.load(tmp_path / "new")
    config.target, config.tokens = "http://a", {"http://a": "1", "http://b": "2"}
    config.save()
    again = Config.load(tmp_path / "new")
    assert (again.current, again.token) == ("http://a", "1")
    again.override = "http://b"
    assert again.require_token() == "2"
    again.save()
    assert json.loads((tmp_path / "new" / "config.json").read_text())["target"] == "http://a"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tokens": 3}'])
def test_config_that_is_broken_says_what_to_do(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        Config.load(tmp_path)
    assert "rm " in caught.value.hint


def test_host_and_url_of_an_application():
    assert default_host("My_App", "http://api.ingot.localhost:8080") == "my-app.ingot.localhost"
    assert app_url("x.y.z", "http://api.y.z:8080") == "http://x.y.z:8080/"
    assert app_url("x.y.z", "https://api.y.z") == "https://x.y.z/"


def test_environment_is_merged():
    assert merge_environment(["A=1", "B=2=3"], {"A": None, "C": ""}) == ["B=2=3", "C="]


@pytest.mark.parametrize(
    ("text", "memory", "name"),
    [
        ("name: a\nmem: 64M\n", 64, "a"),
        ("applications:\n- name: a\n  memory: 64M\n- name: b\n  memory: 1G\n", 64, "a"),
        ("memory: 64\napplications:\n- name: a\n", 64, "a"),
        (
            "applications:\n  .:\n    name: a\n    mem: 64M\n    framework: {name: wsgi, info: {x: y}}\n",
            64,
            "a",
        ),
    ],
)
def test_manifests_of_three_eras(tmp_path, text, memory, name):
    path = tmp_path / "manifest.yml"
    path.write_text(text)
    assert find(tmp_path) == path
    read = load(path, "a")
    assert (read.memory, read.name) == (memory, name)


def test_manifest_reports_every_problem_at_once(tmp_path):
    path = tmp_path / "ingot.yml"
    path.write_text("memroy: 1G\nmemory: lots\ninstances: 0\nenv: [A]\n")
    with pytest.raises(PackageError) as caught:
        load(path)
    assert all(word in caught.value.message for word in ("memroy", "lots", "instances", "env"))


def test_manifest_with_several_applications_wants_a_name(tmp_path):
    path = tmp_path / "manifest.yml"
    path.write_text("applications: [{name: a}, {name: b}]\n")
    with pytest.raises(PackageError, match="a, b"):
        load(path)
    path.write_text("a: [\n")
    with pytest.raises(PackageError, match="not YAML at line"):
        load(path)


def test_said_settings_win_and_are_completed():
    said = Settings(name="x", env={"A": "1"})
    merged = said.over(Settings(name="y", memory=64, env={"A": "0", "B": "2"}))
    assert (merged.name, merged.memory, merged.env) == ("x", 64, {"A": "1", "B": "2"})


@pytest.mark.parametrize(
    ("states", "crashes", "outcome"),
    [
        (["RUNNING", "RUNNING"], (), StartOutcome.RUNNING),
        (["RUNNING", "STARTING"], (), StartOutcome.WAIT),
        (["DOWN", "DOWN"], (), StartOutcome.WAIT),
        (["DOWN", "STARTING"], ("a",), StartOutcome.CRASHED),
        (["RUNNING", "DOWN"], ("a",), StartOutcome.WAIT),
        (["RUNNING", "FLAPPING"], (), StartOutcome.CRASHED),
        ([], (), StartOutcome.WAIT),
    ],
)
def test_the_outcome_of_a_start_follows_from_states_and_crashes(states, crashes, outcome):
    assert AppSnapshot(2, Counter(states), crashes).outcome() is outcome


class FakeApi:
    def __init__(self, *snapshots):
        self.snapshots = list(snapshots)

    def instances(self, _name):
        snapshot = self.snapshots.pop(0) if len(self.snapshots) > 1 else self.snapshots[0]
        if isinstance(snapshot, Exception):
            raise snapshot
        return [{"index": 0, **one} if isinstance(one, dict) else {"state": one} for one in snapshot]

    def crashes(self, _name):
        return [{"instance": "old", "since": 1}, *getattr(self, "fresh", [])]


def wait(api, seconds, settle=0.0):
    now = [0.0]
    follower = StartFollower(
        api,
        "x",
        1,
        lambda: {"old"},
        lambda: settle,
        clock=lambda: now[0],
        sleep=lambda s: now.__setitem__(0, now[0] + s),
    )
    return follower.wait(seconds), now[0]


def test_waiting_outlives_a_controller_that_is_replaced():
    (outcome, _), _ = wait(FakeApi(["DOWN"], ApiError(503, 0, "away"), ["RUNNING"]), 10)
    assert outcome is StartOutcome.RUNNING


def test_waiting_ends_with_its_time_and_old_crashes_do_not_count():
    (outcome, snapshot), spent = wait(FakeApi(["STARTING"]), 10)
    assert outcome is StartOutcome.WAIT
    assert snapshot.text() == "0/1 running, 1 starting"
    assert 10 <= spent < 10.1


def runs(since):
    return [{"state": "RUNNING", "since": since}]


def test_what_runs_has_to_run_on_where_that_is_wanted():
    assert wait(FakeApi(["STARTING"], runs(5)), 10)[1] < 1
    (outcome, _), spent = wait(FakeApi(["STARTING"], runs(5)), 1, settle=3)
    assert outcome is StartOutcome.RUNNING
    assert 3 <= spent < 5


@pytest.mark.parametrize("after", [[["DOWN"]], [["STARTING"]], [runs(9)]])
def test_what_crashes_while_it_is_watched_has_crashed(after):
    api = FakeApi(runs(5), runs(5), runs(5), runs(5), *after)
    api.fresh = [{"instance": "new", "since": 8}]
    (outcome, snapshot), spent = wait(api, 10, settle=3)
    assert (outcome, snapshot.crashes) == (StartOutcome.CRASHED, ("new",))
    assert spent < 3


def test_what_is_replaced_without_a_crash_is_watched_anew():
    (outcome, _), spent = wait(FakeApi(*[runs(5)] * 4, runs(9)), 10, settle=3)
    assert outcome is StartOutcome.RUNNING
    assert 3.5 < spent < 6


def test_waiting_does_not_hide_that_the_application_is_gone():
    with pytest.raises(ApiError):
        wait(FakeApi(ApiError(404, 301, "gone")), 10)


@pytest.mark.parametrize(("width", "columns"), [("80", True), ("20", False)])
def test_table_that_does_not_fit_becomes_blocks(monkeypatch, capsys, width, columns):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("NO_COLOR", "1")
    output.table(("NAME", "STATE", "#RUNNING"), [("hello", "STARTED", "1/1"), ("[b]", None, "0/1")], "none")
    written = capsys.readouterr().out
    assert "\x1b[3" not in written
    # Bold is no colour, and stays.
    shown = re.sub(r"\x1b\[\d+m", "", written)
    assert ("NAME   STATE    RUNNING" in shown) is columns
    assert ("name     hello" in shown) is not columns
    assert "[b]" in shown


def test_table_in_a_pipe_is_never_cut(capsys):
    output.table(("A", "B"), [("x" * 300, "y")], "none")
    assert "x" * 300 + "  y" in capsys.readouterr().out
    output.table(("A",), [], "none at all")
    assert "none at all" in capsys.readouterr().out
