"""The orchestrator's configuration: every problem at once, each by its key; and what is kept out of texts."""

import copy
from typing import Any

import pytest
import yaml

from components.common.config import parse
from components.common.errors import ConfigError
from orchestrator import iaas
from orchestrator.config import OrchestratorConfig
from orchestrator.redact import Redactor, inventory_secrets, redactor

GOOD: dict[str, Any] = {
    "bus": {"urls": ["nats://127.0.0.1:4222"], "user": "orchestrator", "password": "bus-password"},
    "inventory": "/srv/inventory",
    "releases": "/srv/releases",
    "operator_password": "operator-password",
    "controllers": ["http://198.18.0.3:9022"],
    "ssh": {"private_key": "/srv/ssh/key", "known_hosts": ["/srv/ssh/known_hosts"]},
    "providers": {
        "metal": {"driver": "static", "hosts": [{"address": "198.18.0.9"}]},
        "lab": {"driver": "lab", "socket": "/run/lab/lab.sock", "lab": "ingot"},
    },
    "pools": {"dea": {"provider": "metal", "image": "none", "prefix": "dea", "groups": ["dea"]}},
}


def problems(**changes):
    raw = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *above, last = path.split("__")
        place = raw
        for key in above:
            place = place[key]
        place[last] = value
    with pytest.raises(ConfigError) as caught:
        parse(raw, OrchestratorConfig)
    return list(caught.value.problems)


def test_a_good_one_has_its_defaults():
    config = parse(GOOD, OrchestratorConfig)
    assert (config.port, config.play_runner, config.api) == (9071, "systemd", "orchestrator.ingot.localhost")
    assert (config.pools["dea"].floor, config.pools["dea"].maximum) == (1, 10)
    assert config.ssh.user == "root"
    assert config.deadlines.beat == 60


def test_every_problem_is_named_at_once():
    found = problems(
        pools__dea__floor="many", pools__dea__prefix=7, ssh__user=1, deadlines={"beat": "soon"}, host=3
    )
    assert [p.partition(": ")[0] for p in sorted(found)] == [
        "deadlines.beat",
        "host",
        "pools.dea.floor",
        "pools.dea.prefix",
        "ssh.user",
    ]


def test_what_types_cannot_say_is_said():
    found = problems(
        database_url="mysql://x",
        play_runner="cron",
        state_path="here",
        controllers=["ctl1:9022"],
        operator_password="short",
        port=70000,
        threads=0,
        controller_timeout=0,
        domain="",
        providers={"metal": {}},
    )
    assert [p.partition(": ")[0] for p in found] == [
        "database_url",
        "play_runner",
        "state_path",
        "controllers",
        "operator_password",
        "port",
        "threads",
        "controller_timeout",
        "domain",
        "providers.metal.driver",
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"pools__dea__provider": "cloud"},
            "pools.dea.provider: 'cloud' is not a provider; known: lab, metal",
        ),
        ({"pools__dea__prefix": "dea3"}, "pools.dea.prefix: must be lower-case letters"),
        ({"pools__dea__groups": []}, "pools.dea.groups: must name at least one group"),
        ({"pools__dea__image": ""}, "pools.dea.image: must not be empty"),
        ({"pools__dea__floor": -1}, "pools.dea.floor: must be 0 or more"),
        ({"pools__dea__floor": 11}, "pools.dea.maximum: must be 1 or more, and not less than floor"),
        ({"pools__other": dict(GOOD["pools"]["dea"])}, "pools.other.prefix: 'dea' is that of pool dea"),
        ({"pools__dea__flor": 1}, "pools.dea.flor: not a key of this configuration"),
        ({"pools": {"dea": None}}, "pools.dea: want a mapping"),
        ({"ssh__private_key": "key"}, "ssh.private_key: must be an absolute path"),
        ({"ssh__known_hosts": []}, "ssh.known_hosts: must name at least one file"),
        ({"ssh__port": 0}, "ssh.port: must be 1 to 65535"),
        ({"ssh__deadline": 0}, "ssh.deadline: must be more than 0 seconds"),
        ({"deadlines": {"play": 0}}, "deadlines.play: must be more than 0 seconds"),
    ],
)
def test_one_problem_is_one_sentence(changes, problem):
    (found,) = problems(**changes)
    assert problem in found


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"driver": "balloon"}, "providers.metal.driver: must be one of lab, static"),
        (
            {"driver": "static", "hosts": [], "hots": 1},
            "providers.metal.hots: not a key of this configuration",
        ),
    ],
)
def test_a_check_of_the_drivers_names_a_key_of_theirs(changes, problem):
    assert iaas.check(parse(GOOD, OrchestratorConfig)) == []
    (found,) = iaas.check(parse({**GOOD, "providers": {"metal": changes}, "pools": {}}, OrchestratorConfig))
    assert problem in found


def test_secrets_are_masked_the_longest_first():
    assert (
        Redactor(["opensesame", "opensesame-and-more", "x"])("x opensesame-and-more opensesame")
        == "x *** ***"
    )
    assert Redactor([])("as it is") == "as it is"


def test_the_inventorys_secrets_and_our_own_are_known(tmp_path):
    secrets = {
        "all": {
            "vars": {"ingot_bus_passwords": {"dea": "dea-on-the-bus"}, "ingot_token_keys": ["key-of-token"]}
        }
    }
    (tmp_path / "15-secrets.yml").write_text(yaml.safe_dump(secrets))
    (tmp_path / "10-fixed.yml").write_text("all: {vars: {ingot_domain: not-a-secret}}")
    masked = redactor(parse({**GOOD, "inventory": str(tmp_path)}, OrchestratorConfig))
    text = "operator-password bus-password dea-on-the-bus key-of-token not-a-secret"
    assert masked(text) == "*** *** *** *** not-a-secret"


def test_a_secrets_file_that_cannot_be_read_stops_nothing(tmp_path):
    (tmp_path / "15-secrets.yml").write_text("{")
    (tmp_path / "more-secrets.yml").write_text("- [a-good-secret]")
    assert inventory_secrets(tmp_path) == {"a-good-secret"}
