"""The environment of a build."""

from __future__ import annotations

from pathlib import Path

from components.stager.environment import build_environment, parse


def test_an_environment_file_is_read_as_systemd_reads_it() -> None:
    text = "# note\nA=1\nexport B='two words'\nC=\"x=y\"\n\nnot a line\nD=\n"
    assert parse(text) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}


def test_a_build_learns_nothing_but_where_packages_are(tmp_path: Path) -> None:
    found = build_environment(
        {"SECRET": "s", "PIP_INDEX_URL": "http://own", "https_proxy": "http://p", "NATS_PASSWORD": "x"},
        "PIP_INDEX_URL=http://file\nINGOT_TOKEN=t\nNODE_EXTRA_CA_CERTS=/ca\n",
        tmp_path,
    )
    assert found["PIP_INDEX_URL"] == "http://file"
    assert found["https_proxy"] == "http://p"
    assert found["NODE_EXTRA_CA_CERTS"] == "/ca"
    assert found["HOME"] == str(tmp_path)
    assert not {"SECRET", "NATS_PASSWORD", "INGOT_TOKEN"} & set(found)


def test_the_stagers_own_settings_win(tmp_path: Path) -> None:
    found = build_environment({}, "PIP_INDEX_URL=http://file\n", tmp_path, "http://config", "http://npm")
    assert (found["PIP_INDEX_URL"], found["NPM_CONFIG_REGISTRY"]) == ("http://config", "http://npm")
