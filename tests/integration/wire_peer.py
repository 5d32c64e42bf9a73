"""A peer of 2011 on the bus: raw JSON both ways, without Ingot's structs; and payloads that are no message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from components.common.plain_http import NO_TLS
from tests.support.waiting import until_async

HUGE = 10**40
# Members of every message of protocol 2, each of a wrong type.
WRONG: dict[str, Any] = {
    "droplet": "x", "droplets": 7, "version": ["v"], "instance": {}, "instances": 5, "index": "first", "indices": {"a": 1}, "state": 7,
    "states": "RUNNING", "state_timestamp": "now", "reason": None, "limits": [], "name": 9, "uris": "a.b", "host": 1, "port": "80", "id": [],
    "address": 1, "capacity": 3, "op": {}, "last_updated": "x", "app_id": "x", "properties": [], "download_uri": 5, "upload_uri": [], "plan": 7,
    "credentials": 5, "bindings": "x", "instances_list": 3, "bindings_list": 3, "node_id": 7, "orphan_ins_list": "x",
    "task": 7, "command": [], "start": 7, "dea": 7, "at": "x", "seconds": "y", "evacuating": "yes", "minimumRegisterIntervalInSeconds": "x",
}  # fmt: skip


def _all(value: Any) -> bytes:
    return json.dumps(dict.fromkeys(WRONG, value)).encode()


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "half": b'{"droplet": 1',
    "text": b"hello",
    "every-byte": bytes(range(256)),
    "not-utf-8": b'{"id":"\xff\xfe","name":"\xff","droplet":1}',
    "half-a-pair": b'{"id":"\\ud800","instance":"\\ud800"}',
    "null": b"null",
    "number": b"7",
    "words": b'"droplet"',
    "list": b"[]",
    "list-of-objects": b'[{"droplet":1}]',
    "empty-object": b"{}",
    "not-a-number": b'{"droplet":NaN,"port":Infinity}',
    "wrong-kinds": json.dumps(WRONG).encode(),
    "all-null": _all(None),
    "all-true": _all(True),
    "all-halves": _all(0.5),
    "all-huge": _all(HUGE),
    "all-least": _all(-HUGE),
    "all-endless": _all(1e308),
    "all-words": _all("x"),
    "all-lists": _all([[]]),
    "all-objects": _all({"a": {}}),
    "deep-lists": b"[" * 200_000,
    "deep-objects": b'{"a":' * 200_000,
    "deep-inside": b'{"droplet":1,"x":' + b"[" * 200_000,
    "a-megabyte": b'{"x":"' + b"y" * ((1 << 20) - 10) + b'"}',
    "a-megabyte-of-nothing": bytes((1 << 20) - 2),
    "many-members": json.dumps({f"m{n}": n for n in range(50_000)}).encode(),
}
# Payloads that fit no message at all; the others may fit one or another.
NEVER = (
    "nothing", "half", "text", "every-byte", "null", "number", "words", "list", "list-of-objects", "empty-object", "not-a-number", "wrong-kinds",
    "all-null", "deep-lists", "deep-objects", "deep-inside", "a-megabyte", "a-megabyte-of-nothing", "many-members",
)  # fmt: skip
_MALFORMED = re.compile(r'^ingot_bus_malformed_total\{subject="([^"]+)"\} ([0-9.e+]+)', re.MULTILINE)


class Peer:
    """One connection; `heard` has all its messages, in order."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[tuple[str, Any, bytes]] = []

    async def listen(self, *subjects: str) -> None:
        for subject in subjects:
            await self.client.subscribe(subject, cb=self._hear)
        await self.client.flush()

    async def _hear(self, message: Msg) -> None:
        self.heard.append((message.subject, read(message.data), message.data))

    async def say(self, subject: str, value: object = None) -> None:
        data = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        await self.client.publish(subject, data)
        await self.client.flush()

    async def ask(self, subject: str, value: object = None, timeout: float = 10) -> Any:
        """The first answer."""
        data = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        return read((await self.client.request(subject, data, timeout=timeout)).data)

    async def hears(
        self, subject: str, fits: Callable[[Any], bool] = lambda _: True, since: int = 0, seconds: float = 30
    ) -> Any:
        """Wait for a message of that subject."""

        def there() -> list[Any]:
            return [value for name, value, _ in self.heard[since:] if name == subject and fits(value)]

        return (await until_async(there, subject, seconds=seconds))[0]


