"""Recipes, their digest, and the host's sources."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from orchestrator.lab.errors import BadRequestError
from orchestrator.lab.images import recipes, sources

ROLES = Path(__file__).parents[3] / "roles"
DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian http://second.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/mirror.gpg

Types: deb deb-src
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: http://vendor.example/tool
Suites: bookworm
Components: stable

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""


def test_full_image_holds_the_bare_one_and_every_role_package() -> None:
    full, bare = recipes.recipe("bookworm"), recipes.recipe("bookworm-bare")
    assert set(bare.packages) < set(full.packages)
    for packages in recipes.ROLE_PACKAGES.values():
        assert set(packages) <= set(full.packages)
        assert not set(packages) & set(bare.packages)
    assert (full.suite, bare.suite) == ("bookworm", "bookworm")


def test_unknown_image_is_refused_with_what_there_is() -> None:
    with pytest.raises(BadRequestError, match="bookworm-bare, trixie"):
        recipes.recipe("sid")


def test_digest_changes_with_all_that_decides() -> None:
    recipe = recipes.recipe("bookworm")
    lines, authorities = ["deb http://a bookworm main"], {"a.crt": b"one"}
    first = recipes.digest(recipe, lines, authorities)
    assert first == recipes.digest(recipes.recipe("bookworm"), list(lines), dict(authorities))
    others = [
        recipes.digest(dataclasses.replace(recipe, packages=("x",)), lines, authorities),
        recipes.digest(dataclasses.replace(recipe, finish="true"), lines, authorities),
        recipes.digest(recipe, ["deb http://b bookworm main"], authorities),
        recipes.digest(recipe, lines, {"a.crt": b"two"}),
        recipes.digest(recipe, lines, {}),
    ]
    assert len({first, *others}) == 6


@pytest.mark.parametrize("name", recipes.names())
def test_folder_names_can_be_read_back(name: str) -> None:
    assert recipes.split_folder(recipes.folder_name(name, "0123456789ab")) == (name, "0123456789ab")


@pytest.mark.parametrize("folder", [".building-bookworm-0123456789ab", "bookworm", "other-0123456789ab"])
def test_other_folders_are_no_images(folder: str) -> None:
    assert recipes.split_folder(folder) is None


def test_sources_are_translated_and_strangers_left_out() -> None:
    lines = [s.line() for s in sources.for_suite(sources.parse_deb822(DEB822), "bookworm", "trixie")]
    assert lines == [
        "deb [signed-by=/usr/share/keyrings/mirror.gpg] http://mirror.example/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/mirror.gpg] http://mirror.example/debian trixie-updates main",
        "deb [signed-by=/usr/share/keyrings/mirror.gpg] http://second.example/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/mirror.gpg] http://second.example/debian trixie-updates main",
        "deb http://mirror.example/security trixie-security main",
    ]


def test_one_line_sources() -> None:
    text = """
# deb http://off.example/debian bookworm main
deb http://mirror.example/debian bookworm main non-free # trailing
deb [arch=amd64 trusted=yes signed-by=/k.gpg] http://local.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb http://vendor.example/tool bookworm-vendor main
"""
    found = sources.for_suite(sources.parse_list(text), "bookworm", "bookworm")
    assert [s.line() for s in found] == [
        "deb http://mirror.example/debian bookworm main",
        "deb [signed-by=/k.gpg trusted=yes] http://local.example/debian bookworm main",
    ]


def test_codename() -> None:
    assert sources.codename("ID=debian\nVERSION_CODENAME=bookworm\n") == "bookworm"
    assert sources.codename("ID=x\n") == ""


def role_packages() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(ROLES.glob("*/vars/main.yml")):
        for key, value in (yaml.safe_load(path.read_text()) or {}).items():
            if key.endswith(("_packages", "_package")):
                wanted = [value] if isinstance(value, str) else value
                found.setdefault(path.parents[1].name, set()).update(wanted)
    return found


def test_what_the_roles_install_is_in_the_full_images() -> None:
    baked = set(recipes.recipe("bookworm").packages)
    assert {role: packages - baked for role, packages in role_packages().items() if packages - baked} == {}
