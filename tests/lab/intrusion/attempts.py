"""What an attempt is. Tables of them are data: to add one is to write a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

APPLICATION, BUILD, TASK, ANONYMOUS, TENANT = "application", "build", "task", "anonymous", "tenant"
DEA, STAGER, ROUTER = "bus: dea", "bus: stager", "bus: router"
GUESTS = (APPLICATION, BUILD, TASK)
REFUSED = frozenset({400, 401, 403, 404, 405, 409, 411, 413, 415, 422, 429})


@dataclass(frozen=True, slots=True)
class Guest:
    """Code of a guest, carried out by `probe.py` where the guest runs.

    Attributes:
        who: which guest.
        name: of the attempt, no two alike.
        code: a Python expression over the functions of `probe.py` and the facts `F`. What it raises is a refusal, and so is what is
            false; what is true has got through.
        seconds: it may take; longer is a refusal, as nothing came of it.
        alone: in a one-off task of its own, which may be ended for it: that is a refusal.
    """

    who: str
    name: str
    code: str
    seconds: float = 8
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Web:
    """A request through the front door. `$name` in path, body and headers is a fact of the stage.

    Attributes:
        refused: the statuses that are a refusal.
        says: a text that the answer must hold beside.
        lacks: a text that the answer must not hold, whatever its status; where it is given, the status does not count.
        to: the label of the host before the platform's domain.
        times: how often it is asked; the last answer counts.
    """

    who: str
    name: str
    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: frozenset[int] = REFUSED
    says: str = ""
    lacks: str = ""
    to: str = "api"
    times: int = 1
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """A connection from outside of the platform to a port of a machine; one that is made has got through."""

    who: str
    name: str
    machine: str
    port: int
    version: int = 4


@dataclass(frozen=True, slots=True)
class Bus:
    """What a holder of a password of the bus says to the server; without an error from the server it has got through."""

    who: str
    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What takes more than one act; `act` is a function of `steps.py`, which returns what got through, or nothing."""

    who: str
    name: str
    act: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a holder of a password of the bus can still do, and why; not tried, and told in `docs/security.md`."""

    who: str
    name: str
    reason: str


Attempt = Guest | Web | Reach | Bus | Step


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, and by what one saw it."""

    attempt: Attempt
    refused: bool
    said: str
