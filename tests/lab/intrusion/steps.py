"""Attempts of more than one act. Each returns what got through, or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.lab.conftest import DOMAIN
from tests.lab.intrusion.clients import upload
from tests.lab.intrusion.stage import SECRET, TENANT, THIRD, VICTIM, Stage, archive

_SLOW_CLIENTS = 200
# More than an address may at once: controller_address_logins_per_minute.
_GUESSES = 400
_FOREIGN = "foreign"
# Of 16 to 64 kinds, as many as hold some 128 bits.
_RANDOM_LETTERS = 22
# An application that the tenant makes to put something into it.
_LOOT = {
    "name": "loot",
    "staging": {"framework": "wsgi"},
    "uris": [],
    "instances": 1,
    "resources": {"memory": 64},
}


def stolen_resource(stage: Stage) -> str:
    """An upload names a file of the victim's by its digest, and does not have it."""
    token, facts = stage.tokens[TENANT], stage.facts
    stage.ask("POST", "/apps", _LOOT, token=token)
    named = [{"sha1": facts["secret_sha1"], "size": facts["secret_size"], "fn": "stolen.txt"}]
    content, headers = upload(archive({"wsgi.py": "application = None\n"}), named)
    stage.ask("POST", "/apps/loot/application", content=content, headers=headers, token=token)
    bits = stage.ask("GET", "/apps/loot/application", token=token)
    stage.ask("DELETE", "/apps/loot", token=token)
    return "the package holds the file" if "stolen.txt" in bits.text or SECRET.decode() in bits.text else ""


def reserved_environment(stage: Stage) -> str:
    """Names of the platform's own variables."""
    token = stage.tokens[TENANT]
    now = stage.must("GET", "/apps/own", token=token)
    names = ["VCAP_SERVICES", "vcap_application", "VMC_APP_PORT"]
    stage.ask("PUT", "/apps/own", {**now, "env": [f"{n}=forged" for n in names]}, token=token)
    kept = stage.must("GET", "/apps/own", token=token)
    stage.ask("PUT", "/apps/own", {**kept, "env": []}, token=token)
    return f"kept: {kept['env']}" if any("forged" in entry for entry in kept["env"]) else ""


def voided_token(stage: Stage) -> str:
    """A token from before all were voided."""
    token = stage.log_in(THIRD, "third's password")
    stage.must("DELETE", f"/v2/users/{THIRD}/tokens", token=token)
    answer = stage.ask("GET", "/v2/me", token=token)
    return "" if answer.status in (401, 403) else f"{answer.status} {answer.text[:80]}"


def forged_token(stage: Stage) -> str:
    """A token of one's own with another's email, and one with a changed byte."""
    token = stage.tokens[TENANT]
    with_name = token.replace(TENANT.encode().hex(), VICTIM.encode().hex())
    middle = len(token) // 2
    changed = token[:middle] + ("0" if token[middle] != "0" else "1") + token[middle + 1 :]
    for forged in {with_name, changed} - {token}:
        answer = stage.ask("GET", "/v2/me", token=forged)
        if answer.status not in (400, 401, 403):
            return f"{answer.status} {answer.text[:80]}"
    return ""


def squatting(stage: Stage) -> str:
    """Binds the ports that its DEA hands out next, and listens while a neighbour starts on one."""
    token = stage.tokens[VICTIM]
    stage.ask("GET", "/squat", to="own")
    time.sleep(1)
    try:
        stage.scale("victim", token, 6)
        time.sleep(0.4)
        stage.ask("GET", "/listen", to="own")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if "SQUATTER" in stage.ask("GET", "/", to="victim").text:
                return "a request to the victim was answered by the neighbour"
            time.sleep(0.05)
    finally:
        stage.scale("victim", token, 2)
    return ""


