# ruff: noqa: INP001, SLF001, ARG002 - Ansible loads plugins by their path, has no other name for a task, and says what methods take
"""Prints the progress of a playbook after each task, for the program that runs it and reads its output (`orchestrator/control/ansible_playbook.py`).

The tasks of the plays and their roles count once each, whatever their work and the number of machines. Tasks that are included
during the run are not known before and count as a part of the including task; handlers do not count.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ansible.playbook.block import Block
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: ingot_progress
type: aggregate
short_description: how far a playbook is
description: Writes `\\x1eDONE/ALL` as a line of its own whenever a task begins, and at the end.
"""

MARK = "\x1e"


def tasks_of(blocks: Iterable[Any]) -> Iterator[Any]:
    """Yield the tasks of blocks and of their inner blocks, without the tasks that Ansible adds itself."""
    for item in blocks:
        if isinstance(item, Block):
            yield from tasks_of([*item.block, *item.rescue, *item.always])
        elif not item.implicit:
            yield item


class CallbackModule(CallbackBase):
    """Counts tasks; plays without machines count as done when the next begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ingot_progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Know nothing yet."""
        super().__init__()
        self._all = 0
        self._done = 0
        # Play -> how many tasks stand before it; task -> how many stand before it and in it.
        self._plays: dict[str, int] = {}
        self._tasks: dict[str, int] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Count what there is."""
        for play in playbook.get_plays():
            self._plays[play._uuid] = self._all
            for task in tasks_of(play.compile()):
                self._all += 1
                self._tasks[task._uuid] = self._all

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Everything before it is over."""
        self._reached(self._plays.get(play._uuid, 0))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """What stands before it is over."""
        self._reached(self._tasks.get(task._uuid, 0) - 1)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """All is over."""
        self._reached(self._all)

    def _reached(self, done: int) -> None:
        self._done = max(self._done, done)
        sys.stdout.write(f"{MARK}{self._done}/{self._all}\n")
        sys.stdout.flush()
