"""What is counted for all workers together: two of them, one database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from components.controller.config import RateLimit
from components.controller.db.models_records import Taking
from components.controller.db.workers import Workers
from components.controller.requests.rate_limit import RateLimiter
from components.controller.requests.shared_rate_limit import HOME_SECONDS, SharedRateLimiter, level
from tests.contract.vmc_client import Vmc, controller_in, served, worker


def failed(vmc: Vmc, email: str) -> int:
    return vmc.call("POST", f"/users/{email}/tokens", {"password": "wrong"}).status


def test_guesses_and_registrations_count_at_all_workers(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "login_limit": {"per_minute": 1, "burst": 4},
        "address_limit": {"per_minute": 1, "burst": 7},
    }
    with (
        controller_in(tmp_path, **limits) as made,
        worker(made.config, 1) as twin,
        served(made) as one,
        served(twin) as two,
    ):
        assert one.call("POST", "/users", {"email": "a@b.com", "password": "pw"}).status == 204
        assert [failed(who, "a@b.com") for who in (one, two, one, two)] == [403] * 4
        for who in (one, two):
            refused = who.call("POST", "/users/a@b.com/tokens", {"password": "pw"})
            assert refused.code == (429, 429)
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert [failed(one, "x@b.com"), failed(two, "y@b.com")] == [403, 403]
        assert failed(two, "z@b.com") == 429, "seven of that address"
        assert two.call("POST", "/users", {"email": "c@d.com", "password": "pw"}).code == (429, 429)


def test_registrations_that_come_to_nothing_count_at_all_workers(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"address_limit": {"per_minute": 1, "burst": 5}}
    with (
        controller_in(tmp_path, **limits) as made,
        worker(made.config, 1) as twin,
        served(made) as one,
        served(twin) as two,
    ):
        for status in (204, 400, 400, 400, 400):
            assert one.call("POST", "/users", {"email": "a@b.com", "password": "pw"}).status == status
        assert two.call("POST", "/users", {"email": "c@d.com", "password": "pw"}).code == (429, 429)


def test_who_is_at_home_is_so_at_all_workers(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"address_limit": {"per_minute": 1, "burst": 6}}
    with (
        controller_in(tmp_path, **limits) as made,
        worker(made.config, 1) as twin,
        served(made) as one,
        served(twin) as two,
    ):
        for email in ("a@b.com", "c@d.com"):
            assert one.call("POST", "/users", {"email": email, "password": "pw"}).status == 204
        one.login("a@b.com", "pw")
        assert [failed(one, f"x{number}@b.com") for number in range(5)] == [403] * 4 + [429]
        assert failed(two, "x@b.com") == 429
        assert two.login("a@b.com", "pw").token
        assert failed(two, "a@b.com") == 403, "their own limit counts it"
        assert two.call("POST", "/users/c@d.com/tokens", {"password": "pw"}).status == 429, "one who is not"
        # A week later nobody is, and the row goes.
        with made.db.session() as session:
            home = session.scalars(select(Taking).where(Taking.key.startswith("home "))).one()
            key = home.key
            home.at -= HOME_SECONDS - 60
        made.limits.takings.prune()
        with made.db.session() as session:
            session.get_one(Taking, key).at -= 120
        made.limits.takings.prune()
        with made.db.session() as session:
            assert session.get(Taking, key) is None


def test_uploads_of_an_account_are_counted(tmp_path: Path) -> None:
    with controller_in(tmp_path, upload_limit={"per_minute": 1, "burst": 2}) as made, served(made) as vmc:
        for email in ("a@b.com", "c@d.com"):
            assert vmc.call("POST", "/users", {"email": email, "password": "pw"}).status == 204
        one, two = vmc.login("a@b.com", "pw"), vmc.login("c@d.com", "pw")
        for user, name in ((one, "one"), (two, "two")):
            body = {"name": name, "staging": {"framework": "wsgi"}, "uris": [], "instances": 1}
            assert user.call("POST", "/apps", body).status == 302
        assert [one.upload("one", {"a": b"1"}).status for _ in range(3)] == [200, 200, 429]
        assert two.upload("two", {"a": b"1"}).status == 200


def test_a_bucket_fills_again_and_the_table_is_bounded(tmp_path: Path) -> None:
    # One in a minute: the test itself may take seconds.
    limit = RateLimit(per_minute=1, burst=2)
    with controller_in(tmp_path) as made:
        takings = SharedRateLimiter(made.db, [limit])

        def aged(seconds: float) -> None:
            with made.db.session() as session:
                session.get_one(Taking, "k").at -= seconds

        def take() -> bool:
            with made.db.connection() as asked:
                return not takings.take(asked, "k", limit)

        def wait() -> float:
            with made.db.connection() as asked:
                waits, _ = takings.look(asked, {"k": limit, "other": limit})
                return max(waits.values())

        assert wait() <= 0.0
        assert [take(), take(), take()] == [True, True, False]
        assert 0.0 < wait() <= 60.0
        aged(60.0)
        assert wait() <= 0.0
        assert [take(), take()] == [True, False]
        aged(36000.0)
        assert [take(), take(), take()] == [True, True, False], "no more than the burst"
        takings.prune()
        assert wait() > 0.0, "it is not full"
        # The clock was set back: the next taking goes by the new one.
        aged(-7200.0)
        assert wait() <= 0.0
        assert [take(), take(), take()] == [True, True, False]
        aged(3600.0)
        takings.prune()
        with made.db.session() as session:
            assert session.get(Taking, "k") is None


def test_levels_are_read_whatever_the_clock_says() -> None:
    limit = RateLimit(per_minute=60, burst=5)
    assert level(100.0, 0.5, 101.0, limit) == 1.5
    assert level(100.0, 0.5, 1000.0, limit) == 5.0
    assert level(100.0, 0.5, 99.0, limit) == 0.5
    assert level(100.0, 0.5, 10.0, limit) == 5.0


def test_what_a_worker_lets_through_is_its_part(tmp_path: Path) -> None:
    with controller_in(tmp_path) as made:
        first, second = Workers(made.db), Workers(made.db)
        assert [first.look(), second.look(), first.look()] == [1, 2, 2]
        second.leave()
        assert first.look() == 1
    buckets = RateLimiter(RateLimit(per_minute=60, burst=10))
    buckets.share(4)
    assert sum(not buckets.take("a", 100.0) for _ in range(20)) == 2
    assert buckets.take("a", 101.0) > 0
    assert not buckets.take("a", 104.0)
    buckets.share(1)
    assert sum(not buckets.take("b", 100.0) for _ in range(20)) == 10