def filled_share(stage: Stage) -> str:
    """Uploads what nobody has for one application after the other: two gigabytes, of which the account may keep one."""
    token, admin = stage.tokens[TENANT], stage.tokens["admin"]
    stage.must("PUT", f"/v2/users/{TENANT}/quota", {"storage": 1024}, token=admin)
    names = [f"loot{number}" for number in range(8)]
    try:
        for name in names:
            stage.must("POST", "/apps", {**_LOOT, "name": name}, token=token)
            content, headers = upload(
                archive({"wsgi.py": "", "random": os.urandom(250 << 20)}, zipfile.ZIP_STORED)
            )
            answer = stage.ask(
                "POST",
                f"/apps/{name}/application",
                content=content,
                headers=headers,
                token=token,
                seconds=120,
            )
            if not 200 <= answer.status < 400:
                storage = "Not enough storage" in answer.text
                return "" if storage else f"refused for another reason: {answer.status} {answer.text[:80]}"
    finally:
        for name in names:
            stage.ask("DELETE", f"/apps/{name}", token=token)
        stage.must("PUT", f"/v2/users/{TENANT}/quota", {"storage": None}, token=admin)
    return "2000 MB of an account that may keep 1024 are on the share"


def slow_bodies(stage: Stage) -> str:
    """Hundreds of bodies that do not come."""
    head = f"POST /users/a@b.c/tokens HTTP/1.1\r\nHost: api.{DOMAIN}\r\nContent-Length: 20000\r\n\r\nx"
    with _held(stage, head):
        answer = stage.ask("GET", "/info", seconds=5)
    return "" if answer.status == 200 else f"the API does not answer within 5 s: {answer.text}"


def slow_headers(stage: Stage) -> str:
    """Hundreds of requests that do not come."""
    with _held(stage, f"GET / HTTP/1.1\r\nHost: victim.{DOMAIN}\r\nX-Slow: "):
        answer = stage.ask("GET", "/", to="victim", seconds=5)
    return (
        ""
        if answer.status == 200
        else f"the victim does not answer within 5 s: {answer.status} {answer.text}"
    )


@contextlib.contextmanager
def _held(stage: Stage, text: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(_SLOW_CLIENTS):
            with contextlib.suppress(OSError):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", stage.platform.port), 5))
                sock.sendall(text.encode())
        time.sleep(2)
        yield


def smuggled(stage: Stage) -> str:
    """Two lengths in one request, which two programs may read in two ways."""
    text = (
        f"POST / HTTP/1.1\r\nHost: victim.{DOMAIN}\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: victim.{DOMAIN}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stage.platform.port), 5) as sock:
        sock.sendall(text.encode())
        sock.settimeout(5)
        said = b""
        with contextlib.suppress(TimeoutError):
            while data := sock.recv(65536):
                said += data
    return "the router answered a request within a request" if b"/smuggled" in said else ""


def sprayed_logins(stage: Stage) -> str:
    """One guess for each of many accounts."""
    wish = {"password": "guess"}
    paths = [f"/users/guess{number}@example.com/tokens" for number in range(_GUESSES)]
    return _unlimited(stage, [(path, wish) for path in paths])


def registered_endlessly(stage: Stage) -> str:
    """One account after the other, by nobody."""
    emails = [f"endless{time.time_ns()}{number}@example.com" for number in range(_GUESSES)]
    return _unlimited(stage, [("/users", {"email": email, "password": "long enough"}) for email in emails])


def _unlimited(stage: Stage, asked: list[tuple[str, dict[str, str]]]) -> str:
    """Give how often one could ask, faster than a limit by the minute gives way; nothing where a limit took hold."""
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda ask: stage.ask("POST", *ask).status, asked))
    limited = 429 in statuses or set(statuses) == {403}
    return "" if limited else f"{len(asked)} within a short time: {sorted(set(statuses))}"


def _register(stage: Stage, host: str, address: str, port: int) -> None:
    body = {"host": address, "port": port, "uris": [host], "app": 1, "tags": {}}
    given = {"user": "dea", "messages": [("router.register", json.dumps(body))]}
    stage.on_bus("publish", json.dumps(given))


def _unknown(stage: Stage, label: str) -> str:
    """Give what a host that nobody serves is answered with, other than that it is unknown; it is asked for a while."""
    end = time.monotonic() + 4
    while time.monotonic() < end:
        answer = stage.ask("GET", "/", to=label)
        if answer.status != 404:
            return f"the route was taken: {answer.status}"
        time.sleep(0.2)
    return ""


