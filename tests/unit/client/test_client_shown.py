"""What a person sees: progress, log lines and their gaps, text that others wrote, names the shell completes."""

import io
import json
import stat
import time

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from components.client.completion import AppName, names
from components.client.config import Config
from components.client.errors import ApiError, PushError, UnreachableError, away
from components.client.follow.logs import LogPager, rendered, rows, words
from components.client.follow.update import Updater, UpdateSnapshot
from components.client.lifecycle import AppLifecycle
from components.client.main import cli
from components.client.output import clean
from components.client.progress import Progress, bar


def screen(width, *, terminal):
    return Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False
    )


def page(*lines, missed=(), cursor="c", **members):
    return {"lines": list(lines), "missed": list(missed), "cursor": cursor, **members}


def line(instance, n, text="x"):
    return {"instance": instance, "id": f"id{instance}", "n": n, "at": 0.0, "stream": "stdout", "text": text}


@pytest.mark.parametrize(
    ("done", "total", "want"), [(0, 4, "[----]"), (1, 2, "[##--]"), (9, 4, "[####]"), (0, 0, "[####]")]
)
def test_bar(done, total, want):
    assert bar(done, total, 6) == want


def test_progress_in_a_pipe_is_plain_lines():
    progress = Progress(screen(200, terminal=False))
    with progress.stage("updating"):
        progress.part(1, 2, "1K of 2K")
        progress.count(0, 2, "replaced")
        progress.count(1, 2, "replaced")
    shown = progress.screen.file.getvalue().splitlines()
    assert shown[0] == "  | 1/2 replaced"
    assert shown[1].startswith("updating")
    assert shown[1].endswith("1/2 replaced")


def test_progress_in_a_narrow_terminal_stays_on_its_line():
    progress = Progress(screen(40, terminal=True))
    with progress.stage("uploading"):
        progress.part(50, 100, "50.0M of 100.0M, 1000 of 2000 files")
        status = progress._status
        assert status is not None
        assert len(status.status.plain) <= 37
        assert "[####----]" in status.status.plain
    assert "\n" not in progress.screen.file.getvalue().strip().splitlines()[0]


def test_what_others_wrote_does_not_steer_the_terminal():
    assert clean("a\x1b[31mb\x1b[2J\x1b]0;title\x07c\rd\x00\te") == "abcd\te"
    assert clean("½ … ñ 漢") == "½ … ñ 漢"


def test_gaps_stand_before_the_first_line_that_was_kept():
    gaps = [{"instance": 1, "id": "id1", "count": 12}, {"instance": 2, "id": "id2", "count": 1}]
    shown = [
        words(row) for row in rows(page(line(0, 1, "a"), line(1, 13, "b"), line(1, 14, "c"), missed=gaps))
    ]
    assert shown == [
        "a",
        "… 12 lines missed (instance 1)",
        "b",
        "c",
        "… 1 line missed (instance 2)",
    ]


def test_an_instance_keeps_its_colour():
    one, again, other = (rendered(line(i, 1)) for i in (0, 8, 1))
    assert one.spans[0].style == again.spans[0].style != other.spans[0].style
    assert rendered({**line(0, 1), "stream": "stderr"}, times=True).plain.endswith("[0!] x")


