"""Updates of an application under load, on the platform that `test_platform.py` raised: no request notices.

By its name, the file runs before the platform is taken down.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.controller_rig import multipart, zip_of
from tests.lab.conftest import DOMAIN, ROOT, LabPlatform, live, traffic, until

APP = "rolling"

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


class OldClient:
    """The calls of the client of 2011."""

    def __init__(self, platform: LabPlatform) -> None:
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{platform.port}",
            headers={"Host": f"api.{DOMAIN}"},
            timeout=120,
            trust_env=False,
        )
        password = (platform.folder / "admin_password").read_text().strip()
        answer = self._http.post(f"/users/admin@{DOMAIN}/tokens", json={"password": password})
        self._http.headers["AUTHORIZATION"] = answer.json()["token"]

    def get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.get(path).json()
        return answer

    def update(self, folder: Path) -> None:
        """Upload, then update, as `vmc update` does with a running application."""
        files: dict[str, str | bytes] = {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }
        body, headers = multipart(
            [("_method", None, b"put"), ("application", "app.zip", zip_of(files)), ("resources", None, b"[]")]
        )
        sent = self._http.post(f"/apps/{APP}/application", content=body, headers=headers)
        assert sent.status_code == 200, sent.text
        assert self._http.put(f"/apps/{APP}/update", json={}).status_code == 204

    def ended(self) -> dict[str, Any]:
        update: dict[str, Any] = until(
            lambda: (u := self.get(f"/v2/apps/{APP}/update"))["state"] != "UPDATING" and u,
            "the update has ended",
        )
        assert self.get(f"/apps/{APP}/update")["state"] == update["state"]
        return update

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def client(platform: LabPlatform) -> Iterator[OldClient]:
    speaker = OldClient(platform)
    yield speaker
    speaker.close()
    platform.ingot("delete", APP, "--force", check=False)


def test_updates_of_an_app_under_load_cost_no_request(
    platform: LabPlatform, client: OldClient, tmp_path: Path
) -> None:
    folder = tmp_path / "app"
    shutil.copytree(ROOT / "tests" / "apps" / "hello", folder)
    program = (folder / "wsgi.py").read_text()
    # By its answer, not its port: a server opens that before it knows whether the application loads.
    platform.ingot("push", APP, "--path", str(folder), "--instances", "3", "--health-path", "/")
    first = live(platform, APP, 3)
    report: dict[str, Any] = {}
    with traffic(platform, APP) as failures:
        (folder / "wsgi.py").write_text(program + "\n# two\n")
        client.update(folder)
        update = client.ended()
        assert (update["state"], update["replaced"]) == ("SUCCEEDED", 3)
        second = live(platform, APP, 3)
        assert not set(first) & set(second)
        report["old_client"] = len(failures)

        (folder / "wsgi.py").write_text(program + "\n# three\n")
        platform.ingot("push", APP, "--path", str(folder))
        third = live(platform, APP, 3)
        assert not set(second) & set(third)
        report["push"] = len(failures) - sum(report.values())

        platform.ingot("rollback", APP)
        assert client.ended()["state"] == "SUCCEEDED"
        assert not set(third) & set(live(platform, APP, 3))
        report["rollback"] = len(failures) - sum(report.values())

        # It can be staged, and does not come up.
        (folder / "wsgi.py").write_text(program + "\nraise SystemExit(3)\n")
        client.update(folder)
        update = client.ended()
        assert update["state"] == "CANARY_FAILED"
        assert "crashed" in update["message"], update
        assert len(live(platform, APP, 3)) == 3
        report["broken"] = len(failures) - sum(report.values())
    print(f"failed requests: {report} {failures[:5]}")
    assert failures == []