def foreign_route(stage: Stage) -> str:
    """A route to an address that is no DEA's, of a new host and of the victim's."""
    _register(stage, f"{_FOREIGN}.{DOMAIN}", stage.facts["gateway"], 9)
    _register(stage, f"victim.{DOMAIN}", stage.facts["machines"]["core1"], 9071)
    answers = [stage.ask("GET", "/", to="victim") for _ in range(30)]
    strange = [a.status for a in answers if "VICTIM" not in a.text]
    return _unknown(stage, _FOREIGN) or (
        f"the victim's requests were answered by others: {strange}" if strange else ""
    )


def foreign_api_route(stage: Stage) -> str:
    """A route of the API, at a DEA's address."""
    _register(stage, f"api.{DOMAIN}", stage.facts["machines"]["dea1"], 9)
    statuses = [stage.ask("GET", "/info").status for _ in range(30)]
    return "" if set(statuses) == {200} else f"the API answers {statuses}"


def foreign_wildcard(stage: Stage) -> str:
    """A route of all hosts."""
    _register(stage, f"*.{DOMAIN}", stage.facts["gateway"], 9)
    return _unknown(stage, "whatever")


def loopback_route(stage: Stage) -> str:
    """A route to the router's own probes."""
    _register(stage, f"inside.{DOMAIN}", "127.0.0.1", 9031)
    return _unknown(stage, "inside")


_JUNK = (
    "",
    "{",
    "null",
    "[]",
    '{"droplet":"x"}',
    '{"id":null}',
    "[" * 2000,
    "x" * 2000,
    '{"droplets":{"a":-1}}',
    '{"host":[],"port":{},"uris":7}',
)
_SPOKEN = (
    "router.register", "router.unregister", "router.greet", "dea.start", "dea.heartbeat", "dea.advertise", "droplet.exited", "ingot.dea.beat",
    "ingot.dea.usage", "ingot.task.ended", "vcap.component.announce",
)  # fmt: skip


def malformed_messages(stage: Stage) -> str:
    """Everything that a DEA may say, said wrongly."""
    messages = [(subject, body) for subject in _SPOKEN for body in _JUNK]
    stage.on_bus("publish", json.dumps({"user": "dea", "messages": messages}))
    time.sleep(2)
    shown = stage.ask("GET", "/v2/machines", token=stage.tokens["admin"])
    if shown.status != 200 or not [m for m in shown.json()["machines"] if m["state"] == "up"]:
        return f"the controllers have lost the pool: {shown.text[:120]}"
    return "" if "VICTIM" in stage.ask("GET", "/", to="victim").text else "the routers have lost the victim"


def reply_elsewhere(stage: Stage) -> str:
    """A question to the routers whose answer would be a message to all DEAs."""
    given = {
        "user": "dea",
        "subjects": ["dea.stop"],
        "lines": ["PUB router.greet dea.stop 0", ""],
        "seconds": 3,
    }
    heard = stage.on_bus("overhear", json.dumps(given))
    return f"a router said: {heard[:120]}" if "MSG dea.stop" in heard else ""


def guessed_inbox(stage: Stage) -> str:
    """From where controllers ask, the next place is guessed."""
    token = stage.tokens[VICTIM]
    given = {"user": "dea", "subjects": ["dea.find.droplet"], "lines": [], "seconds": 8}
    with ThreadPoolExecutor(1) as pool:
        hearing = pool.submit(stage.on_bus, "overhear", json.dumps(given))
        while not hearing.done():
            stage.ask("GET", "/apps/victim/stats", token=token)
        inboxes = re.findall(r"MSG dea\.find\.droplet 1 (\S+)", hearing.result())
    names = [inbox.rpartition(".")[2] for inbox in inboxes]
    if len(names) < 2:
        return "no question was heard"
    guessable = len({name[:8] for name in names}) < len(set(names)) or min(map(len, names)) < _RANDOM_LETTERS
    return f"places can be guessed: {names[:3]}" if guessable else ""