def read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


@asynccontextmanager
async def peer_on(url: str, **options: Any) -> AsyncIterator[Peer]:
    client = await nats.connect(url, allow_reconnect=False, **options)
    try:
        yield Peer(client)
    finally:
        with contextlib.suppress(nats.errors.Error):
            await client.close()


async def break_all(peer: Peer, subjects: list[str], metrics: Callable[[], Awaitable[str]]) -> None:
    """Send all malformed payloads to these subjects, and see them counted on each of them.

    `subjects` are those of the contract whose messages have a shape, as the daemon names them; a `*` is sent as `x`.
    """
    before = counted(await metrics())
    await _send(peer, subjects, [BROKEN[name] for name in NEVER])

    async def all_counted() -> bool:
        now = counted(await metrics())
        return all(now.get(s, 0) - before.get(s, 0) >= len(NEVER) for s in subjects)

    await until_async(all_counted, f"counted: {subjects}", seconds=60)
    await _send(peer, subjects, [data for name, data in BROKEN.items() if name not in NEVER])
    after = counted(await metrics())
    # The others have been heard when these two have.
    await _send(peer, subjects, [b"{", b"]"])
    await until_async(lambda: _grown(metrics, after, subjects), f"counted once more: {subjects}", seconds=60)


async def _send(peer: Peer, subjects: list[str], several: list[bytes]) -> None:
    for subject in subjects:
        for data in several:
            await peer.client.publish(subject.replace("*", "x"), data)
        await peer.client.flush()


async def _grown(
    metrics: Callable[[], Awaitable[str]], before: dict[str, float], subjects: list[str]
) -> bool:
    now = counted(await metrics())
    return all(now.get(s, 0) - before.get(s, 0) >= 2 for s in subjects)


def counted(metrics: str) -> dict[str, float]:
    """Return the number of malformed messages that a daemon has dropped, by subject."""
    return {subject: float(number) for subject, number in _MALFORMED.findall(metrics)}


def kinds(value: dict[str, Any]) -> dict[str, str]:
    """Return the members of a message and the types of their values."""
    return {key: type(member).__name__ for key, member in value.items()}


ANNOUNCEMENT = {
    "type": "str",
    "index": "int",
    "uuid": "str",
    "host": "str",
    "credentials": "list",
    "start": "str",
}


async def check_discovery(peer: Peer, type_: str) -> None:
    """Check protocol 2.2: any request is answered, with `uptime` beside the announced members."""
    answer = await peer.ask("vcap.component.discover", b"whatever")
    assert kinds(answer) == {**ANNOUNCEMENT, "uptime": "str"}
    assert answer["type"] == type_
    assert re.fullmatch(rf"{answer['index']}-[0-9a-f]{{32}}", answer["uuid"])
    assert re.fullmatch(r"[^:]+:\d+", answer["host"])
    assert [type(c) for c in answer["credentials"]] == [str, str]
    assert re.fullmatch(r"\d+d:\d+h:\d+m:\d+s", answer["uptime"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", answer["start"])
    status, text = await asyncio.to_thread(_get, f"http://{answer['host']}/healthz", answer["credentials"])
    assert (status, text.strip().lower()) == (200, "ok")
    status, text = await asyncio.to_thread(_get, f"http://{answer['host']}/varz", answer["credentials"])
    varz = json.loads(text)
    assert status == 200
    assert varz.items() >= {k: answer[k] for k in ("type", "index", "uuid")}.items()
    assert {"num_cores", "uptime", "mem", "cpu"} <= varz.keys()


def _get(url: str, credentials: list[str]) -> tuple[int, str]:
    import httpx

    answer = httpx.get(url, auth=(credentials[0], credentials[1]), trust_env=False, timeout=10, verify=NO_TLS)
    return answer.status_code, answer.text


async def get_text(url: str, *credentials: str) -> str:
    """Return a probe's body."""
    return (await asyncio.to_thread(_get, url, list(credentials)))[1]
