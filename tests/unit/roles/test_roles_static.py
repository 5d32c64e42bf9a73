"""What must agree about roles is compared here, values included."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pytest
import yaml

from components.common.bus import subjects
from components.common.bus.platform_hosts import host_problems, platform_hosts
from components.controller.config import ControllerConfig

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(p.parent.parent for p in (ROOT / "roles").glob("*/tasks/main.yml"))
SCENARIOS = sorted(p.parent for p in (ROOT / "molecule").glob("*/molecule.yml"))
VERBS = {"scale_out", "scale_in", "wire_nfs", "roll", "rollback", "repair", "site"}
# Roles of one noun share its scenario.
SHARED = {"nfs_server": "nfs", "nfs_client": "nfs", "service_redis": "services"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def options_of(role: Path, entry: str = "main") -> dict[str, Any]:
    return dict(load(role / "meta" / "argument_specs.yml")["argument_specs"][entry].get("options", {}))


def defaults_of(role: Path) -> dict[str, Any]:
    return dict(load(role / "defaults" / "main.yml") or {})


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_are_roles() -> None:
    assert {"base", "release", "nats", "ccdb"} <= {role.name for role in ROLES}


def test_defaults_equal_the_spec_values_included(role: Path) -> None:
    spec, defaults = options_of(role), defaults_of(role)
    for entry in load(role / "meta" / "argument_specs.yml")["argument_specs"]:
        # What an operation requires is given by who asks for it and has no default.
        asked = options_of(role, entry).items()
        spec |= {name: option for name, option in asked if entry == "main" or not option.get("required")}
    assert set(defaults) == set(spec)
    assert {name: option["default"] for name, option in spec.items() if not option.get("required")} == {
        name: value for name, value in defaults.items() if not spec[name].get("required")
    }


def test_defaults_of_the_platforms_inputs_are_declared_ones_that_nobody_must_give() -> None:
    inputs = load(ROOT / "playbooks" / "inputs" / "platform.yml")["options"]
    for name in defaults_of(ROOT / "roles" / "ingot"):
        assert not inputs[name].get("required"), name


def test_a_role_that_reads_the_platform_has_its_defaults_and_filters(role: Path) -> None:
    text = "".join(p.read_text() for p in role.glob("*/*.yml") if p.parent.name != "meta")
    assert ("ingot" in load(role / "meta" / "main.yml")["dependencies"]) == bool(
        re.search(r"{{.*\bingot_(?!urls|not_networks|hosts)", text)
    )


def test_what_is_required_comes_from_the_platform_or_has_a_hint(role: Path) -> None:
    """A default in a specification is rendered whoever gives the input, so none of it may need what an inventory has to give."""
    inputs = load(ROOT / "playbooks" / "inputs" / "platform.yml")["options"]
    needed = "|".join(name for name, option in inputs.items() if option.get("required"))
    for name, option in options_of(role).items():
        default = str(defaults_of(role)[name])
        from_platform = re.search(rf"{{{{ ({needed})\b(?!.*default)", default)
        assert bool(option.get("required")) == bool("undef(hint=" in default or from_platform), name
        assert not (option.get("required") and "default" in option), name


def test_every_option_is_typed_described_and_named_after_its_role(role: Path) -> None:
    for entry in load(role / "meta" / "argument_specs.yml")["argument_specs"]:
        for name, option in options_of(role, entry).items():
            assert name.startswith(f"{role.name}_"), name
            assert option.get("type"), name
            assert option.get("description"), name


def test_a_choice_written_without_quotes_is_what_it_says(role: Path) -> None:
    """YAML takes `off`, `no` and `1.0` for something else."""
    for name, option in options_of(role).items():
        if option["type"] == "str":
            for choice in option.get("choices", []):
                assert yaml.safe_load(choice) == choice, name


def test_secrets_are_declared_as_such(role: Path) -> None:
    for name, option in options_of(role).items():
        if re.search(r"_(passwords?|secrets?|token_keys)$", name):
            assert option.get("no_log") is True, name


def test_a_role_with_secrets_hides_them_by_a_switch(role: Path) -> None:
    if not any(option.get("no_log") for option in options_of(role).values()):
        return
    switch = f"{role.name}_secure_logging"
    assert defaults_of(role)[switch] is True
    assert f'no_log: "{{{{ {switch} }}}}"' in "".join(p.read_text() for p in (role / "tasks").glob("*.yml"))


def test_every_entry_point_has_its_file_and_every_input_its_line_in_the_readme(role: Path) -> None:
    readme = (role / "README.md").read_text()
    for entry in load(role / "meta" / "argument_specs.yml")["argument_specs"]:
        assert (role / "tasks" / f"{entry}.yml").is_file(), entry
        for name in options_of(role, entry):
            assert f"`{name}`" in readme, name


def test_main_imports_task_files_under_tags_of_the_role(role: Path) -> None:
    for task in load(role / "tasks" / "main.yml"):
        modules = {"ansible.builtin.import_tasks", "ansible.builtin.include_tasks"} & set(task)
        assert modules, task["name"]
        topic = Path(task[modules.pop()]).stem
        assert task["tags"] == [role.name, f"{role.name}_{topic}"]


def test_every_role_refuses_variables_nobody_declared(role: Path) -> None:
    first = load(role / "tasks" / "check.yml")[0]
    assert first["ansible.builtin.import_role"] == {"name": "ingot", "tasks_from": "inputs"}


def test_task_files_are_one_noun_long(role: Path) -> None:
    for path in (role / "tasks").glob("*.yml"):
        assert len(path.read_text().splitlines()) <= 120, path.name


def test_one_noun_stands_in_its_places(role: Path) -> None:
    noun = SHARED.get(role.name, role.name)
    assert (ROOT / "molecule" / noun / "molecule.yml").is_file()
    assert (ROOT / "playbooks" / f"{noun}.yml").is_file()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_scenario_is_a_noun_or_a_verb_and_has_a_test(scenario: Path) -> None:
    nouns = {SHARED.get(role.name, role.name) for role in ROLES}
    assert scenario.name in nouns | VERBS
    # molecule calls it a success when there is none.
    assert list((ROOT / "tests" / "infra" / scenario.name).glob("test_*.py"))
    assert (scenario / "layout.yml").is_file()
    assert (scenario / "converge.yml").is_file()


def test_what_bus_users_may_do_is_what_the_contract_says() -> None:
    generated = json.loads((ROOT / "roles" / "nats" / "files" / "permissions.json").read_text())
    users = (*subjects.COMPONENTS, subjects.OPERATOR, subjects.PEER)
    rights = {user: subjects.permissions(user) for user in users}
    assert generated == {user: asdict(right) for user, right in rights.items()}


@pytest.mark.parametrize("peer", [False, True])
def test_the_bus_allows_responses_to_users_that_cannot_ask_themselves(peer: bool) -> None:
    template = (ROOT / "roles" / "nats" / "templates" / "etc" / "nats-server.conf.j2").read_text()
    environment = jinja2.Environment(trim_blocks=True)
    environment.filters["to_json"] = json.dumps
    users = {name: asdict(subjects.permissions(name)) for name in (*subjects.COMPONENTS, subjects.PEER)}
    shown = environment.from_string(template).render(
        __nats_users=[{"key": name, "value": right} for name, right in users.items()],
        nats_server_name="bus1",
        nats_passwords=dict.fromkeys(users, "p"),
        nats_cluster_peers=[],
        nats_peer_enabled=peer,
        nats_reply_seconds=1200,
        __nats_peer_inbox="_INBOX.>",
        __nats_slow_users=["stager"] if peer else [],
        __nats_reply_seconds=60,
    )
    blocks = shown.split("user: ")[1:]
    seconds = {
        block.split('"')[1]: re.findall('allow_responses: { max: -1, expires: "([0-9]+)s" }', block)
        for block in blocks
    }
    slow = {"stager": ["1200"]} if peer else {}
    wanted = {name: ["60"] if right["allow_responses"] else [] for name, right in users.items()}
    assert seconds == {**wanted, **slow}
    # Who awaits answers at the inbox of 2011 is a peer, and where there is none nobody answers there.
    assert all(
        ('"_INBOX.>"' in b.split("subscribe:")[0]) <= peer for b in blocks if not b.startswith('"peer"')
    )


def test_accounts_are_those_of_the_platform_page() -> None:
    page = (ROOT / "docs" / "platform.md").read_text()
    listed = re.findall(r"^\| `(ingot-[a-z-]+)` \| (\d+) \|", page, re.MULTILINE)
    base = load(ROOT / "roles" / "base" / "vars" / "main.yml")
    assert listed
    assert [(a["name"], str(a["id"])) for a in base["__base_accounts"]] == listed
    ranges = [
        [int(end) for end in found]
        for found in re.findall(
            "^\\| `ingot-(?:app|build)-<uid>` \\| (\\d+)\u2013(\\d+) \\|", page, re.MULTILINE
        )
    ]
    assert sorted(f"{first}-{last}" for first, last in ranges) == base["__base_guests"]
    (servers,) = re.findall("^\\| `ingot-redis-<uid>` \\| (\\d+)\u2013(\\d+) \\|", page, re.MULTILINE)
    assert "-".join(servers) == base["__base_servers"]


@pytest.mark.parametrize(("capacity", "uids"), [(0, 200), (50, 200), (400, 410), (1000, 1000)])
def test_a_redis_node_that_takes_few_or_no_instances_more_has_uids_for_those_it_has(
    capacity: int, uids: int
) -> None:
    written = load(ROOT / "roles/service_redis/vars/main.yml")["__service_redis_uids"]
    found = jinja2.Environment().from_string(written).render(service_redis_capacity=capacity)
    assert json.loads(found) == list(range(48000, 48000 + uids))


def test_every_playbook_of_the_site_is_there_and_stands_in_the_readme() -> None:
    readme = (ROOT / "playbooks" / "README.md").read_text()
    for play in load(ROOT / "playbooks" / "site.yml"):
        assert (ROOT / "playbooks" / play["ansible.builtin.import_playbook"]).is_file()
    for path in (ROOT / "playbooks").glob("*.yml"):
        assert f"`{path.name}`" in readme, path.name


def test_every_play_becomes_root_on_machines_and_stays_itself_on_the_control_host() -> None:
    for path in (ROOT / "playbooks").glob("*.yml"):
        for play in load(path):
            if "hosts" in play:
                assert play.get("become", False) is (play["hosts"] != "localhost"), (path.name, play["name"])
                assert "roles" not in play, path.name


def test_router_and_controllers_keep_the_same_hosts_to_the_platform() -> None:
    variable = load(ROOT / "roles/router/vars/main.yml")["__router_platform_hosts"]
    further = ["status.example.com"]
    shown = jinja2.Environment().from_string(variable)
    said = ast.literal_eval(shown.render(router_domain="x.example.com", router_reserved_hosts=further))
    assert said == sorted(platform_hosts("x.example.com", further))
    for template in ("nginx/nginx.conf.j2", "ingot/router.yml.j2"):
        assert "__router_platform_hosts" in (ROOT / "roles/router/templates/etc" / template).read_text()


def test_controllers_believe_the_machines_of_the_group_router() -> None:
    """Without a router's address each of its clients counts as one, and one that guesses locks out all."""
    routers = "groups['router'] | default([]) | ingot_addresses(hostvars) | sort"
    default = defaults_of(ROOT / "roles/controller")["controller_router_addresses"]
    assert default == f"{{{{ ['127.0.0.0/8', '::1'] + ({routers}) }}}}"


