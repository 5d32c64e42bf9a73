"""YAML that somebody else wrote: small, without aliases and merge keys, which make much out of little, and not deep."""

from __future__ import annotations

from typing import Any

import yaml

MOST_BYTES = 64 * 1024
_DEEPEST = 32
# A date that no calendar has, a number of a thousand digits, an empty one and the like are no YAML errors: what the parser stumbles over
# is whatever its own code raises.
_FAULTS = (
    yaml.YAMLError,
    ValueError,
    RecursionError,
    ArithmeticError,
    LookupError,
    AttributeError,
    TypeError,
)


class PlainYamlError(ValueError):
    """It is not YAML, or not plain; the text says which."""


def load(content: bytes) -> Any:
    """Read a document.

    Raises:
        PlainYamlError: see there.
    """
    if len(content) > MOST_BYTES:
        raise PlainYamlError(f"longer than {MOST_BYTES} bytes")
    try:
        return yaml.load(content.decode(), _Loader)  # noqa: S506 - of the safe loader, with less
    except _NotPlainError as error:
        raise PlainYamlError(str(error)) from None
    except _FAULTS as error:
        raise PlainYamlError("not YAML") from error


class _NotPlainError(yaml.YAMLError):
    """What the safe loader would take."""


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise _NotPlainError("it has an alias (*name)")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _NotPlainError(f"it is deeper than {_DEEPEST} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: Any) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _value in node.value):
            raise _NotPlainError("it has a merge key (<<)")
