"""Limits, cursors, addresses, open tasks, usage and logs: the parts that only decide."""

from __future__ import annotations

import datetime as dt

import pytest
from werkzeug.datastructures import MultiDict

from components.common.bus.operation_messages import DeaUsage, LogReply, RouterUsage, UsageSample
from components.controller.accounts import usage
from components.controller.client_address import networks, origin
from components.controller.config import RateLimit
from components.controller.errors import ApiError
from components.controller.logs import platform_logs
from components.controller.logs.merge import (
    MOST_INSTANCES,
    MOST_PLACES,
    Line,
    Source,
    Window,
    chosen,
    merge,
    newest,
    share,
    valid_place,
)
from components.controller.requests.query import Cursors, Query, members, whole
from components.controller.requests.rate_limit import MOST_KEYS, RateLimiter, TooManyError, Welcome
from components.controller.tasks.watch import (
    DEA_LOST,
    LOST_SECONDS,
    NEVER_STARTED,
    NOT_NAMED,
    UNNAMED_SECONDS,
    Heard,
    Open,
    TaskWatch,
)


def test_a_bucket_empties_and_fills() -> None:
    buckets = RateLimiter(RateLimit(per_minute=60, burst=3))
    assert [buckets.take("a", 100.0) for _ in range(3)] == [0.0] * 3
    assert buckets.take("a", 100.0) == pytest.approx(1.0)
    assert buckets.take("b", 100.0) == 0.0, "others have their own"
    assert buckets.take("a", 100.5) == pytest.approx(0.5), "who asks too early loses nothing by it"
    assert buckets.take("a", 101.0) == 0.0
    assert buckets.take("a", 101.0) > 0
    buckets.give_back("a", 101.0)
    assert buckets.take("a", 101.0) == 0.0
    assert buckets.take("a", 1e6) == 0.0
    assert [bool(buckets.take("a", 1e6)) for _ in range(3)] == [False, False, True], (
        "never more than the burst"
    )


def test_who_succeeded_lately_is_known_for_a_time_and_not_without_end() -> None:
    welcome = Welcome(10.0)
    welcome.add("a", 0.0)
    assert welcome.knows("a", 9.0)
    assert not welcome.knows("a", 10.0)
    assert not welcome.knows("b", 0.0)
    for number in range(MOST_KEYS):
        welcome.add(str(number), 1.0)
    assert not welcome.knows("a", 1.0)
    assert welcome.knows("0", 1.0)


def test_no_limit_and_many_names() -> None:
    free = RateLimiter(RateLimit(per_minute=0, burst=1))
    assert not any(free.take("a", 1.0) for _ in range(1000))
    few = RateLimiter(RateLimit(per_minute=1, burst=1))
    for n in range(MOST_KEYS + 10):
        few.take(str(n), 1.0)
    assert len(few._levels) == MOST_KEYS
    assert TooManyError(0.2).seconds == 1
    assert TooManyError(2.2).seconds == 3


def refused(work) -> str:
    with pytest.raises(ApiError) as caught:
        work()
    assert (caught.value.code, caught.value.status) == (100, 400)
    return caught.value.description.removeprefix("Bad request: ").partition(":")[0]


def test_a_query_is_read_or_refused_by_name() -> None:
    query = Query(MultiDict({"limit": "7", "user": "", "since": "1.5", "from": "2011-04-13", "all": "1"}),
                  ("limit", "user", "since", "from", "all", "after"))  # fmt: skip
    assert query.number("limit", 50, 1, 500) == 7
    assert query.number("after", 50, 1, 500) == 50
    assert query.text("user", "x") == "x"
    assert query.seconds("since", 0, 10) == 1.5
    assert query.day("from", dt.date(2000, 1, 1)) == dt.date(2011, 4, 13)
    assert query.flag("all")
    assert refused(lambda: Query(MultiDict({"odd": "1"}), ("limit",))) == "odd"
    assert refused(lambda: Query(MultiDict([("limit", "1"), ("limit", "2")]), ("limit",))) == "limit"
    for bad in ("0", "501", "-1", "1.0", "1e3", "x", "٣", "9" * 30):
        assert (
            refused(lambda bad=bad: Query(MultiDict({"limit": bad}), ("limit",)).number("limit", 1, 1, 500))
            == "limit"
        )
    for bad in ("nan", "-1", "inf", "x", "11"):
        assert (
            refused(lambda bad=bad: Query(MultiDict({"wait": bad}), ("wait",)).seconds("wait", 0, 10))
            == "wait"
        )
    for bad in ("2011", "2011-13-01", "20110413", "2011-W01-1", "x" * 10):
        day = dt.date(2011, 1, 1)
        assert refused(lambda bad=bad, day=day: Query(MultiDict({"to": bad}), ("to",)).day("to", day)) == "to"
    assert refused(lambda: Query(MultiDict({"user": "x" * 300}), ("user",)).text("user")) == "user"
    assert (
        refused(lambda: Query(MultiDict({"level": "loud"}), ("level",)).choice("level", ("info",))) == "level"
    )


