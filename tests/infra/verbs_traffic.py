"""Light traffic while a verb works: asks again and again through a router, and counts what failed.

verbs_traffic.py begin FOLDER ROUTER   asks `hello` and the API in the background, from now on
verbs_traffic.py end FOLDER            ends that; prints and keeps `{"asked", "failed", "reasons", "instances", "seconds"}` in traffic.json
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from components.common.plain_http import NO_TLS

DOMAIN = "ingot.localhost"
# Hosts and paths, each asked by a thread of its own; a new connection each time, as strangers come.
ASKED = (("hello", "/"), ("hello", "/slow/0.3"), ("api", "/info"))
PAUSE = 0.1
PIDS, REPORT = "traffic.pid", "traffic.json"
KEPT_REASONS = 20


class Traffic:
    """What was asked, and what came back."""

    def __init__(self, router: str) -> None:
        self._router = router
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._instances: Counter[str] = Counter()
        self._reasons: list[str] = []

    def run(self) -> dict[str, object]:
        """Ask until SIGTERM; give the report."""
        signal.signal(signal.SIGTERM, lambda *_: self._ending.set())
        began = time.time()
        threads = [threading.Thread(target=self._ask, args=asked) for asked in ASKED]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            "asked": sum(self._asked.values()),
            "failed": sum(self._failed.values()),
            "by": {name: [self._asked[name], self._failed[name]] for name in sorted(self._asked)},
            "reasons": self._reasons,
            "instances": dict(self._instances),
            "seconds": round(time.time() - began, 1),
        }

    def _ask(self, host: str, path: str) -> None:
        while not self._ending.wait(PAUSE):
            answer, reason = None, ""
            try:
                answer = httpx.get(
                    f"http://{self._router}{path}",
                    headers={"Host": f"{host}.{DOMAIN}"},
                    timeout=20,
                    trust_env=False,
                    verify=NO_TLS,
                )
                if answer.status_code != 200:
                    reason = f"{answer.status_code} {answer.text[:80]}"
            except httpx.HTTPError as error:
                reason = repr(error)
            with self._lock:
                self._asked[host] += 1
                if reason or answer is None:
                    self._failed[host] += 1
                    if len(self._reasons) < KEPT_REASONS:
                        self._reasons.append(f"{time.strftime('%H:%M:%S')} {host}{path}: {reason}")
                elif host == "hello":
                    self._instances[str(answer.json()["instance_id"])] += 1


def begin(folder: Path, router: str) -> None:
    """Start asking in the background."""
    (folder / REPORT).unlink(missing_ok=True)
    command = [sys.executable, __file__, "run", str(folder), router]
    with (folder / "traffic.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    (folder / PIDS).write_text(str(process.pid))


def end(folder: Path) -> str:
    """End it; give the report as JSON."""
    os.kill(int((folder / PIDS).read_text()), signal.SIGTERM)
    deadline = time.monotonic() + 60
    while not (folder / REPORT).is_file():
        if time.monotonic() > deadline:
            raise SystemExit("the traffic gave no report")
        time.sleep(0.05)
    return (folder / REPORT).read_text()


def main(verb: str, folder: Path, router: str = "") -> None:
    """Do what was asked."""
    if verb == "begin":
        begin(folder, router)
    elif verb == "end":
        sys.stdout.write(end(folder))
    else:
        fresh = folder / f"{REPORT}.new"
        fresh.write_text(json.dumps(Traffic(router).run()))
        fresh.replace(folder / REPORT)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:4])
