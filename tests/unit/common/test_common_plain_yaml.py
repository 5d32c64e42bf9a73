"""YAML of strangers."""

from __future__ import annotations

import contextlib
import time

import pytest

from components.common.plain_yaml import PlainYamlError, load


def bomb() -> bytes:
    """Write what finding 16 has: merge keys that name each other, 9 levels deep."""
    lines = [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(["a0: &a0 {x: 1}", *lines]).encode()


def test_plain_yaml_is_read() -> None:
    assert load(b"state_file: tomcat.state\nlist: [1, {a: b}]\n") == {
        "state_file": "tomcat.state",
        "list": [1, {"a": "b"}],
    }
    assert load(b"") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (bomb(), "alias"),
        (b"a: &a [1]\nb: *a\n", "alias"),
        (b"<<: {a: 1}\n", "merge key"),
        (b"[" * 60_000, "deeper than 32 levels"),
        (b"{a: " * 10_000, "deeper than 32 levels"),
        (b"- " * 30_000, "deeper than 32 levels"),
        (b"x" * 70_000, "longer than 65536 bytes"),
        (b"a: " + b"9" * 60_000, "not YAML"),
        (b"a: 2001-99-99", "not YAML"),
        (b"{", "not YAML"),
        (b"\xff", "not YAML"),
        (b"a: !!bool x", "not YAML"),
        (b'a: !!int ""', "not YAML"),
        (b'a: !!float ""', "not YAML"),
        (b"a: !!timestamp x", "not YAML"),
        (b"a: 1" + b":1" * 400 + b".5", "not YAML"),
        (b"a: !!python/object:os.system x", "not YAML"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_what_is_made_to_exhaust_is_refused_at_once(content: bytes, says: str) -> None:
    began = time.process_time()
    with pytest.raises(PlainYamlError, match=says):
        load(content)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "content",
    [
        b"? " * 30_000,
        b"a: 1" + b":59" * 20_000,
        b"'" + b"x\n" * 30_000 + b"'",
        b"#\n" * 32_000,
        b"&a " * 20_000,
    ],
)
def test_no_short_text_takes_long(content: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(PlainYamlError):
        load(content)
    assert time.process_time() - began < 5