def test_a_body_is_read_or_refused_by_name() -> None:
    assert members({"a": 1}, ("a", "b")) == {"a": 1}
    assert refused(lambda: members({"c": 1}, ("a", "b"))) == "c"
    assert whole({"a": 3}, "a", None, 0, 10) == 3
    assert whole({"a": None}, "a", 5, 0, 10) == 5
    absurd: tuple[object, ...] = (-1, 11, 1.5, "3", True, [], {})
    for bad in absurd:
        assert refused(lambda bad=bad: whole({"a": bad}, "a", None, 0, 10)) == "a"


def test_a_cursor_is_ours_and_of_one_listing() -> None:
    old, new = Cursors(["k" * 16]), Cursors(["n" * 16, "k" * 16])
    word = old.make("apps", ["x", 3])
    assert new.read("apps", word, "after") == ["x", 3]
    assert word.isascii()
    for bad in (word[:-1], word + "x", "", "e30", "a" * 1000, Cursors(["z" * 16]).make("apps", 1)):
        assert refused(lambda bad=bad: old.read("apps", bad, "after")) == "after"
    assert refused(lambda: old.read("users", word, "after")) == "after"


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("10.0.0.9", "", "10.0.0.9"),
        ("10.0.0.9", "1.2.3.4", "10.0.0.9"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "junk", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, , ", "10.0.0.1"),
        (None, "1.2.3.4", ""),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_whose_word_on_an_address_is_believed(peer: str | None, forwarded: str, found: str) -> None:
    assert origin(peer, forwarded, networks(["10.0.0.0/30"])) == found


A, B = Source("aa", 0, "http://x/a"), Source("bb", 1, "http://x/b")


def window(first: int, last: int, *lines: tuple[int, float]) -> Window:
    return Window("x", first, last, [Line(n, at, "stdout", str(n)) for n, at in lines])


def shown(reading) -> list[tuple[int, int]]:
    return [(line["instance"], line["n"]) for line in reading.lines]


def test_windows_are_joined_by_time() -> None:
    reading = merge({}, [(A, window(1, 2, (1, 10), (2, 30))), (B, window(1, 2, (1, 20), (2, 40)))])
    assert shown(reading) == [(0, 1), (1, 1), (0, 2), (1, 2)]
    assert (reading.missed, reading.place) == ([], {"aa": 2, "bb": 2})
    backwards = merge({}, [(A, window(1, 3, (1, 30), (2, 10), (3, 20))), (B, window(1, 1, (1, 25)))])
    assert [s for s in shown(backwards) if s[0] == 0] == [(0, 1), (0, 2), (0, 3)]


def test_a_gap_is_counted_once() -> None:
    place = {"aa": 4}
    late = merge(place, [(A, window(10, 12, (10, 1), (11, 1), (12, 1)))])
    assert late.missed == [{"instance": 0, "id": "aa", "count": 5}]
    assert late.place == {"aa": 12}
    again = merge(late.place, [(A, window(10, 12, (12, 1)))])
    assert (again.lines, again.missed, again.place) == ([], [], {"aa": 12})
    empty = merge(place, [(A, window(21, 20))])
    assert empty.missed == [{"instance": 0, "id": "aa", "count": 16}]
    assert empty.place == {"aa": 20}
    assert merge({}, [(A, Window())]).place == {"aa": 0}


def test_one_who_does_not_answer_keeps_its_place() -> None:
    reading = merge({"aa": 4, "bb": 9}, [(A, window(1, 5, (5, 1)))])
    assert reading.place == {"aa": 5, "bb": 9}
    many = {f"{n:x}": n for n in range(500)}
    assert len(merge(many, [(A, window(1, 1, (1, 1)))]).place) == MOST_PLACES


def test_the_newest_lines_of_all() -> None:
    answers = [(A, window(1, 9, (8, 10), (9, 30))), (B, window(1, 5, (4, 20), (5, 40)))]
    reading = newest(answers, 3)
    assert shown(reading) == [(1, 4), (0, 9), (1, 5)]
    assert reading.place == {"aa": 9, "bb": 5}
    assert newest(answers, 0).lines == []
    assert newest([], 10) == merge({}, [])


def test_who_is_read() -> None:
    many = [Source(f"{n:x}", 1000 - n, "http://x") for n in range(300)]
    assert len(chosen([*many, *many])) == MOST_INSTANCES
    assert chosen([Source("a", 0, "")]) == []
    assert share(0) == share(1) == 1000
    assert share(10_000) == 1
    forged: tuple[object, ...] = ([], "x", {"a": "1"}, {"a": True}, {str(n): n for n in range(1000)}, None)
    for bad in forged:
        assert valid_place(bad) is None
    assert valid_place({"a": 1}) == {"a": 1}


def looks(watch: TaskWatch, task: Open, heard: dict[str, Heard], *at: float) -> list[dict[str, str]]:
    return [watch.look([task], heard, now).over for now in at]


def test_a_task_that_nobody_names_is_over() -> None:
    task = Open("t", "0-a", pending=False, age=500)
    empty, there = Heard(frozenset()), Heard(frozenset({"t"}))
    late = UNNAMED_SECONDS + 1
    assert looks(TaskWatch(), task, {"0-a": there}, 0, 1000) == [{}, {}]
    assert looks(TaskWatch(), task, {"0-a": empty}, 0, late - 2, late) == [{}, {}, {"t": NOT_NAMED}]
    watch = TaskWatch()
    watch.look([task], {"0-a": empty}, 0)
    watch.look([task], {"0-a": there}, 5)
    assert looks(watch, task, {"0-a": empty}, 10, late + 5) == [{}, {}], "it was seen again"


def test_a_task_whose_dea_is_lost_is_over() -> None:
    task, late = Open("t", "0-a", pending=False, age=500), LOST_SECONDS + 1
    assert looks(TaskWatch(), task, {"0-a": Heard(frozenset({"t"}), lost=True)}, 0, late) == [
        {},
        {"t": DEA_LOST},
    ]
    assert looks(TaskWatch(), task, {}, 0, late - 2, late) == [{}, {}, {"t": DEA_LOST}]


def test_a_pending_task_is_found_or_given_up() -> None:
    there = {"0-a": Heard(frozenset({"t"}))}
    assert TaskWatch().look([Open("t", "0-a", pending=True, age=5)], there, 0).running == ["t"]
    assert TaskWatch().look([Open("t", "", pending=True, age=5)], there, 0).over == {}
    assert TaskWatch().look([Open("t", "", pending=True, age=500)], there, 0).over == {"t": NEVER_STARTED}


def test_a_task_nobody_wants_is_ended() -> None:
    watch, heard = TaskWatch(), {"0-a": Heard(frozenset({"x"}))}
    assert watch.look([], heard, 0).stray == {}
    assert watch.look([], heard, UNNAMED_SECONDS + 1).stray == {"0-a": ["x"]}
    assert watch.look([], {"0-a": Heard(frozenset({"x"}), lost=True)}, 100).stray == {}


def test_what_samples_add() -> None:
    one = UsageSample(droplet=1, instance="a", reserved=64, used=10.5, cpu=3)
    two = UsageSample(droplet=1, instance="b", reserved=64, used=1, restarted=True)
    bad = [
        UsageSample(droplet=2, instance="c", reserved=-1, used=1),
        UsageSample(droplet=2, instance="c", reserved=1, used=1e30),
        UsageSample(droplet=2, instance="c", reserved=1, used=1, cpu=1e9),
    ]
    message = DeaUsage(dea="0-a", at=0, seconds=60, samples=[one, two, *bad])
    assert usage.of_dea(message) == {
        1: {
            "reserved_mb_seconds": 128 * 60,
            "used_mb_seconds": 11.5 * 60,
            "cpu_seconds": 3,
            "requests": 0,
            "restarts": 1,
        }
    }
    for seconds in (-1, 1e9, float("nan")):
        assert usage.of_dea(DeaUsage(dea="0-a", at=0, seconds=seconds, samples=[one])) == {}
    requests = {"1": 5, "x": 1, "2": -1, "3": 1 << 60, "٣": 1, "²": 1, "9" * 5000: 1}
    assert usage.of_router(RouterUsage(router="r", at=0, seconds=60, requests=requests)) == {
        1: {"requests": 5}
    }


def test_the_day_of_a_sample() -> None:
    now = dt.datetime(2011, 4, 13, 0, 0, 30, tzinfo=dt.UTC).timestamp()
    assert usage.day_of(now - 31, now) == "2011-04-12"
    assert usage.day_of(now, now) == "2011-04-13"
    assert usage.day_of(0, now) == usage.day_of(1e18, now) == "2011-04-13"


def test_csv_holds_no_formula() -> None:
    row = dict.fromkeys(usage.COLUMNS, 1) | {"user": "=cmd()@b.c", "app": 'a,"b"', "day": "2011-04-13"}
    text = usage.as_csv([row])
    assert text.splitlines() == [",".join(usage.COLUMNS), """2011-04-13,'=cmd()@b.c,"a,""b\""",1,1,1,1,1"""]
    assert usage.as_csv([row | {"cpu_seconds": -1.5}]).splitlines()[1].endswith(",-1.5,1,1")


def reply(id_: str, *lines: str) -> LogReply:
    return LogReply(component="dea", id=id_, host="dea1", lines=list(lines))


def test_components_lines_are_merged() -> None:
    first = '{"timestamp": "2011-04-13T00:00:01Z", "level": "info", "event": "began", "component": "dea", "port": 1}'
    second = '{"timestamp": "2011-04-13T00:00:02Z", "level": "error", "event": "failed", "list": ["a b"]}'
    lines = platform_logs.merge(
        [reply("1", second), reply("0", first), reply("0", first), reply("2", "no json")], 10
    )
    assert [(line["id"], line["event"]) for line in lines] == [("2", ""), ("0", "began"), ("1", "failed")]
    assert (lines[1]["text"], lines[2]["text"]) == ("port=1", 'list=["a b"]')
    assert lines[2]["at"] - lines[1]["at"] == 1
    assert lines[0]["text"] == "no json"
    assert platform_logs.merge([reply("1", second), reply("0", first)], 1)[0]["event"] == "failed"
