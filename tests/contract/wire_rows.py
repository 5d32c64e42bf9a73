"""The table of the wire: for every route of protocol 1.3 to 1.16 who may, what is refused, and with which code.

The rows are sent in this order to one controller; `$NAME` is filled by the world (`wire_world`).
"""

from __future__ import annotations

from typing import Any

from tests.bench.zip_writer import Member, write
from tests.contract.vmc_client import ADMIN, body_of
from tests.contract.wire_world import Multipart, Row, basic

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
UNSAID = b""
DENIED, NOBODY = (403, 200), (403, 201)
ZIP = write([Member("app.py")])
V1 = "/services/v1"


def _app(name: object = "new", **changes: Any) -> dict[str, Any]:
    return {**body_of("new", uris=["new.ingot.localhost"]), "name": name, **changes}


def _refused(rule: str, path: str, body: Any = None) -> list[Row]:
    """A user's route asked by nobody."""
    return [Row(rule, "-", "nobody asks", path, *DENIED, body=body)]


INFO = [
    Row("GET /", "-", "a line", "/", 200, body=UNSAID),
    Row("GET /info", "-", "nobody asks", "/info", 200, shape={"name", "build", "support", "version", "description", "allow_debug"}),
    Row("GET /info", "U", "a user asks", "/info", 200,
        shape={"name", "build", "support", "version", "description", "allow_debug", "user", "limits", "usage", "frameworks"}),
    Row("GET /info", "A", "for another", "/info", 200, headers={"PROXY-USER": "a@b.com"}),
    Row("GET /info", "A", "for nobody there is", "/info", *NOBODY, headers={"PROXY-USER": "no@b.com"}),
    Row("GET /info", "U", "for another, as a user", "/info", *DENIED, headers={"PROXY-USER": ADMIN}),
    Row("GET /info/runtimes", "-", "nobody asks", "/info/runtimes", 200),
    Row("GET /info/services", "U", "a user asks", "/info/services", 200, shape={"key-value"}),
    *_refused("GET /info/services", "/info/services"),
]  # fmt: skip

