"""Which controller the orchestrator asks who somebody is."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.unit.orchestrator.api_rig import Controller, Rig


def test_the_controller_that_answered_last_is_asked_first(tmp_path: Path) -> None:
    with ExitStack() as closing:
        ill, well = Controller(), Controller()
        closing.callback(ill.close)
        closing.callback(well.close)
        rig = Rig(tmp_path, [], [ill.url, well.url])
        closing.callback(rig.close)
        good = (200, {"email": "ops@example.com", "admin": True})
        ill.tokens["token"], well.tokens["token"] = (500, {}), good
        for _ in range(3):
            assert rig.http.get("/v2/jobs", headers={"Authorization": "token"}).status_code == 200
        assert (ill.asked, well.asked) == (1, 3)
        # It fails, and the other one is well again.
        ill.tokens["token"], well.tokens["token"] = good, (500, {})
        for _ in range(3):
            assert rig.http.get("/v2/jobs", headers={"Authorization": "token"}).status_code == 200
        assert (ill.asked, well.asked) == (4, 4)
