"""Completion in shells."""

import json
import stat
import time

import click
import pytest
from click.testing import CliRunner

from components.client.completion import AppName, names
from components.client.config import Config
from components.client.errors import UnreachableError
from components.client.main import cli


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