USERS = [
    Row("GET /users", "A", "all", "/users", 200),
    Row("GET /users", "U", "as a user", "/users", *DENIED),
    *_refused("GET /users", "/users"),
    Row("POST /users", "-", "taken", "/users", 400, 100, {"email": "a@b.com", "password": "x"}, says="taken"),
    Row("POST /users", "-", "taken, in capitals", "/users", 400, 100, {"email": "A@B.com", "password": "x"}, says="taken"),
    Row("POST /users", "-", "no address", "/users", 400, 100, {"email": "nobody", "password": "x"}, says="email"),
    Row("POST /users", "-", "an address with a slash", "/users", 400, 100, {"email": "a/b@c.d", "password": "x"}, says="email"),
    Row("POST /users", "-", "an address of 300 letters", "/users", 400, 100, {"email": "a" * 300 + "@b.c", "password": "x"}, says="email"),
    Row("POST /users", "-", "no email", "/users", 400, 100, {"password": "x"}, says="email"),
    Row("POST /users", "-", "no password", "/users", 400, 100, {"email": "x@y.z"}, says="password"),
    Row("POST /users", "-", "a password of another kind", "/users", 400, 100, {"email": "x@y.z", "password": 7}, says="password"),
    Row("POST /users", "-", "not JSON", "/users", 400, 100, b"{", says="JSON"),
    Row("POST /users", "-", "no object", "/users", 400, 100, ["a"], says="object"),
    Row("POST /users", "-", "no content type", "/users", 204, body=b'{"email":"raw@b.com","password":"pw"}'),
    Row("POST /users", "-", "with a stale token", "/users", 204, body={"email": "stale@b.com", "password": "pw"}, headers={"AUTHORIZATION": "$EXPIRED"}),
    Row("GET /users/<path:email>", "U", "oneself, encoded", "/users/a%40b.com", 200, shape={"email"}),
    Row("GET /users/<path:email>", "U", "oneself, raw", "/users/a@b.com", 200, shape={"email"}),
    Row("GET /users/<path:email>", "U", "another", "/users/c%40d.com", *DENIED),
    Row("GET /users/<path:email>", "A", "another", "/users/c%40d.com", 200),
    Row("GET /users/<path:email>", "A", "nobody there is", "/users/no%40b.com", *NOBODY),
    Row("GET /users/<path:email>", "A", "slashes", "/users/a%2F..%2Fb", *NOBODY),
    Row("GET /users/<path:email>", "A", "another alphabet", "/users/%C3%A9%40b.com", *NOBODY),
    *_refused("GET /users/<path:email>", "/users/a%40b.com"),
    Row("PUT /users/<path:email>", "U", "one's own", "/users/a%40b.com", 204, body={"email": "a@b.com", "password": "pw"}),
    Row("PUT /users/<path:email>", "U", "the token stays good", "/users/a@b.com", 204, body={"email": "a@b.com", "password": "pw"}),
    Row("PUT /users/<path:email>", "U", "another's", "/users/c%40d.com", *DENIED, {"email": "a@b.com", "password": "mine"}),
    Row("PUT /users/<path:email>", "U", "no password", "/users/a%40b.com", 400, 100, {"email": "a@b.com"}, says="password"),
    Row("PUT /users/<path:email>", "A", "another's", "/users/gone%40b.com", 204, body={"email": "gone@b.com", "password": "pw"}),
    Row("PUT /users/<path:email>", "A", "nobody there is", "/users/no@b.com", *NOBODY, {"password": "x"}),
    *_refused("PUT /users/<path:email>", "/users/a%40b.com", {"password": "x"}),
    Row("POST /users/<path:email>/tokens", "-", "encoded", "/users/a%40b.com/tokens", 200, body={"password": "pw"}, shape={"token"}),
    Row("POST /users/<path:email>/tokens", "-", "raw, no content type", "/users/a@b.com/tokens", 200, body=b'{"password":"pw"}', shape={"token"}),
    Row("POST /users/<path:email>/tokens", "-", "with a stale token", "/users/a@b.com/tokens", 200, body={"password": "pw"},
        headers={"AUTHORIZATION": "$FOREIGN"}),
    Row("POST /users/<path:email>/tokens", "-", "wrong", "/users/a%40b.com/tokens", *DENIED, {"password": "no"}),
    Row("POST /users/<path:email>/tokens", "-", "none", "/users/a%40b.com/tokens", *DENIED, {}),
    Row("POST /users/<path:email>/tokens", "-", "nobody there is", "/users/no%40b.com/tokens", *DENIED, {"password": "pw"}),
    Row("POST /users/<path:email>/tokens", "U", "another's", "/users/c%40d.com/tokens", *DENIED, {}),
    Row("POST /users/<path:email>/tokens", "A", "another's", "/users/c%40d.com/tokens", 200, body={}, shape={"token"}),
    Row("DELETE /users/<path:email>", "U", "as a user", "/users/gone%40b.com", *DENIED, UNSAID),
    Row("DELETE /users/<path:email>", "-", "nobody asks", "/users/gone%40b.com", *DENIED, UNSAID),
    Row("DELETE /users/<path:email>", "A", "there", "/users/gone%40b.com", 204, body=UNSAID),
    Row("DELETE /users/<path:email>", "A", "gone", "/users/gone%40b.com", *NOBODY, UNSAID),
]  # fmt: skip

TOKENS = [
    Row("GET /apps", "-", f"a token that is {name.lower()}", "/apps", *DENIED, headers={"AUTHORIZATION": f"${name}"})
    for name in ("EXPIRED", "FOREIGN", "CUT", "FLIPPED", "UNSIGNED", "OF_2011", "BEARER", "TWICE", "LONG", "UNKNOWN", "BASIC")
]  # fmt: skip

