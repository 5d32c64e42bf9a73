"""The table of the wire, continued: `/services/v1`, the broker's call, the bulk API and what a collector asks (protocol 1.14, 1.15)."""

from __future__ import annotations

from typing import Any

from tests.contract.wire_rows import DENIED, UNSAID, V1
from tests.contract.wire_world import BROKER, Row, basic

OFFER = {"label": "redis-7.0", "url": "http://127.0.0.1:9", "plans": ["free"], "active": True}
WISH = {"label": "redis-7.0", "name": "v1", "plan": "free"}
KEPT = {"service_id": "$R2", "configuration": {"c": 1}, "credentials": {"password": "new"}}
LIFECYCLE = f"{V1}/configurations/<name>"


def _as(method: str, rule: str, who: str, case: str, path: str, *answer: Any, **more: Any) -> Row:
    return Row(f"{method} {V1}{rule}", who, case, f"{V1}{path}", *answer, **more)


def _unsaid(method: str, rule: str, path: str) -> list[Row]:
    """What a call of these is that does not say just so that it is JSON."""
    kinds = ("application/json; charset=utf-8", "text/plain", "")
    return [
        _as(method, rule, "U", f"content type {kind!r}", path, 400, 100, b"{}", headers={"Content-Type": kind} if kind else {})
        for kind in kinds
    ]  # fmt: skip


OFFERINGS = [
    *_unsaid("POST", "/offerings", "/offerings"),
    _as("POST", "/offerings", "-", "no token", "/offerings", *DENIED, OFFER),
    _as("POST", "/offerings", "U", "a user's token", "/offerings", *DENIED, OFFER),
    _as("POST", "/offerings", "-", "another token", "/offerings", *DENIED, OFFER, headers={"X-VCAP-Service-Token": "no"}),
    _as("POST", "/offerings", "S", "another vendor", "/offerings", *DENIED, {**OFFER, "label": "mysql-5.1"}),
    _as("POST", "/offerings", "S", "a vendor nobody has", "/offerings", *DENIED, {**OFFER, "label": "neo4j-1.4"}),
    _as("POST", "/offerings", "-", "a vendor nobody has, by the broker", "/offerings", 200, None, {**OFFER, "label": "neo4j-1.4"},
        headers={"X-VCAP-Service-Token": BROKER}, shape=set()),
    *(_as("POST", "/offerings", "S", f"{key} {value!r:.20}", "/offerings", 400, None, {**OFFER, key: value}, shape={"errors"})
      for key, value in (("label", "redis"), ("label", None), ("label", "a b-c"), ("url", "ftp://x"), ("url", 7), ("timeout", "5"), ("timeout", -1), ("timeout", 1 << 31),
                         ("plans", "free"), ("acls", []), ("active", "yes"), ("tags", [1]))),
    _as("POST", "/offerings", "S", "not JSON", "/offerings", 400, 100, b"{", headers={"Content-Type": "application/json"}),
    *_unsaid("GET", "/offerings/<label>", "/offerings/redis-7.0"),
    _as("GET", "/offerings/<label>", "S", "there", "/offerings/redis-7.0", 200,
        shape={"label", "url", "description", "info_url", "tags", "plans", "plan_options", "binding_options", "acls", "active", "timeout"}),
    _as("GET", "/offerings/<label>", "S", "not there", "/offerings/redis-2.2", 404, 500),
    _as("GET", "/offerings/<label>", "-", "no token", "/offerings/redis-7.0", *DENIED),
    *_unsaid("GET", "/offerings/<label>/handles", "/offerings/redis-7.0/handles"),
    _as("GET", "/offerings/<label>/handles", "S", "there", "/offerings/redis-7.0/handles", 200, shape={"handles"}),
    _as("GET", "/offerings/<label>/handles", "S", "not there", "/offerings/redis-2.2/handles", 404, 500),
    _as("GET", "/offerings/<label>/handles", "-", "no token", "/offerings/redis-7.0/handles", *DENIED),
    *_unsaid("POST", "/offerings/<label>/handles/<handle>", "/offerings/redis-7.0/handles/$R2"),
    _as("POST", "/offerings/<label>/handles/<handle>", "S", "an instance", "/offerings/redis-7.0/handles/$R2", 200, None, KEPT, shape=set()),
    _as("POST", "/offerings/<label>/handles/<handle>", "S", "not there", "/offerings/redis-7.0/handles/x", 404, 501, {**KEPT, "service_id": "x"}),
    _as("POST", "/offerings/<label>/handles/<handle>", "S", "not what the path says", "/offerings/redis-7.0/handles/x", 400, None, KEPT, shape={"errors"}),
    _as("POST", "/offerings/<label>/handles/<handle>", "-", "no token", "/offerings/redis-7.0/handles/$R2", *DENIED, KEPT),
    *_unsaid("DELETE", "/offerings/<label>", "/offerings/neo4j-1.4"),
    _as("DELETE", "/offerings/<label>", "S", "another vendor", "/offerings/neo4j-1.4", *DENIED),
    Row("GET /brokered_services/poc/offerings", "-", "the broker", "/brokered_services/poc/offerings", 200, body=UNSAID,
        headers={"X-VCAP-Service-Token": BROKER}, shape={"brokered_services"}),
    Row("GET /brokered_services/poc/offerings", "S", "another token", "/brokered_services/poc/offerings", *DENIED, UNSAID),
    Row("GET /brokered_services/poc/offerings", "-", "no token", "/brokered_services/poc/offerings", *DENIED, UNSAID),
    _as("DELETE", "/offerings/<label>", "-", "by the broker", "/offerings/neo4j-1.4", 200, headers={"X-VCAP-Service-Token": BROKER}, shape=set()),
    _as("DELETE", "/offerings/<label>", "-", "gone", "/offerings/neo4j-1.4", 404, 500, headers={"X-VCAP-Service-Token": BROKER}),
]  # fmt: skip

