"""Every upload of the corpus over HTTP to a real controller: the number refused, the reasons, and the files touched.

Fails where a hostile upload was accepted, was answered without a code and a reason, or touched a file, or where a good one was refused.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from tests.bench.canary import Canary
from tests.bench.hostile_corpus import KNOWN, MOST_FILES, MOST_MEGABYTES, REFUSALS, cases, good
from tests.bench.machine import facts, output
from tests.contract.vmc_client import Vmc, body_of
from tests.integration.controller_rig import ADMIN, PASSWORD, ControllerProcess
from tests.support.ports import free_port
from tests.support.waiting import until

APP = "box"
# The files that a controller in use writes beside its uploads.
_ITS_OWN = ("controller-", "ccdb", "metrics")


def ask(client: Vmc, canary: Canary) -> dict[str, Any]:
    """Send all of them; after each, look at the folder."""
    found: list[dict[str, Any]] = []
    before = client.call("GET", f"/apps/{APP}").json()
    for case in cases():
        answer = client.upload_bytes(APP, case.archive, case.resources)
        said = json.loads(answer.body) if answer.body.startswith(b"{") else {}
        changes = canary.changes()
        found.append(
            {
                "case": case.name,
                "status": answer.status,
                "code": said.get("code"),
                "description": said.get("description"),
                "refused": (answer.status, said.get("code")) in REFUSALS and bool(said.get("description")),
                "touched": changes,
            }
        )
    untouched = client.call("GET", f"/apps/{APP}").json() == before
    taken = [
        {"case": c.name, "status": client.upload_bytes(APP, c.archive, c.resources).status} for c in good()
    ]
    return {"cases": found, "app_unchanged": untouched, "good": taken}


def measure() -> dict[str, Any]:
    """Run a bus and a controller, and ask it."""
    folder = Path(tempfile.mkdtemp(prefix="ingot-hostile-"))
    box, port = folder / "box", free_port()
    box.mkdir()
    bus = subprocess.Popen(
        ["nats-server", "-a", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    controller = None
    try:
        controller = ControllerProcess(
            box,
            free_port(),
            f"nats://127.0.0.1:{port}",
            f"sqlite:///{box}/ccdb",
            max_app_mb=MOST_MEGABYTES,
            max_app_files=MOST_FILES,
        )
        until(controller.ready, "the controller is ready", 60)
        client = Vmc(controller.port).login(ADMIN, PASSWORD)
        assert client.call("POST", "/apps", body_of(APP)).status == 302
        assert client.upload(APP, {"known": KNOWN}).status == 200
        canary = Canary(box, lambda name: name.startswith(_ITS_OWN))
        return ask(client, canary)
    finally:
        if controller is not None:
            controller.stop()
        bus.terminate()
        bus.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=output("hostile"))
    arguments = parser.parse_args()
    machine = facts()
    result = measure()
    total = len(result["cases"])
    refused = sum(c["refused"] for c in result["cases"])
    touched = sum(bool(c["touched"]) for c in result["cases"])
    taken = sum(c["status"] == 200 for c in result["good"])
    whole = {
        "refused": refused,
        "total": total,
        "touched_outside": touched,
        "good_taken": taken,
        "good_total": len(result["good"]),
        "machine": machine,
        **result,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(
        f"hostile uploads refused {refused}/{total}, touched outside {touched}, good ones taken {taken}/{len(result['good'])}"
    )
    wrong = (
        refused != total
        or touched
        or taken != len(result["good"])
        or not result["app_unchanged"]
        or total < 200
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
