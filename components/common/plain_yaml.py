"""A reader of untrusted YAML: small, not deep, without aliases and merge keys, which expand a little to much."""

from __future__ import annotations

from typing import Any

import yaml

MOST_BYTES = 64 * 1024
_DEEPEST = 32
# A date that no calendar has, a number of a thousand digits, an empty one and the like raise no YAML error but the
# errors of the parser's own code.
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
    """The text is not YAML, or not plain; the message says which."""


def load(content: bytes) -> Any:
    """Read a document.

    Raises:
        PlainYamlError: it is not YAML, or not plain.
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
    """A construct that the safe loader would accept and this one does not."""


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
