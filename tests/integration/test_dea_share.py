"""A share that hangs: a DEA gets its droplets over HTTP meanwhile, and from the share when it answers again."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.dea_rig import DeaRig, droplet
from tests.integration.hanging_share import HangingShare, hanging_share, needs_fuse

CONTENT = droplet()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def share(tmp_path: Path) -> Iterator[HangingShare]:
    # As on a machine of the platform, where the droplets alone are mounted.
    with hanging_share(tmp_path, "share/droplets") as share:
        yield share


@pytest.fixture
async def rig(share: HangingShare, tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(tmp_path)
    await rig.start()
    try:
        yield rig
    finally:
        share.go_on()
        await rig.stop()


@needs_fuse
async def test_droplets_come_over_http_while_the_share_hangs(rig: DeaRig, share: HangingShare) -> None:
    sha1 = rig.keep(CONTENT)
    assert sha1 == hashlib.sha1(CONTENT).hexdigest()
    other = droplet({"app/other": "x"})
    second = rig.keep(other)
    share.hang()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            uri = f"http://127.0.0.1:{server.server_address[1]}/staged_droplets/12/{sha1}"
            # Once before anybody knows that it hangs.
            await rig.run(sha1, executableUri=uri)
        finally:
            server.shutdown()
            thread.join()
    assert "the share does not answer" in (rig.folder / "agent.log").read_text()
    share.go_on()
    await rig.until(lambda: "share_well" in (rig.folder / "agent.log").read_text(), "well again")
    # There is no other way to this one.
    await rig.run(second, droplet=13)
    await rig.until(
        lambda: not list((rig.folder / "dea" / "droplets").glob("*.pending")), "nothing is left of the copy"
    )