_NAMES: list[Any] = [
    "",
    " ",
    "a b",
    "a/b",
    "a%2Fb",
    "../a",
    "a.b",
    "caf\u00e9",
    "a\nb",
    "a\n",
    "n" * 256,
    7,
    None,
    True,
    ["a"],
    {},
]
_NO_NUMBERS: list[Any] = ["many", True, [], {}, "", "1" * 5000]
_NO_MEMORY: list[Any] = ["much", False, [64]]
_COUNTS: list[Any] = [-1, 1001, 10**12, -(10**30), "-5"]
_SIZES: list[Any] = [0, -64, 10**9, 10**30, "-1"]
_NO_HOSTS: list[Any] = [
    "a b", "a/b.ingot.localhost", "-a.ingot.localhost", "a..ingot.localhost", "caf\u00e9.ingot.localhost", "a%2eb.ingot.localhost", 7,
    "x" * 64 + ".ingot.localhost", "*.ingot.localhost", "a\n.ingot.localhost", {}, "a@b.ingot.localhost",
]  # fmt: skip
_TAKEN = [
    "theirs.ingot.localhost", "HTTP://Theirs.ingot.localhost:80/", "www.ingot.localhost", "api.ingot.localhost", "ingot.localhost", "ab.ingot.localhost",
    "orchestrator.ingot.localhost", "HTTP://Orchestrator.INGOT.localhost:80/", "status.ingot.localhost",
]  # fmt: skip
_OUTSIDE = ["a.example.com", "aingot.localhost", "ingot.localhost.example.com", "127.0.0.1"]
# What is wrong with a new application; what the answer must name.
WRONG_APPS: list[tuple[str, dict[str, Any], int, int, str]] = [
    *((f"name {name!r:.20}", {"name": name}, 400, 300, "name") for name in _NAMES),
    *((f"instances {n!r:.20}", {"instances": n}, 400, 300, "instances") for n in _COUNTS),
    *((f"instances {n!r:.20}", {"instances": n}, 400, 100, "instances") for n in _NO_NUMBERS),
    *((f"memory {n!r:.20}", {"resources": {"memory": n}}, 400, 300, "resources.memory") for n in _SIZES),
    *((f"memory {n!r:.20}", {"resources": {"memory": n}}, 400, 100, "resources.memory") for n in _NO_MEMORY),
    *((f"uri {u!r:.30}", {"uris": [u]}, 400, 700, "URI") for u in _NO_HOSTS),
    *((f"uri {u!r:.30}", {"uris": [u]}, 400, 701, "reserved") for u in _TAKEN),
    *((f"uri {u!r:.30}", {"uris": [u]}, 403, 702, "External") for u in _OUTSIDE),
    ("three uris", {"uris": ["abc.ingot.localhost", "abd.ingot.localhost", "abe.ingot.localhost"]}, 403, 602, "3"),
    ("uris of another kind", {"uris": "new.ingot.localhost"}, 400, 300, "uris"),
    ("no framework", {"staging": {}}, 400, 308, "framework"),
    ("a framework nobody has", {"staging": {"framework": "cobol"}}, 400, 308, "cobol"),
    ("a framework of another kind", {"staging": {"framework": 7}}, 400, 308, "7"),
    ("a runtime nobody has", {"staging": {"framework": "wsgi", "runtime": "cobol"}}, 400, 307, "cobol"),
    ("a runtime of another framework", {"staging": {"framework": "wsgi", "runtime": "node"}}, 400, 307, "node"),
    ("staging of another kind", {"staging": "wsgi"}, 400, 300, "staging"),
    ("no staging", {"staging": None}, 400, 300, "staging"),
    ("a command of another kind", {"staging": {"framework": "standalone", "runtime": "python3", "command": ["rm"]}}, 400, 300, "command"),
    ("env of another kind", {"env": {"A": "1"}}, 400, 300, "env"),
    ("env without a value", {"env": ["A"]}, 400, 300, "env"),
    ("env with NUL", {"env": ["A=\0"]}, 400, 300, "env"),
    ("env with what is no character", {"env": ["A=\ufffe"]}, 400, 300, "env"),
    ("a variable of 128 KB", {"env": ["A=" + "x" * (131_072 - 2)]}, 400, 300, "128 KB"),
    ("env of 300 KB", {"env": [f"{name}={'x' * 100_000}" for name in "ABC"]}, 400, 300, "256 KB"),
    ("services of another kind", {"services": "r1"}, 400, 300, "services"),
    ("a service nobody has", {"services": ["none"]}, 404, 500, "Service"),
    ("started without bits", {"state": "STARTED"}, 400, 300, "upload"),
    ("started and too large", {"state": "STARTED", "resources": {"memory": 600}}, 403, 600, "512M"),
    ("a debug mode of another kind", {"debug": {"a": 1}}, 400, 300, "debug"),
    ("a console of another kind", {"console": "yes"}, 400, 300, "console"),
    ("meta of 100 KB", {"meta": {"note": "x" * 100_000}}, 400, 300, "meta"),
    ("a version of a new one", {"meta": {"version": 7}}, 400, 102, "meta.version"),
]  # fmt: skip

