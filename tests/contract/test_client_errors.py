"""What the client says to do about each error of the controllers."""

from __future__ import annotations

import pytest

from components.client.errors import HINTS, ApiError
from components.controller.errors import Code


@pytest.mark.parametrize("code", Code)
def test_every_error_says_what_to_do_next(code: Code) -> None:
    assert ApiError(code.status, code, "why").hint


def test_no_hint_is_for_an_error_that_is_none() -> None:
    assert HINTS.keys() <= set(Code)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (Code.NO_DATABASE, "later"),
        (Code.BUSY, "busy"),
        (Code.SLOW_BODY, "slowly"),
        (Code.NO_SHARE, "storage"),
        (Code.ACCOUNT_TOO_MANY_INSTANCES, "ingot quota"),
        (Code.ACCOUNT_TOO_MANY_STAGINGS, "staged"),
        (Code.REGISTERED_ACCOUNTS_FULL, "operator"),
    ],
)
def test_what_passes_by_itself_and_what_does_not(code: Code, word: str) -> None:
    assert word in ApiError(code.status, code, "why").hint
