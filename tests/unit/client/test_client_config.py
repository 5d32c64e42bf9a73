"""The target and the tokens of the client's configuration."""

import json

import pytest

from components.client.config import Config, normalise_target
from components.client.errors import ConfigurationError


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
