"""Every request of the corpus to a real router: its answer, and the part that an application saw.

    python -m tests.bench.bench_hostile_requests [--out build/bench/hostile_requests.json]

Prints a line for each. Fails where an answer differs from the corpus, where an application saw any part of a request that is to be
refused, a whole request where it is to be broken off, or more than one request anywhere.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import http2_frames
from tests.bench.hostile_requests import BROKEN, FORBIDDEN, NAME, NOTHING, ONE, Case, cases
from tests.bench.machine import output
from tests.bench.witness import Witness
from tests.integration.router_rig import Rig, running
from tests.support.ports import free_port
from tests.support.waiting import until

PATIENCE_SECONDS = 20
LIMITS = {"router_header_seconds": 1, "router_body_seconds": 1, "router_body_max": "1m"}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Args:
        heads: requests of which an application saw the beginning.
        whole: those of which it saw the end, too.
        echo: these, as they arrived.
    """

    answer: str
    heads: int
    whole: int
    echo: tuple[bytes, ...] = ()

    def fits(self, case: Case) -> bool:
        """Whether the outcome matches the corpus."""
        allowed = {NOTHING: (0, 0), BROKEN: (1, 0), ONE: (1, 1)}[case.reaches]
        seen = b"".join(self.echo).lower()
        clean = not any(word in seen for word in FORBIDDEN)
        return self.answer == case.answer and (self.heads, self.whole) == allowed and clean


class Target:
    """A router with a witness behind it, plain and by TLS."""

    def __init__(self, rig: Rig, witness: Witness, tls_port: int) -> None:
        self.rig = rig
        self.witness = witness
        self._tls_port = tls_port

    def send(self, case: Case) -> Outcome:
        """Send a case; return its outcome once the router is idle again."""
        witness = self.witness
        heads, whole = len(witness.heads), witness.whole
        answer = self._h2(case) if case.by == "h2" else self._http1(case)
        until(lambda: witness.settled, f"the end of '{case.name}'")
        return Outcome(
            answer, len(witness.heads) - heads, witness.whole - whole, tuple(witness.heads[heads:])
        )

    def _pieces(self, client: socket.socket, case: Case) -> None:
        seen = len(self.witness.heads)
        for number, piece in enumerate(case.pieces):
            if number:
                until(lambda: len(self.witness.heads) > seen, f"an application sees '{case.name}'")
            client.sendall(piece)

    def _http1(self, case: Case) -> str:
        port = self._tls_port if case.by == "tls" else self.rig.port
        got, deadline = b"", time.monotonic() + PATIENCE_SECONDS
        with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
            try:
                self._pieces(client, case)
                while time.monotonic() < deadline and (part := client.recv(65536)):
                    got += part
            except (ConnectionResetError, BrokenPipeError):
                pass
        if got.count(b"HTTP/1.1 ") > 1:
            return "several answers"
        return got.split(b" ", 2)[1].decode() if got.startswith(b"HTTP/") else "closed"

    def _h2(self, case: Case) -> str:
        with http2_frames.connect(self._tls_port, NAME, PATIENCE_SECONDS) as client:
            try:
                self._pieces(client, case)
                return http2_frames.answer(client)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
                return "closed"


@contextmanager
def ready() -> Iterator[Target]:
    """Yield a router, and remove it."""
    with tempfile.TemporaryDirectory() as folder:
        make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=fallback"
        files = ["-keyout", f"{folder}/default.key", "-out", f"{folder}/default.crt"]
        subprocess.run(["openssl", *make.split(), *files], check=True, capture_output=True)
        port = free_port()
        tls = {"router_tls_port": f"127.0.0.1:{port}", "router_certificates_path": folder}
        with running(nginx={**LIMITS, **tls}) as rig:
            witness = Witness()
            try:
                rig.register(witness.port, NAME)
                rig.wait_status(NAME, 200)
                yield Target(rig, witness, port)
            finally:
                witness.stop()


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=output("hostile_requests"))
    arguments = parser.parse_args()
    told = []
    with ready() as target:
        for case in cases():
            outcome = target.send(case)
            fits = outcome.fits(case)
            print(
                f"{'ok  ' if fits else 'FAIL'} {outcome.answer:<18} {case.reaches:<8} {case.name}", flush=True
            )
            told.append(
                {"case": case.name, "fits": fits, **asdict(outcome), "echo": [str(e) for e in outcome.echo]}
            )
    count = {kind: sum(c.reaches == kind for c in cases()) for kind in (NOTHING, BROKEN, ONE)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**count, "cases": told}, indent=1) + "\n")
    print(f"refused {count[NOTHING]}, broken off {count[BROKEN]}, of one meaning {count[ONE]}")
    sys.exit(0 if all(c["fits"] for c in told) else 1)


if __name__ == "__main__":
    main()