APPS = [
    *(Row("POST /apps", "U", case, "/apps", status, code, _app(**change), says=says) for case, change, status, code, says in WRONG_APPS),
    Row("POST /apps", "U", "not JSON", "/apps", 400, 100, b"name=new", says="JSON"),
    Row("POST /apps", "U", "no object", "/apps", 400, 100, [1], says="object"),
    Row("POST /apps", "U", "not a number", "/apps", 400, 100, b'{"name":"new","instances":NaN}', says="JSON"),
    Row("POST /apps", "U", "half a surrogate pair", "/apps", 400, 100, b'{"name":"new","env":["A=\\ud800"]}', says="JSON"),
    Row("POST /apps", "U", "not UTF-8", "/apps", 400, 100, b'{"name":"caf\xe9"}', says="JSON"),
    Row("POST /apps", "U", "very deep", "/apps", 400, 100, b'{"a":' * 50_000, says="JSON"),
    Row("POST /apps", "U", "very large", "/apps", 400, 100, b'{"name":"' + b"n" * (33 << 20) + b'"}', says="1 MB"),
    Row("POST /apps", "U", "there already", "/apps", 400, 300, _app("env", uris=[]), says="env"),
    Row("POST /apps", "U", "members nobody knows", "/apps", 302, body=_app("odd", uris=[], colour="red", meta={"note": [1]}), shape={"result", "redirect"}),
    Row("POST /apps", "U", "a framework's old name", "/apps", 302,
        body=_app("old", uris=[], staging={"framework": "http://b20nine.com/unknown", "runtime": None})),
    Row("POST /apps", "U", "the last there is room for", "/apps", 302, body=b'{"name":"last","staging":{"model":"node","stack":null}}'),
    Row("POST /apps", "U", "one too many", "/apps", 403, 601, _app(), says="6"),
    *_refused("POST /apps", "/apps", _app()),
    Row("GET /apps", "U", "all", "/apps", 200),
    *_refused("GET /apps", "/apps"),
    Row("GET /apps/<name>", "U", "one's own", "/apps/env", 200,
        shape={"name", "staging", "uris", "instances", "runningInstances", "resources", "state", "services", "version", "env", "meta"}),
    Row("GET /apps/<name>", "U", "one's own, encoded", "/apps/%65nv", 200),
    Row("GET /apps/<name>", "U", "another's", "/apps/theirs", 404, 301),
    Row("GET /apps/<name>", "A", "a user's", "/apps/env", 404, 301),
    Row("GET /apps/<name>", "A", "a user's, for them", "/apps/env", 200, headers={"PROXY-USER": "a@b.com"}),
    Row("GET /apps/<name>", "U", "another alphabet", "/apps/caf%C3%A9", 404, 301),
    Row("GET /apps/<name>", "U", "up", "/apps/%2E%2E", 404, 301),
    Row("GET /apps/<name>", "U", "no UTF-8", "/apps/%FF", 404, 301),
    *_refused("GET /apps/<name>", "/apps/env"),
    Row("PUT /apps/<name>", "U", "another's", "/apps/theirs", 404, 301, {"instances": 2}),
    Row("PUT /apps/<name>", "U", "not the version", "/apps/env", 400, 102, {"services": ["r1"], "meta": {"version": 1}}, says="meta.version"),
    Row("PUT /apps/<name>", "U", "a version of another kind", "/apps/env", 400, 100, {"meta": {"version": "x"}}, says="meta.version"),
    *(Row("PUT /apps/<name>", "U", case, "/apps/env", status, code, {"services": ["r1"], **change}, says=says)
      for case, change, status, code, says in WRONG_APPS if not set(change) & {"name", "meta"} and change.get("staging", 1) and "bits" not in case),
    Row("PUT /apps/<name>", "U", "a debug mode", "/apps/env", 400, 309, {"state": "STARTED", "debug": "run", "services": ["r1"]}, says="run"),
    Row("PUT /apps/<name>", "U", "started, and no DEA", "/apps/env", 404, 302, {"state": "started", "services": ["r1"]}),
    Row("PUT /apps/<name>", "U", "no state there is", "/apps/env", 200, body={"state": "FLYING", "services": ["r1"]}),
    Row("PUT /apps/<name>", "U", "nothing", "/apps/odd", 200, body=UNSAID),
    Row("PUT /apps/<name>", "U", "by a form", "/apps/env", 400, 100, b"_method=put", headers=FORM, says="JSON"),
    *_refused("PUT /apps/<name>", "/apps/env", {}),
    *(Row(f"GET /apps/<name>/{part}", who, case, f"/apps/{app}/{part}", status, code)
      for part in ("instances", "stats", "crashes", "update", "application")
      for who, case, app, status, code in (("-", "nobody asks", "env", 403, 200), ("U", "another's", "theirs", 404, 301))),
    Row("GET /apps/<name>/instances", "U", "stopped", "/apps/env/instances", 200, shape={"instances"}),
    Row("GET /apps/<name>/stats", "U", "stopped", "/apps/env/stats", 200, shape=set()),
    Row("GET /apps/<name>/crashes", "U", "stopped", "/apps/env/crashes", 200, shape={"crashes"}),
    Row("GET /apps/<name>/update", "U", "stopped", "/apps/env/update", 200, shape={"state", "since"}),
    Row("GET /apps/<name>/application", "U", "there", "/apps/env/application", 200),
    Row("GET /apps/<name>/application", "U", "nothing uploaded", "/apps/odd/application", 404, 301),
    Row("PUT /apps/<name>/update", "U", "stopped", "/apps/env/update", 400, 305, {}),
    Row("PUT /apps/<name>/update", "U", "not the version", "/apps/run/update", 400, 102, {"meta": {"version": 99}}),
    Row("PUT /apps/<name>/update", "U", "another's", "/apps/theirs/update", 404, 301, {}),
    *_refused("PUT /apps/<name>/update", "/apps/env/update", {}),
    Row("DELETE /apps/<name>", "U", "another's", "/apps/theirs", 404, 301, UNSAID),
    Row("DELETE /apps/<name>", "-", "nobody asks", "/apps/gone", *DENIED, UNSAID),
    Row("DELETE /apps/<name>", "U", "one's own", "/apps/gone", 200, body=UNSAID),
    Row("DELETE /apps/<name>", "U", "gone", "/apps/gone", 404, 301, UNSAID),
]  # fmt: skip

