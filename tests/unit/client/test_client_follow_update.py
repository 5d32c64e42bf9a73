"""The states of an update, and the wait for its end."""

import pytest

from components.client.errors import ApiError, PushError, UnreachableError
from components.client.follow.update import Updater, UpdateSnapshot
from components.client.lifecycle import AppLifecycle
from components.client.progress import Progress
from tests.unit.client.screens import screen


@pytest.mark.parametrize(
    ("state", "over", "failed"),
    [
        ("UPDATING", False, False),
        ("SUCCEEDED", True, False),
        ("NONE", True, False),
        ("CANARY_FAILED", True, True),
        ("SOMETHING_NEW", True, True),
    ],
)
def test_update_states(state, over, failed):
    update = UpdateSnapshot.of({"state": state, "replaced": 1, "instances": 2})
    assert (update.over, update.failed, update.text()) == (over, failed, "1/2 replaced")


class Updates:
    def __init__(self, *states):
        self.states = list(states)

    def update_state(self, _name):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return {"state": state, "replaced": 0, "instances": 3, "message": ""}

    def crashes(self, _name):
        return []


def updater(*states):
    now = [0.0]
    life = AppLifecycle(Updates(*states), "x", Progress(screen(80, terminal=False)), timeout=10)
    return Updater(life, lambda: now[0], lambda s: now.__setitem__(0, now[0] + s)), now


def test_every_instance_has_its_time():
    watcher, now = updater("UPDATING")
    with pytest.raises(PushError, match="0/3 replaced after"):
        watcher.follow()
    assert 30 < now[0] < 31


def test_an_update_is_not_given_up_while_the_platform_is_away():
    watcher, _ = updater("UPDATING", UnreachableError("x"), ApiError(500, 111, "x"), "SUCCEEDED")
    assert watcher.follow().state == "SUCCEEDED"
    watcher, _ = updater(ApiError(404, 301, "deleted meanwhile"))
    with pytest.raises(ApiError):
        watcher.follow()


@pytest.mark.parametrize(
    ("error", "possible"),
    [
        ("NONE", True),
        (ApiError(404, 301, "x"), True),
        (ApiError(404, 0, "x"), False),
        (ApiError(405, 0, "x"), False),
    ],
)
def test_whether_a_controller_can_roll(error, possible):
    assert updater(error)[0].possible() is possible