BINDINGS = [
    *_unsaid("POST", "/configurations", "/configurations"),
    _as("POST", "/configurations", "-", "nobody asks", "/configurations", *DENIED, WISH),
    _as("POST", "/configurations", "O", "no plan", "/configurations", 400, None, {**WISH, "plan": None}, shape={"errors"}),
    _as("POST", "/configurations", "O", "nobody offers it", "/configurations", 404, 500, {**WISH, "label": "mongodb-1.8"}),
    _as("POST", "/configurations", "O", "made", "/configurations", 200, None, WISH, shape={"service_id", "data", "credentials"}),
    *_unsaid("DELETE", "/configurations/<name>", "/configurations/$R2"),
    _as("DELETE", "/configurations/<name>", "-", "nobody asks", "/configurations/$R2", *DENIED),
    _as("DELETE", "/configurations/<name>", "O", "another's", "/configurations/$R2", *DENIED),
    _as("DELETE", "/configurations/<name>", "O", "not there", "/configurations/none", 404, 500),
    *_unsaid("POST", "/bindings", "/bindings"),
    _as("POST", "/bindings", "-", "nobody asks", "/bindings", *DENIED, {"service_id": "$R2", "app_id": "$ENV_ID"}),
    _as("POST", "/bindings", "U", "no application", "/bindings", 400, None, {"service_id": "$R2"}, shape={"errors"}),
    _as("POST", "/bindings", "U", "a number of another kind", "/bindings", 400, None, {"service_id": "$R2", "app_id": "x"}, shape={"errors"}),
    _as("POST", "/bindings", "U", "an application nobody has", "/bindings", 404, 301, {"service_id": "$R2", "app_id": 99999}),
    _as("POST", "/bindings", "O", "another's application", "/bindings", 404, 301, {"service_id": "$R2", "app_id": "$ENV_ID"}),
    _as("POST", "/bindings", "U", "a service nobody has", "/bindings", 404, 500, {"service_id": "x", "app_id": "$ENV_ID"}),
    _as("POST", "/bindings", "U", "made", "/bindings", 200, None, {"service_id": "$R2", "app_id": "$ENV_ID", "binding_options": {}},
        shape={"binding_token", "label"}),
    *_unsaid("DELETE", "/bindings/<text>", "/bindings/x"),
    _as("DELETE", "/bindings/<text>", "U", "not there", "/bindings/x", 404, 501),
    _as("DELETE", "/bindings/<text>", "-", "nobody asks", "/bindings/x", *DENIED),
    *_unsaid("POST", "/bindings/external", "/bindings/external"),
    _as("POST", "/bindings/external", "U", "no token there is", "/bindings/external", 404, 502, {"binding_token": "x", "app_id": "$ENV_ID"}),
    _as("POST", "/bindings/external", "U", "no token", "/bindings/external", 400, None, {"app_id": 1}, shape={"errors"}),
    _as("POST", "/bindings/external", "-", "nobody asks", "/bindings/external", *DENIED, {"binding_token": "x", "app_id": "$ENV_ID"}),
    *_unsaid("POST", "/binding_tokens", "/binding_tokens"),
    _as("POST", "/binding_tokens", "U", "made", "/binding_tokens", 200, None, {"service_id": "$R2", "binding_options": {}}, shape={"label", "binding_token"}),
    _as("POST", "/binding_tokens", "O", "another's", "/binding_tokens", *DENIED, {"service_id": "$R2"}),
    _as("POST", "/binding_tokens", "-", "nobody asks", "/binding_tokens", *DENIED, {"service_id": "$R2"}),
    *_unsaid("GET", "/binding_tokens/<text>", "/binding_tokens/x"),
    _as("GET", "/binding_tokens/<text>", "-", "not there", "/binding_tokens/x", 404, 502),
    *_unsaid("DELETE", "/binding_tokens/<text>", "/binding_tokens/x"),
    _as("DELETE", "/binding_tokens/<text>", "U", "not there", "/binding_tokens/x", 404, 502),
    _as("DELETE", "/binding_tokens/<text>", "-", "nobody asks", "/binding_tokens/x", *DENIED),
    *(Row(f"{method} {LIFECYCLE}/{rule}", who, case, f"{V1}/configurations/$R2/{path}", status, code)
      for rule, path in (("snapshots", "snapshots"), ("snapshots/<path:rest>", "snapshots/1"), ("serialized/<path:rest>", "serialized/url/snapshots/1"),
                         ("jobs/<path:rest>", "jobs/1"))
      for method in ("GET", "POST", "PUT", "DELETE")
      for who, case, status, code in (("U", "not there yet", 501, 505), ("-", "nobody asks", 403, 200))),
]  # fmt: skip

