"""Progress on terminals and in pipes."""

import pytest

from components.client.progress import Progress, bar
from tests.unit.client.screens import screen


@pytest.mark.parametrize(
    ("done", "total", "want"), [(0, 4, "[----]"), (1, 2, "[##--]"), (9, 4, "[####]"), (0, 0, "[####]")]
)
def test_bar(done, total, want):
    assert bar(done, total, 6) == want


def test_progress_in_a_pipe_is_plain_lines():
    progress = Progress(screen(200, terminal=False))
    with progress.stage("updating"):
        progress.part(1, 2, "1K of 2K")
        progress.count(0, 2, "replaced")
        progress.count(1, 2, "replaced")
    shown = progress.screen.file.getvalue().splitlines()
    assert shown[0] == "  | 1/2 replaced"
    assert shown[1].startswith("updating")
    assert shown[1].endswith("1/2 replaced")


def test_progress_in_a_narrow_terminal_stays_on_its_line():
    progress = Progress(screen(40, terminal=True))
    with progress.stage("uploading"):
        progress.part(50, 100, "50.0M of 100.0M, 1000 of 2000 files")
        status = progress._status
        assert status is not None
        assert len(status.status.plain) <= 37
        assert "[####----]" in status.status.plain
    assert "\n" not in progress.screen.file.getvalue().strip().splitlines()[0]
