"""Requests on their way in: how far they have come, what they may take, and how slowly they may come."""

from __future__ import annotations

import json

import pytest

from components.controller.errors import SlowError
from components.controller.gunicorn_worker import refusal
from components.controller.requests.arrivals import GATHERED, MAX_HEAD, Arrival, State
from components.controller.requests.insiders import Insiders
from components.controller.requests.thread_limits import GRACE_SECONDS, LEAST_RATE, Held, Paced, Places

HEAD = b"POST /users HTTP/1.1\r\nHost: api\r\n"


def test_a_request_is_there_once_its_last_byte_is() -> None:
    words = HEAD + b"content-length : 5\r\n\r\n12345"
    arrival = Arrival()
    seen = [arrival.take(words[n : n + 1]) for n in range(len(words))]
    assert seen[-6:] == [State.BODY] * 5 + [State.WHOLE]
    assert set(seen[:-6]) == {State.HEAD}
    assert arrival.path == "/users"


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", State.WHOLE),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", State.WHOLE),
        (b"GET / HTTP/1.1\r\n", State.HEAD),
        (HEAD + b"Content-Length: 0\r\n\r\n", State.WHOLE),
        (HEAD + f"Content-Length: {GATHERED}\r\n\r\n".encode(), State.BODY),
        (HEAD + f"Content-Length: {GATHERED + 1}\r\n\r\n".encode(), State.LONG),
        # What is none is for the parser to refuse, at once.
        (HEAD + b"Content-Length: x\r\n\r\n", State.WHOLE),
        (HEAD + b"X-Content-Length: 70000\r\n\r\n", State.WHOLE),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n", State.WHOLE),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", State.WHOLE),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12", State.BODY),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"x" * 80_000, State.LONG),
        (HEAD + b"x" * (MAX_HEAD + 1), State.TOO_LARGE),
        *(
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body, state)
            for body, state in (
                (b"000\r\n\r\n", State.WHOLE),
                (b"5;a=b\r\n12345\r\n0;last\r\n\r\n", State.WHOLE),
                (b"0\r\nX-T: 1\r\n\r\n", State.WHOLE),
                (b"0\r\nX-T: 1\r\n", State.BODY),
                (b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: api\r\n", State.WHOLE),
                # An end within a chunk is none.
                (b"9\r\nab\r\n0\r\n\r\n", State.BODY),
                (b"9\r\nab\r\n0\r\n\r\n\r\n0\r\n\r\n", State.WHOLE),
                (b"x\r\n", State.WHOLE),
                (b"fffff\r\na", State.LONG),
                (b"1\r\na\r\n" * 13_000, State.LONG),
            )
        ),
    ],
)
def test_how_far_a_request_is(words: bytes, state: State) -> None:
    assert Arrival().take(words) is state


@pytest.mark.parametrize(
    "body", [b"0\r\n\r\n", b"5\r\n12345\r\n10\r\n0\r\n\r\n0123456789a\r\n00\r\nX: y\r\n\r\n"]
)
def test_chunks_end_at_their_last_byte_however_they_come(body: bytes) -> None:
    arrival = Arrival()
    words = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body
    seen = [arrival.take(words[n : n + 1]) for n in range(len(words))]
    assert seen[-len(body) - 1 :] == [State.BODY] * len(body) + [State.WHOLE]


def test_fields_are_found_in_heads_alone() -> None:
    arrival = Arrival()
    arrival.take(HEAD + b"Content-Length: 30\r\n\r\n\r\nX-Forwarded-For: 1\r\n")
    assert not arrival.says("x-forwarded-for")
    arrival = Arrival()
    arrival.take(HEAD + b"x-forwarded-FOR: 1\r\n\r\n")
    assert arrival.says("x-forwarded-for")


class Slow:
    """A client that takes a while for each part; the clock is its own."""

    def __init__(self, *parts: tuple[float, bytes]) -> None:
        self.parts = list(parts)
        self.now = 100.0
        self.patience = 0.0

    def settimeout(self, seconds: float) -> None:
        self.patience = seconds

    def recv(self, _size: int) -> bytes:
        seconds, part = self.parts.pop(0)
        if seconds > self.patience:
            self.now += self.patience
            raise TimeoutError
        self.now += seconds
        return part


def paced(client: Slow, places: Places) -> Paced:
    assert places.take()
    made = Paced(client, lambda: client.now)
    made.begin(places)
    return made


def test_who_sends_fast_enough_is_heard_however_long_it_takes() -> None:
    client = Slow(*[(10.0, b"x" * (LEAST_RATE * 10))] * 50)
    reader = paced(client, Places(1))
    for _ in range(50):
        assert reader.recv(1 << 20)
    assert client.now == 600.0


def test_who_sends_too_slowly_is_not() -> None:
    client = Slow(*[(10.0, b"x")] * 50)
    reader = paced(client, Places(1))

    def all_of_it() -> None:
        while reader.recv(1):
            pass

    with pytest.raises(SlowError):
        all_of_it()
    assert client.now <= 100.0 + GRACE_SECONDS + 1


def test_a_place_is_given_back_once_at_the_end_of_the_request() -> None:
    places = Places(1)
    reader = paced(Slow((0, b"a"), (0, b"b")), places)
    assert reader.recv(1) == b"a"
    assert not places.take()
    reader.end()
    reader.end()
    assert places.take()
    assert not places.take()
    with pytest.raises(SlowError):
        reader.recv(1)


def test_who_is_refused_without_a_thread_is_told_as_anyone_is() -> None:
    for state, status, code in ((State.LONG, 503, 104), (State.BODY, 408, 105), (State.TOO_LARGE, 431, None)):
        head, _, body = refusal(state).decode().partition("\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ")
        assert f"Content-Length: {len(body)}" in head
        assert ("Retry-After" in head) is (status == 503)
        assert (json.loads(body)["code"] if body else None) == code


def test_a_quarter_of_the_threads_is_never_held() -> None:
    held = Held.of(16)
    taken = sum(places.take() for places in (held.bodies, held.polls) for _ in range(16))
    assert taken == 12


def test_who_belongs_to_the_platform() -> None:
    heard = {"10.9.0.1"}
    insiders = Insiders(["10.0.0.0/24", "::1"], lambda: heard)
    for peer, known in {
        "10.0.0.7": True, "::ffff:10.0.0.7": True, "::1": True, "10.9.0.1": True, "10.0.1.7": False, "": False, "x": False,
    }.items():  # fmt: skip
        assert insiders.has(peer, forwarded=False) is known, peer
        assert not insiders.has(peer, forwarded=True)
    heard.clear()
    assert not insiders.has("10.9.0.1", forwarded=False)
    assert not insiders.has(None, forwarded=False)