PAGE = {"results", "bulk_token"}
BULK = [
    *(Row(f"GET /bulk/{model}", who, case, f"/bulk/{model}{query}", status, code, UNSAID, headers=more, shape=shape)
      for model in ("apps", "users")
      for who, case, query, status, code, more, shape in (
          ("B", "the first page", "?batch_size=1&bulk_token={}", 200, None, {}, PAGE),
          ("B", "the next page", "?batch_size=1&bulk_token=%7B%22id%22%3A1%7D", 200, None, {}, PAGE),
          ("B", "by default", "", 200, None, {}, PAGE),
          ("B", "behind the last", '?bulk_token={"id":999999}', 200, None, {}, PAGE),
          ("B", "no number", "?batch_size=x", 400, 100, {}, None),
          ("B", "none", "?batch_size=0", 400, 100, {}, None),
          ("B", "less than none", "?batch_size=-5", 400, 100, {}, None),
          ("B", "absurdly many", f"?batch_size={'9' * 30}", 200, None, {}, PAGE),
          ("B", "a token that is not JSON", "?bulk_token=%7B", 400, 100, {}, None),
          ("B", "a token that is no object", "?bulk_token=[1]", 400, 100, {}, None),
          ("B", "a token of another kind", '?bulk_token={"id":[]}', 400, 100, {}, None),
          ("B", "an endless token", '?bulk_token={"id":1e999}', 400, 100, {}, None),
          ("B", "an absurd token", '?bulk_token={"id":' + "9" * 30 + "}", 400, 100, {}, None),
          ("-", "nobody asks", "", 401, None, {}, None),
          ("U", "as a user", "", 401, None, {}, None),
          ("-", "another password", "", 401, None, basic("bulk_api", "no"), None))),
    Row("GET /bulk/counts", "B", "users", "/bulk/counts?model=user", 200, body=UNSAID, shape={"counts"}),
    Row("GET /bulk/counts", "B", "nothing there is", "/bulk/counts?model=x", 200, body=UNSAID, shape={"counts"}),
    Row("GET /bulk/counts", "-", "nobody asks", "/bulk/counts?model=user", 401, body=UNSAID),
    Row("GET /healthz", "-", "alive", "/healthz", 200, body=UNSAID),
    Row("GET /readyz", "-", "no bus", "/readyz", 503, body=UNSAID, shape={"ready", "reasons", "release"}),
    Row("GET /varz", "W", "a collector", "/varz", 200, body=UNSAID),
    Row("GET /varz", "-", "nobody asks", "/varz", 401, body=UNSAID),
    Row("GET /metrics", "W", "a collector", "/metrics", 200, body=UNSAID),
    Row("GET /metrics", "-", "nobody asks", "/metrics", 401, body=UNSAID),
]  # fmt: skip

UNKNOWN = [
    Row(f"{method} unknown", who, f"{path}", path, 404, body=UNSAID)
    for who in ("-", "U")
    for method, path in (
        ("GET", "/nothing"), ("POST", "/info"), ("PUT", "/apps"), ("GET", "/apps/a/b/c"), ("DELETE", "/apps"), ("GET", "/apps/a%2Fb"),
        ("GET", "/staged_droplets/x/y"), ("GET", "/staged_droplets/1/..%2f..%2fetc"), ("GET", "/v2/nothing"),
        ("POST", "/apps/env"), ("PATCH", "/apps/env"),
    )
]  # fmt: skip
