"""JSON schemas as shapes: without names and texts, so that two releases can be compared by what they send and accept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

Shape = dict[str, Any]
_DEFS = "#/$defs/{name}"


def of_type(kind: Any) -> Shape:
    """Return the shape of the JSON that msgspec reads as this type."""
    (schema,), defs = msgspec.json.schema_components([kind], ref_template=_DEFS)
    return of_schema(schema, {_DEFS.format(name=name): part for name, part in defs.items()})


def of_schema(schema: Mapping[str, Any], named: Mapping[str, Any]) -> Shape:
    """Return the shape of a JSON schema.

    Args:
        schema: the schema; `$ref` in it is a key of `named`.
        named: the schemas that are referred to, by reference.

    Returns:
        `{"types": [...], "members": {name: shape}, "required": [...], "items": shape, "values": shape}`, without what is empty.
    """
    if "$ref" in schema:
        return of_schema(named[schema["$ref"]], named)
    shapes = [of_schema(one, named) for one in schema.get("anyOf", schema.get("oneOf", []))]
    kind = schema.get("type", [])
    own: Shape = {"types": [kind] if isinstance(kind, str) else list(kind)}
    if "enum" in schema and not own["types"]:
        own["types"] = sorted({_type_of(value) for value in schema["enum"]})
    own["members"] = {name: of_schema(member, named) for name, member in schema.get("properties", {}).items()}
    own["required"] = sorted(schema.get("required", []))
    if isinstance(schema.get("items"), Mapping):
        own["items"] = of_schema(schema["items"], named)
    if isinstance(schema.get("additionalProperties"), Mapping):
        own["values"] = of_schema(schema["additionalProperties"], named)
    merged: Shape = own
    for shape in shapes:
        types = sorted({*merged["types"], *shape.get("types", [])})
        merged = {**merged, **{key: value for key, value in shape.items() if value}, "types": types}
    return {key: value for key, value in merged.items() if value}


def refused(speaker: Shape, hearer: Shape, where: str) -> Iterator[str]:
    """Yield why a hearer would not understand what a speaker may send.

    A speaker that names a member the hearer does not know is understood: unknown members are passed over. Where they are not,
    as in configurations, ask `forgotten` too.
    """
    sent, read = set(speaker.get("types", [])), set(hearer.get("types", []))
    if sent and read and not sent <= read | ({"integer"} if "number" in read else set()):
        yield f"{where}: {'/'.join(sorted(sent))} is sent, {'/'.join(sorted(read))} is read"
    for name in hearer.get("required", []):
        if name not in speaker.get("required", []):
            yield f"{where}.{name}: the hearer needs it, the speaker may leave it out"
    for name, member in speaker.get("members", {}).items():
        if name in hearer.get("members", {}):
            yield from refused(member, hearer["members"][name], f"{where}.{name}")
    for part in ("items", "values"):
        if part in speaker and part in hearer:
            yield from refused(speaker[part], hearer[part], f"{where}.{part}")


def forgotten(old: Shape, new: Shape, where: str) -> Iterator[str]:
    """Yield the members of the old shape that the new one does not have."""
    for name, member in old.get("members", {}).items():
        if name not in new.get("members", {}):
            yield f"{where}.{name}: it is gone"
        else:
            yield from forgotten(member, new["members"][name], f"{where}.{name}")
    for part in ("items", "values"):
        if part in old and part in new:
            yield from forgotten(old[part], new[part], f"{where}.{part}")


def _type_of(value: object) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return kinds[type(value)]
