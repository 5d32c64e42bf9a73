"""Answers held against the description of the routes: `served` of `vmc_client` looks at every one that any contract test gets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

from components.controller.api import openapi

_CODE = re.compile(r"^(\d+): ", re.MULTILINE)
_KINDS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


# Descriptions by their routes: many tests make an application, and all have the same.
_DOCUMENTS: dict[tuple[str, ...], dict[str, Any]] = {}


def watch(app: Flask) -> list[str]:
    """Hold every answer of an application against its description; return the list that problems go to."""
    wrong: list[str] = []
    routes = tuple(str(rule) for rule in app.url_map.iter_rules())
    if routes not in _DOCUMENTS:
        _DOCUMENTS[routes] = openapi.describe(app, "api.ingot.localhost")
    document = _DOCUMENTS[routes]

    @app.after_request
    def hold(response: Response) -> Response:
        rule = request.url_rule
        if rule is None or request.method in ("HEAD", "OPTIONS"):
            return response
        operation = document["paths"][openapi.path_of(rule)].get(request.method.lower())
        # A stream is not read, as its client reads it.
        body = None if response.is_streamed or response.direct_passthrough else response.get_data()
        found = ["no such method"] if operation is None else problems(document, operation, response, body)
        wrong.extend(f"{request.method} {request.path[:100]}: {response.status_code}: {one}" for one in found)
        return response

    return wrong


def problems(
    document: dict[str, Any], operation: dict[str, Any], response: Response, body: bytes | None
) -> list[str]:
    """Return what an answer has that its operation does not list."""
    answer = operation["responses"].get(str(response.status_code))
    if answer is None:
        return ["the status is not listed"]
    content = answer.get("content")
    if content is None:
        return [f"a body, and none is listed: {body[:200]!r}"] if body else []
    if response.mimetype not in content:
        return [f"{response.mimetype} is not listed"]
    if response.mimetype != "application/json" or body is None:
        return []
    value = json.loads(body)
    if isinstance(value, dict) and value.keys() == {"code", "description"}:
        listed = {int(code) for code in _CODE.findall(answer["description"])}
        return (
            [] if value["code"] in listed else [f"code {value['code']} is not listed: {value['description']}"]
        )
    return list(_mismatches(document, content["application/json"]["schema"], value, "the body"))


def _mismatches(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    if "anyOf" in schema:
        found = [list(_mismatches(document, one, value, where)) for one in schema["anyOf"]]
        yield from min(found, key=len)
        return
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{where}: {value!r:.100} is not of {kinds}"
    elif isinstance(value, list):
        for item in value:
            yield from _mismatches(document, schema.get("items", {}), item, f"{where}[]")
    elif isinstance(value, dict):
        yield from _members(document, schema, value, where)


def _members(
    document: dict[str, Any], schema: dict[str, Any], value: dict[str, Any], where: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in sorted(set(schema.get("required", ())) - value.keys()):
        yield f"{where}: {name} is missing"
    for name, one in value.items():
        if name in known:
            yield from _mismatches(document, known[name], one, f"{where}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{where}: {name} is not listed"


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
