"""The orchestrator's door: no page of another site, no guessing, and JSON alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.api.door import ALL_BURST, BURST, Attempts
from tests.unit.orchestrator.api_rig import PASSWORD, Rig, basic

GOOD = basic("operator", PASSWORD)
GUESS = basic("operator", "guess")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, [], [])
    yield rig
    rig.close()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
@pytest.mark.parametrize("body", ["{}", ""])
def test_another_form_than_json_is_refused(rig: Rig, kind: str, body: str) -> None:
    answer = rig.http.post(
        "/v2/rollback", data=body.encode(), content_type=kind, headers={"Authorization": GOOD}
    )
    assert (answer.status_code, answer.get_json()["code"]) == (415, 415)
    assert "Content-Type: application/json" in answer.get_json()["description"]


def test_without_a_body_no_form_is_asked_for(rig: Rig) -> None:
    # As clients before this release ask for a job to go on.
    answer = rig.http.post("/v2/jobs/9/resume", headers={"Authorization": GOOD})
    assert answer.status_code == 404
    answer = rig.http.post("/v2/jobs/9/resume", data=b"{}", headers={"Authorization": GOOD})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 404),
        ({"Sec-Fetch-Site": "none"}, 404),
        ({}, 404),
    ],
)
def test_a_page_of_another_site_changes_nothing(rig: Rig, headers: dict[str, str], status: int) -> None:
    answer = rig.http.post("/v2/jobs/9/resume", json={}, headers={"Authorization": GOOD, **headers})
    assert answer.status_code == status
    # What it sees it cannot read.
    assert rig.http.get("/v2/jobs", headers={"Authorization": GOOD, **headers}).status_code == 200


def test_guesses_are_limited_by_the_clients_address(rig: Rig) -> None:
    def asked(password: str, client: str) -> int:
        headers = {"Authorization": password, "X-Forwarded-For": f"6.6.6.6, {client}"}
        return int(rig.http.get("/v2/jobs", headers=headers).status_code)

    clock = Clock()
    rig.orchestrator.attempts._clock = clock
    assert [asked(GUESS, "10.0.0.9") for _ in range(BURST + 2)] == [401] * BURST + [429] * 2
    # Neither does the right one tell now; others come in.
    assert asked(GOOD, "10.0.0.9") == 429
    assert asked(GOOD, "10.0.0.8") == 200
    clock.now += 11
    assert asked(GOOD, "10.0.0.9") == 200
    refused = rig.http.get("/v2/jobs", headers={"Authorization": GUESS, "X-Forwarded-For": "10.0.0.9"})
    assert refused.status_code == 401
    refused = rig.http.get("/v2/jobs", headers={"Authorization": GUESS, "X-Forwarded-For": "10.0.0.9"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "9")


def test_whoever_claims_ever_new_addresses_is_limited_as_one() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    attempts.succeeded(("198.18.0.9", "10.0.0.1"))
    for number in range(100):
        assert attempts.wait(("198.18.0.9", str(number))) == 0
        attempts.failed(("198.18.0.9", str(number)))
    assert attempts.wait(("198.18.0.9", "one more")) > 0
    # An operator of that router who got in lately is known; other machines are others.
    assert attempts.wait(("198.18.0.9", "10.0.0.1")) == 0
    assert attempts.wait(("198.18.0.8", "")) == 0
    clock.now += 5
    assert attempts.wait(("198.18.0.9", "one more")) == 0


def test_what_cannot_be_guessed_is_not_kept_out_by_others_guesses() -> None:
    attempts = Attempts(Clock())
    for number in range(200):
        attempts.failed(("198.18.0.9", str(number)), by_password=False)
    assert attempts.wait(("198.18.0.9", "an operator")) == 0
    for number in range(200):
        attempts.failed(("198.18.0.9", str(number)))
    assert attempts.wait(("198.18.0.9", "an operator")) > 0
    assert attempts.wait(("198.18.0.9", "an administrator"), by_password=False) == 0
    # Each is limited on its own.
    for _ in range(BURST):
        attempts.failed(("198.18.0.9", "an administrator"), by_password=False)
    assert attempts.wait(("198.18.0.9", "an administrator"), by_password=False) > 0


def test_a_valid_token_comes_in_while_others_guess(rig: Rig) -> None:
    for number in range(ALL_BURST + 10):
        headers = {"Authorization": GUESS, "X-Forwarded-For": f"10.1.{number}.1"}
        assert rig.http.get("/v2/jobs", headers=headers).status_code in (401, 429)
    came = {"X-Forwarded-For": "10.2.0.1"}
    assert rig.http.get("/v2/jobs", headers={"Authorization": GOOD, **came}).status_code == 429
    # No controller can be asked here: it got as far as that.
    assert rig.http.get("/v2/jobs", headers={"Authorization": "a token", **came}).status_code == 503


def test_a_network_of_ipv6_is_one_client(rig: Rig) -> None:
    for number in range(BURST):
        headers = {"Authorization": GUESS, "X-Forwarded-For": f"2001:db8::{number + 1}"}
        assert rig.http.get("/v2/jobs", headers=headers).status_code == 401
    headers = {"Authorization": GUESS, "X-Forwarded-For": "2001:db8::ffff"}
    assert rig.http.get("/v2/jobs", headers=headers).status_code == 429


def test_who_says_nothing_is_no_guesser(rig: Rig) -> None:
    for _ in range(BURST + 5):
        assert rig.http.get("/v2/jobs").status_code == 401
    assert rig.http.get("/v2/jobs", headers={"Authorization": GOOD}).status_code == 200