class Script:
    """Gives pages, or raises, one after the other; remembers what was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.now = 0.0
        self.said = []

    def ask(self, **wanted):
        self.asked.append(wanted)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def sleep(self, seconds):
        self.now += seconds

    def reader(self, patience=10):
        return LogPager(self.ask, self.said.append, patience, lambda: self.now, self.sleep)


def test_reader_goes_on_where_it_was_when_a_controller_is_replaced():
    gone = UnreachableError("refused")
    script = Script(
        page(line(0, 1), cursor="c1"), gone, gone, page(line(0, 2), cursor="c2"), KeyboardInterrupt()
    )
    read = script.reader().pages(10, follow=True)
    assert next(read)["lines"][0]["n"] == 1
    assert next(read)["lines"][0]["n"] == 2
    with pytest.raises(KeyboardInterrupt):
        next(read)
    assert script.asked[0] == {"tail": 10}
    assert [wanted["cursor"] for wanted in script.asked[1:]] == ["c1", "c1", "c1", "c2"]
    assert len(script.said) == 2


def test_reader_gives_up_at_last_and_at_once_where_waiting_is_no_use():
    script = Script(*[ApiError(503, 0, "away")] * 100)
    with pytest.raises(ApiError):
        list(script.reader(patience=10).pages(10, follow=False))
    assert 10 < script.now < 13
    script = Script(ApiError(404, 301, "no such application"))
    with pytest.raises(ApiError):
        list(script.reader().pages(10, follow=False))
    assert script.now == 0


def test_reader_ends_with_a_task_but_not_before_its_last_line():
    script = Script(page(state="running"), page(line(0, 1), state="failed"), page(state="failed"))
    got = list(script.reader().pages(10, follow=True))
    assert [len(answer["lines"]) for answer in got] == [0, 1]
    assert script.now == 0


def test_reader_does_not_hurry_one_who_answers_at_once():
    script = Script(page(), page(), page(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        list(script.reader().pages(10, follow=True))
    assert script.now == 1.0


CODES = {
    400: (100, 102, 300, 304, 305, 307, 308, 309, 400, 401, 700, 701),
    403: (200, 201, 202, 504, 600, 601, 602, 702),
    404: (301, 302, 303, 500, 501, 502),
    500: (101, 111, 306, 310, 402, 800, 801),
    501: (505,),
    502: (503,),
}


@pytest.mark.parametrize(
    ("status", "code"), [(status, code) for status, codes in CODES.items() for code in codes]
)
def test_every_code_of_the_contract_says_what_to_do(status, code):
    assert ApiError(status, code, "x").hint


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (UnreachableError("x"), True),
        (ApiError(502, 0, "x"), True),
        (ApiError(404, 404, "VCAP ROUTER: 404 - DESTINATION NOT FOUND"), True),
        (ApiError(404, 301, "x"), False),
        (ApiError(429, 429, "x"), False),
        (PushError("starting", "x"), False),
    ],
)
def test_which_errors_pass(error, passes):
    assert away(error) is passes


@pytest.mark.parametrize(
    ("state", "over", "failed"),
    [
        ("UPDATING", False, False),
        ("SUCCEEDED", True, False),
        ("NONE", True, False),
        ("CANARY_FAILED", True, True),
        ("SOMETHING_NEW", True, True),
    ],
)
def test_update_states(state, over, failed):
    update = UpdateSnapshot.of({"state": state, "replaced": 1, "instances": 2})
    assert (update.over, update.failed, update.text()) == (over, failed, "1/2 replaced")


class Updates:
    def __init__(self, *states):
        self.states = list(states)

    def update_state(self, _name):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return {"state": state, "replaced": 0, "instances": 3, "message": ""}

    def crashes(self, _name):
        return []


def updater(*states):
    now = [0.0]
    life = AppLifecycle(Updates(*states), "x", Progress(screen(80, terminal=False)), timeout=10)
    return Updater(life, lambda: now[0], lambda s: now.__setitem__(0, now[0] + s)), now


def test_every_instance_has_its_time():
    watcher, now = updater("UPDATING")
    with pytest.raises(PushError, match="0/3 replaced after"):
        watcher.follow()
    assert 30 < now[0] < 31


def test_an_update_is_not_given_up_while_the_platform_is_away():
    watcher, _ = updater("UPDATING", UnreachableError("x"), ApiError(500, 111, "x"), "SUCCEEDED")
    assert watcher.follow().state == "SUCCEEDED"
    watcher, _ = updater(ApiError(404, 301, "deleted meanwhile"))
    with pytest.raises(ApiError):
        watcher.follow()


@pytest.mark.parametrize(
    ("error", "possible"),
    [
        ("NONE", True),
        (ApiError(404, 301, "x"), True),
        (ApiError(404, 0, "x"), False),
        (ApiError(405, 0, "x"), False),
    ],
)
def test_whether_a_controller_can_roll(error, possible):
    assert updater(error)[0].possible() is possible


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("INGOT_HOME", str(tmp_path))
    monkeypatch.delenv("INGOT_TARGET", raising=False)
    # Nobody answers there, so what is completed is what is remembered.
    config = Config(tmp_path, "http://127.0.0.1:9", {"http://127.0.0.1:9": "secret"})
    config.save()
    return config


def remember(config, monkeypatch, *found, at):
    with monkeypatch.context() as patch:
        patch.setattr("components.client.completion.Api.apps", lambda _self: [{"name": n} for n in found])
        assert names(config, at) == sorted(found)


def test_names_are_remembered_for_a_minute(config, monkeypatch):
    remember(config, monkeypatch, "hello", "other", at=1000.0)
    file = config.folder / "names.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "secret" not in file.read_text()
    assert names(config, 1059.0) == ["hello", "other"]
    with pytest.raises(UnreachableError):
        names(config, 1061.0)
    # Another login, or another platform, has other applications.
    config.tokens = {config.target: "another"}
    with pytest.raises(UnreachableError):
        names(config, 1001.0)


def test_the_shell_completes_names_and_never_an_error(config, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(
            "components.client.completion.Api.apps", lambda _self: [{"name": "hello"}, {"name": "x"}]
        )
        names(config, time.time())
    context = click.Context(cli)
    found = AppName().shell_complete(context, cli.commands["app"].params[0], "he")
    assert [item.value for item in found] == ["hello"]
    (tmp_path / "names.json").write_text("{broken")
    assert AppName().shell_complete(context, cli.commands["app"].params[0], "he") == []


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete ")]
)
def test_completion_scripts(shell, mark):
    result = CliRunner().invoke(cli, ["completion", shell])
    assert mark in result.stdout
    assert "_INGOT_COMPLETE" in result.stdout
    said = json.loads(CliRunner().invoke(cli, ["completion", shell, "--json"]).stdout)
    assert said["shell"] == shell
