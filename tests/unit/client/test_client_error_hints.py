"""Errors say what to do, and which of them pass by themselves."""

import pytest

from components.client.errors import ApiError, PushError, UnreachableError, away

CODES = {
    400: (100, 102, 300, 304, 305, 307, 308, 309, 400, 401, 700, 701),
    403: (200, 201, 202, 504, 600, 601, 602, 702),
    404: (301, 302, 303, 500, 501, 502),
    500: (101, 111, 306, 310, 402, 800, 801),
    501: (505,),
    502: (503,),
}


@pytest.mark.parametrize(
    ("status", "code"), [(status, code) for status, codes in CODES.items() for code in codes]
)
def test_every_code_of_the_contract_says_what_to_do(status, code):
    assert ApiError(status, code, "x").hint


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (UnreachableError("x"), True),
        (ApiError(502, 0, "x"), True),
        (ApiError(404, 404, "VCAP ROUTER: 404 - DESTINATION NOT FOUND"), True),
        (ApiError(404, 301, "x"), False),
        (ApiError(429, 429, "x"), False),
        (PushError("starting", "x"), False),
    ],
)
def test_which_errors_pass(error, passes):
    assert away(error) is passes