@pytest.mark.parametrize("name", ["router", "controller"])
def test_a_host_of_the_platform_is_judged_before_a_daemon_has_to(name: str) -> None:
    conditions = [c for task in load(ROOT / f"roles/{name}/tasks/check.yml") for c in _conditions(task)]
    (condition,) = [c for c in conditions if f"{name}_reserved_hosts" in c]
    pattern = re.compile(re.findall(r"'match', '(.+)'", condition)[0].replace("\\\\", "\\"))
    for host in (
        "a.x",
        "A.x",
        "*.x",
        "a.x.",
        "a.x:80",
        "",
        "a..x",
        "-a.x",
        "a-.x",
        "a_b.x",
        "a b",
        "\u00e4.x",
    ):
        assert bool(pattern.match(host)) == (host_problems("", [host]) == []), host


def _conditions(task: dict[str, Any]) -> list[str]:
    found = task.get("ansible.builtin.assert", {}).get("that", [])
    return found if isinstance(found, list) else [found]


def test_the_agent_that_reads_what_strangers_made_has_a_bound_of_memory() -> None:
    role = ROOT / "roles" / "dea"
    unit = (role / "templates" / "etc" / "systemd" / "system" / "ingot-dea.service.j2").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("MemoryMax="))
    # 512 MB, and for each of 1024 instances 512 K characters of four bytes and 2000 lines.
    assert jinja2.Template(line).render(defaults_of(role)) == "MemoryMax=3060M"


def test_administrators_have_by_the_role_what_the_program_has_for_them() -> None:
    given = load(ROOT / "roles" / "controller" / "vars" / "main.yml")["__controller_admin_capacity"]
    (field,) = [f for f in msgspec.structs.fields(ControllerConfig) if f.name == "admin_capacity"]
    assert given == msgspec.structs.asdict(field.default)
