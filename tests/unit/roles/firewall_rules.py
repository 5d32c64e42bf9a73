"""The firewall of the role `base` as its template writes it, without Ansible."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import yaml

BASE = Path(__file__).resolve().parents[3] / "roles/base"
TEMPLATE = "etc/nftables.d/ingot.nft.j2"
DAEMONS = yaml.safe_load((BASE.parents[1] / "playbooks/vars/daemons.yml").read_text())["platform_daemons"]


def filters() -> ModuleType:
    """Load the role's filters as Ansible does, by their path."""
    spec = importlib.util.spec_from_file_location("ingot_firewall", BASE / "filter_plugins/ingot_firewall.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rules(
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    networks: Sequence[str],
    here: str,
    **more: Any,
) -> str:
    """Render the file of machine `here`; `more` goes to the filter `ingot_firewall`."""
    plugin = filters()
    machines = plugin.ingot_machines(hostvars, groups, DAEMONS)
    known = plugin.ingot_remembered(machines, {}, networks)
    given = yaml.safe_load((BASE / "vars/main.yml").read_text())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(BASE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        **{name: value for name, value in given.items() if "{{" not in str(value)},
        ansible_managed="Ansible managed",
        __base_sets=plugin.ingot_firewall(machines, known, networks, **more),
        __base_everybody_ports=[*machines[here]["ssh"], *machines[here]["public"]],
    )
