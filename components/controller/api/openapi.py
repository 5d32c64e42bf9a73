"""The OpenAPI 3.1 description of every route: paths and methods from the application, the rest from one table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from components.common.version import release
from components.controller.api.openapi_operations import (
    BULK,
    GATEWAY,
    JSON,
    OPEN,
    ROWS,
    SCHEMAS,
    STAGING,
    STATUS,
    TEXT,
    UNASKED,
    Row,
    members,
)
from components.controller.errors import Code

_BASIC = (BULK, STAGING, STATUS)
_UNSAID = {"HEAD", "OPTIONS"}
# Codes of any route: an unreachable database, and unforeseen errors.
_ALWAYS = (Code.DATABASE_ERROR, Code.NO_DATABASE, Code.SYSTEM_ERROR)
# Codes of routes with a token: one that does not suffice, that acts for an unknown user, or that came by HTTP; and too many
# requests.
_ASKED = (Code.FORBIDDEN, Code.USER_NOT_FOUND, Code.HTTPS_REQUIRED, Code.TOO_MANY_REQUESTS)
# Codes of routes with a body: it cannot be understood, it came too slowly, or there was no place for it.
_SENT = (Code.BAD_REQUEST, Code.BUSY, Code.SLOW_BODY)


def describe(app: Flask, host: str) -> dict[str, Any]:
    """Return the whole description.

    Args:
        app: the application; a view that is missing in the table is described by its docstring alone.
        host: of the API.
    """
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda r: r.rule):
        view = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
        row = ROWS.get(rule.endpoint, Row(OPEN, {200: "Object"}))
        path = paths.setdefault(path_of(rule), {})
        for method in sorted((rule.methods or set()) - _UNSAID):
            path[method.lower()] = _operation(rule, method, view, row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ingot", "version": release(), "license": {"name": "Apache-2.0"}},
        "servers": [{"url": f"http://{host}"}],
        "paths": paths,
        "components": {
            "schemas": {name: schema.described() for name, schema in SCHEMAS.items()},
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "AUTHORIZATION",
                    "description": "The word that a login gives, without a scheme.",
                },
                "gateway": {"type": "apiKey", "in": "header", "name": "X-VCAP-Service-Token"},
                **{name: {"type": "http", "scheme": "basic"} for name in _BASIC},
            },
        },
    }


def path_of(rule: Rule) -> str:
    """Return a rule's path in the form of OpenAPI."""
    return "".join(text if literal else f"{{{text}}}" for literal, text in _parts(rule))


def _parts(rule: Rule) -> list[tuple[bool, str]]:
    found = []
    for is_dynamic, text in rule._trace:  # noqa: SLF001 - the library has no public access to a rule's parts
        if text != "|":
            found.append((not is_dynamic, text))
    return found


def _operation(rule: Rule, method: str, doc: str, row: Row) -> dict[str, Any]:
    first, _, rest = doc.partition("\n")
    name = (
        f"{rule.endpoint}.{method.lower()}" if len((rule.methods or set()) - _UNSAID) > 1 else rule.endpoint
    )
    many = rule.endpoint in ("files.files", "services_v1.lifecycle")
    operation: dict[str, Any] = {
        "operationId": f"{name}:{path_of(rule)}" if many else name,
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": first,
        "parameters": [*_path_parameters(rule), *_query_parameters(row.query)],
        "responses": _responses(row, codes_of(rule, method, row)),
        "security": _security(row.auth),
    }
    if rest.strip():
        operation["description"] = rest.strip()
    if method in ("POST", "PUT") and (row.body or row.form):
        kind = "multipart/form-data" if row.form else JSON
        schema = {"type": "object", "properties": members(row.body)}
        operation["requestBody"] = {"content": {kind: {"schema": schema}}}
    return operation


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    numbers = {
        name
        for name, converter in rule._converters.items()  # noqa: SLF001 - as above
        if converter.__class__.__name__ == "IntegerConverter"
    }
    return [
        {
            "name": text,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if text in numbers else "string"},
        }
        for literal, text in _parts(rule)
        if not literal
    ]


def _query_parameters(query: str) -> list[dict[str, Any]]:
    pairs = (word.partition(":") for word in query.split())
    return [{"name": name, "in": "query", "schema": _query_schema(kind)} for name, _, kind in pairs]


def _query_schema(kind: str) -> dict[str, Any]:
    least, dash, most = kind.partition("-")
    if dash and least.isdigit():
        return {"type": "integer", "minimum": int(least), "maximum": int(most)}
    if "|" in kind:
        return {"type": "string", "enum": kind.split("|")}
    shapes: dict[str, dict[str, Any]] = {
        "seconds": {"type": "number", "minimum": 0},
        "index": {"type": "integer", "minimum": 0},
        "flag": {"type": "string", "enum": ["1", "true", "0", "false"]},
        "day": {"type": "string", "format": "date"},
    }
    return shapes.get(kind, {"type": "string"})


def codes_of(rule: Rule, method: str, row: Row) -> set[Code]:
    """Return the error codes with which a route may answer a method."""
    found = {*row.errors, *_ALWAYS}
    if row.auth not in (*_BASIC, UNASKED):
        found.update(_ASKED)
    if method in ("POST", "PUT"):
        found.update(_SENT)
    if row.auth in (BULK, STAGING):
        found.add(Code.FORBIDDEN)
    if "/apps/<name>" in rule.rule:
        found.add(Code.APP_NOT_FOUND)
    # A text in the path that the database does not accept, or a parameter that `/v2` does not know.
    if rule.arguments or rule.rule.startswith("/v2/"):
        found.add(Code.BAD_REQUEST)
    return found


def _responses(row: Row, codes: set[Code]) -> dict[str, Any]:
    found: dict[str, Any] = {str(status): _success(what) for status, what in sorted(row.gives.items())}
    for status in sorted({code.status for code in codes}):
        texts = [f"{code}: {code.text}" for code in sorted(codes) if code.status == status]
        content = found.get(str(status), {}).get("content", {})
        found[str(status)] = {
            "description": "\n".join(texts),
            "content": {**content, JSON: _with_error(content)},
        }
    for code in codes & {Code.BUSY, Code.TOO_MANY_REQUESTS}:
        found[str(code.status)]["headers"] = {
            "Retry-After": {
                "schema": {"type": "integer"},
                "description": "seconds after which to ask again",
            }
        }
    if row.auth in _BASIC:
        found["401"] = {
            "description": "Not that user, or not that password.",
            "content": {TEXT: {"schema": {"type": "string"}}},
        }
    return found


def _with_error(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a success, extended by JSON errors of the same status."""
    error = {"$ref": "#/components/schemas/Error"}
    return {"schema": {"anyOf": [content[JSON]["schema"], error]} if JSON in content else error}


def _success(what: str) -> dict[str, Any]:
    if not what:
        return {"description": "Done."}
    content: dict[str, Any] = {}
    for word in what.split():
        if "/" in word:
            content[word] = {"schema": {"type": "string"}}
        else:
            content[JSON] = {"schema": members(f"x:{word}")["x"]}
    return {"description": "Done.", "content": content}


def _security(auth: str) -> list[dict[str, list[str]]]:
    if auth in (OPEN, UNASKED):
        return []
    name = auth if auth in (*_BASIC, GATEWAY) else "token"
    return [{name: []}]
