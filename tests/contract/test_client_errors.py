"""What the client says to do about each error of the controllers."""

from __future__ import annotations

import pytest

from components.client.errors import HINTS, ApiError
from components.controller.errors import TABLE


@pytest.mark.parametrize("code", TABLE)
def test_every_error_says_what_to_do_next(code: int) -> None:
    status, _text = TABLE[code]
    assert ApiError(status, code, "why").hint


def test_no_hint_is_for_an_error_that_is_none() -> None:
    assert HINTS.keys() <= TABLE.keys()


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (103, "later"),
        (104, "busy"),
        (105, "slowly"),
        (106, "storage"),
        (603, "ingot quota"),
        (606, "staged"),
        (607, "operator"),
    ],
)
def test_what_passes_by_itself_and_what_does_not(code: int, word: str) -> None:
    assert word in ApiError(TABLE[code][0], code, "why").hint