FILES = "GET /apps/<name>/instances/<instance>/files"
ANY = f"{FILES}/<any_path:path>"
UPLOAD = "POST /apps/<name>/application"
BITS = [
    Row(UPLOAD, "U", "as clients send it", "/apps/env/application", 200, body=Multipart(ZIP)),
    Row(UPLOAD, "U", "nothing to send", "/apps/env/application", 200, body=Multipart(None)),
    Row(UPLOAD, "U", "by a form", "/apps/env/application", 200, body=b"_method=put&resources=%5B%5D", headers=FORM),
    Row("PUT /apps/<name>/application", "U", "in so many words", "/apps/env/application", 200, body=b"resources=[]", headers=FORM),
    Row(UPLOAD, "U", "no resources", "/apps/env/application", 400, 100, Multipart(ZIP, None), says="resources"),
    Row(UPLOAD, "U", "resources that are not JSON", "/apps/env/application", 400, 100, Multipart(ZIP, "{"), says="resources"),
    Row(UPLOAD, "U", "a blank name", "/apps/env/application", 500, 111, Multipart(None, '[{"fn":"","sha1":"x","size":1}]'), says="fn"),
    Row(UPLOAD, "U", "an absolute name", "/apps/env/application", 500, 111, Multipart(None, '[{"fn":"/a","sha1":"x","size":1}]'), says="/a"),
    Row(UPLOAD, "U", "a name that leaves", "/apps/env/application", 500, 402, Multipart(None, '[{"fn":"../a","sha1":"x","size":1}]'), says="../a"),
    Row(UPLOAD, "U", "what the pool has not", "/apps/env/application", 400, 401, Multipart(None, '[{"fn":"a","sha1":"x","size":1}]'), says="a"),
    Row(UPLOAD, "U", "no zip", "/apps/env/application", 500, 402, Multipart(b"hello"), says="zip"),
    Row(UPLOAD, "U", "larger than may be", "/apps/env/application", 500, 402, Multipart(write([Member("a", bytes(5 << 20))])), says="larger"),
    Row(UPLOAD, "U", "a part without a file name", "/apps/env/application", 400, 100, b"_method=put&resources=[]&application=x", headers=FORM,
        says="application"),
    Row(UPLOAD, "U", "another's", "/apps/theirs/application", 404, 301, Multipart(ZIP)),
    Row(UPLOAD, "-", "nobody asks", "/apps/env/application", *DENIED, Multipart(ZIP)),
    Row("PUT /apps/<name>/application", "-", "nobody asks", "/apps/env/application", *DENIED, b"resources=[]", headers=FORM),
    Row("POST /resources", "U", "none known", "/resources", 200, body=[{"size": 1, "sha1": "f" * 40, "fn": "/tmp/x"}], shape=[]),
    Row("POST /resources", "U", "absurd ones", "/resources", 200, shape=[],
        body=[7, None, {}, {"size": -1, "sha1": "f" * 40}, {"size": 10**40, "sha1": []}, {"sha1": "../../x", "size": True}]),
    Row("POST /resources", "U", "no list", "/resources", 200, body={"a": 1}, shape=[]),
    Row("POST /resources", "U", "not JSON", "/resources", 400, 100, b"[", says="JSON"),
    *_refused("POST /resources", "/resources", []),
    Row(FILES, "U", "stopped", "/apps/env/instances/0/files", 400, 305),
    Row(ANY, "U", "stopped", "/apps/env/instances/0/files/%2Flogs%2Fstdout.log", 400, 305),
    *(Row(ANY, "U", f"no DEA for {path}", f"/apps/run/instances/0/files/{path}", 500, 306)
      for path in ("%2Flogs%2Fstdout.log", "logs/stdout.log", "logs%2Fstdout.log", "%2F", "..%2F..%2Fetc%2Fpasswd")),
    Row(ANY, "U", "out of range", "/apps/run/instances/1/files/logs", 400, 304, says="1"),
    Row(ANY, "U", "far out of range", "/apps/run/instances/9999999999/files/logs", 400, 304),
    *(Row(ANY, "U", f"a number that is none: {name}", f"/apps/run/instances/{text}/files/logs", 500, 306)
      for name, text in (("superscript", "%C2%B2"), ("Arabic", "%D9%A3"), ("5000 digits", "9" * 5000))),
    Row(ANY, "U", "an id nobody has", f"/apps/run/instances/{'a' * 32}/files/logs", 500, 306),
    Row(ANY, "U", "another's", "/apps/theirs/instances/0/files/logs", 404, 301),
    Row(ANY, "U", "never staged", "/apps/odd/instances/0/files/logs/staging.log", 404),
    *_refused(FILES, "/apps/env/instances/0/files"),
    *_refused(ANY, "/apps/env/instances/0/files/logs"),
    Row("GET /staged_droplets/<int:app_id>/<digest>", "-", "there", "/staged_droplets/$RUN_ID/$DROPLET", 200, body=UNSAID),
    Row("GET /staged_droplets/<int:app_id>/<digest>", "-", "another digest", f"/staged_droplets/$RUN_ID/{'e' * 40}", 404, 301, UNSAID),
    Row("GET /staged_droplets/<int:app_id>/<digest>", "-", "another application", "/staged_droplets/$ENV_ID/$DROPLET", 404, 301, UNSAID),
    Row("GET /staged_droplets/<int:app_id>/<digest>", "-", "no digest", "/staged_droplets/$RUN_ID/None", 404, 301, UNSAID),
    Row("GET /staging/app/<int:app_id>", "T", "there", "/staging/app/$ENV_ID", 200, body=UNSAID),
    Row("GET /staging/app/<int:app_id>", "T", "nobody has it", "/staging/app/99999", 404, 301, UNSAID),
    Row("GET /staging/app/<int:app_id>", "T", "an absurd number", f"/staging/app/{'9' * 40}", 404, 301, UNSAID),
    Row("GET /staging/app/<int:app_id>", "U", "as a user", "/staging/app/$ENV_ID", 401, body=UNSAID),
    Row("GET /staging/app/<int:app_id>", "-", "another password", "/staging/app/$ENV_ID", 401, body=UNSAID, headers=basic("staging", "x")),
    Row("POST /staging/droplet/<int:app_id>/<upload_id>", "T", "not expected", "/staging/droplet/$ENV_ID/no", 400, 100, UNSAID),
    Row("POST /staging/droplet/<int:app_id>/<upload_id>", "T", "of another application", "/staging/droplet/$RUN_ID/upload", 400, 100, UNSAID),
    Row("POST /staging/droplet/<int:app_id>/<upload_id>", "T", "no droplet", "/staging/droplet/$ENV_ID/upload", 400, 100, UNSAID, says="upload[droplet]"),
    Row("POST /staging/droplet/<int:app_id>/<upload_id>", "T", "the droplet", "/staging/droplet/$ENV_ID/upload", 200,
        body=b'--7\r\nContent-Disposition: form-data; name="upload[droplet]"; filename="d.tgz"\r\n\r\nx\r\n--7--\r\n',
        headers={"Content-Type": "multipart/form-data; boundary=7"}),
    Row("POST /staging/droplet/<int:app_id>/<upload_id>", "T", "once more", "/staging/droplet/$ENV_ID/upload", 400, 100, UNSAID),
    Row("POST /staging/droplet/<int:app_id>/<upload_id>", "-", "nobody asks", "/staging/droplet/$ENV_ID/upload", 401, body=UNSAID),
]  # fmt: skip

