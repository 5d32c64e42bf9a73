"""Links inside a tree."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.filesystem.links import MOST_FOLLOWED, LinkError, check_links


def problem(links: dict[str, str]) -> str:
    try:
        check_links({PurePosixPath(path): target for path, target in links.items()})
    except LinkError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "links",
    [
        {"a": "b"},
        {"a/b": "../c", "c": "d"},
        {"a/b/c": "../../d/e/../f"},
        {"site": "public", "x": "site/index.html"},
        {"a": "."},
        {f"l{n}": f"l{n + 1}" for n in range(MOST_FOLLOWED - 1)},
    ],
)
def test_links_within_the_tree_are_taken(links: dict[str, str]) -> None:
    assert problem(links) == ""


@pytest.mark.parametrize(
    ("links", "says"),
    [
        ({"a": ".."}, "a is a link out of the application's folder"),
        ({"a/b": "../../c"}, "out of the application's folder"),
        ({"a": "../app/b"}, "out of the application's folder"),
        ({"d/up": "..", "e": "d/up/.."}, "e is a link out of the application's folder"),
        ({"a": "/etc/passwd"}, "not a relative path"),
        ({"a": ""}, "not a relative path"),
        ({"a": "b\0c"}, "not a relative path"),
        ({"a": "x" * 256}, "a name that is too long"),
        ({"a": "a"}, "leads to itself"),
        ({"a": "b", "b": "a"}, "leads to itself"),
        ({f"l{n}": f"l{n + 1}" for n in range(MOST_FOLLOWED + 1)}, "through too many others"),
    ],
)
def test_a_link_that_leads_out_is_refused(links: dict[str, str], says: str) -> None:
    assert says in problem(links)


def test_links_that_lead_to_each_other_cost_a_bounded_number_of_steps() -> None:
    """Each target passes through the next link hundreds of times: all steps together would take hours."""
    links = {f"d/l{n}": "/".join(["x/.."] * 200 + [f"l{n + 1}"]) for n in range(5000)}
    assert "too many" in problem(links)


NAMES = st.sampled_from(["a", "b", "c", "d"])
PARTS = st.lists(st.one_of(NAMES, st.just("..")), min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(st.builds("{}/{}".format, NAMES, NAMES), PARTS, min_size=1, max_size=5))
def test_it_agrees_with_the_kernel(tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]) -> None:
    root = tmp_path_factory.mktemp("tree") / "app"
    for folder in "abcd":
        (root / folder).mkdir(parents=True)
    for path, target in links.items():
        (root / path).symlink_to(target)
    if problem(links):
        return
    for path in links:
        landing = os.path.realpath(root / path)
        assert Path(landing).is_relative_to(os.path.realpath(root)), (path, links)