WISH = {"type": "key-value", "vendor": "redis", "version": "7.0", "tier": "free", "name": "r3"}
SERVICES = [
    Row("GET /services", "U", "all", "/services", 200),
    *_refused("GET /services", "/services"),
    *(Row("POST /services", "U", f"{key} {value!r}", "/services", 400, None, {**WISH, key: value}, shape={"description"})
      for key, value in (("name", None), ("name", 7), ("name", ""), ("name", "a/b"), ("name", "r1"), ("vendor", None), ("tier", "gold"), ("version", []))),
    Row("POST /services", "U", "a vendor nobody offers", "/services", 404, 500, {**WISH, "vendor": "mysql"}),
    Row("POST /services", "U", "not JSON", "/services", 400, 100, b"{"),
    Row("POST /services", "U", "made", "/services", 200, body=WISH, shape=set()),
    Row("POST /services", "U", "no content type", "/services", 200, shape=set(),
        body=b'{"type":"key-value","vendor":"redis","version":"2.2","tier":"free","name":"r4"}'),
    Row("POST /services", "U", "one too many", "/services", 403, 504, {**WISH, "name": "r5"}, says="4"),
    *_refused("POST /services", "/services", WISH),
    Row("GET /services/<alias>", "U", "one's own", "/services/r1", 200, shape={"name", "type", "vendor", "version", "tier", "properties", "meta"}),
    Row("GET /services/<alias>", "O", "another's", "/services/r1", 404, 500),
    *_refused("GET /services/<alias>", "/services/r1"),
    Row("DELETE /services/<alias>", "O", "another's", "/services/r1", 404, 500, UNSAID),
    Row("DELETE /services/<alias>", "U", "one's own", "/services/r3", 200, body=UNSAID, shape=set()),
    Row("DELETE /services/<alias>", "U", "gone", "/services/r3", 404, 500, UNSAID),
    *_refused("DELETE /services/<alias>", "/services/r1"),
    Row("POST /services/<label>/tokens", "-", "the stub", "/services/redis-7.0/tokens", 200, body={}, shape={"error"}),
    Row("DELETE /services/<label>/tokens", "-", "the stub", "/services/redis-7.0/tokens", 200, shape={"error"}),
]  # fmt: skip
