"""Pages of a log as they are read and shown."""

import pytest

from components.client.errors import ApiError, UnreachableError
from components.client.follow.logs import LogPager, rendered, rows, words


def page(*lines, missed=(), cursor="c", **members):
    return {"lines": list(lines), "missed": list(missed), "cursor": cursor, **members}


def line(instance, n, text="x"):
    return {"instance": instance, "id": f"id{instance}", "n": n, "at": 0.0, "stream": "stdout", "text": text}


def test_gaps_stand_before_the_first_line_that_was_kept():
    gaps = [{"instance": 1, "id": "id1", "count": 12}, {"instance": 2, "id": "id2", "count": 1}]
    shown = [
        words(row) for row in rows(page(line(0, 1, "a"), line(1, 13, "b"), line(1, 14, "c"), missed=gaps))
    ]
    assert shown == [
        "a",
        "… 12 lines missed (instance 1)",
        "b",
        "c",
        "… 1 line missed (instance 2)",
    ]


def test_an_instance_keeps_its_colour():
    one, again, other = (rendered(line(i, 1)) for i in (0, 8, 1))
    assert one.spans[0].style == again.spans[0].style != other.spans[0].style
    assert rendered({**line(0, 1), "stream": "stderr"}, times=True).plain.endswith("[0!] x")


class Script:
    """Gives pages, or raises, one after the other; remembers what was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.now = 0.0
        self.said = []

    def ask(self, **wanted):
        self.asked.append(wanted)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def sleep(self, seconds):
        self.now += seconds

    def reader(self, patience=10):
        return LogPager(self.ask, self.said.append, patience, lambda: self.now, self.sleep)


def test_reader_goes_on_where_it_was_when_a_controller_is_replaced():
    gone = UnreachableError("refused")
    script = Script(
        page(line(0, 1), cursor="c1"), gone, gone, page(line(0, 2), cursor="c2"), KeyboardInterrupt()
    )
    read = script.reader().pages(10, follow=True)
    assert next(read)["lines"][0]["n"] == 1
    assert next(read)["lines"][0]["n"] == 2
    with pytest.raises(KeyboardInterrupt):
        next(read)
    assert script.asked[0] == {"tail": 10}
    assert [wanted["cursor"] for wanted in script.asked[1:]] == ["c1", "c1", "c1", "c2"]
    assert len(script.said) == 2


def test_reader_gives_up_at_last_and_at_once_where_waiting_is_no_use():
    script = Script(*[ApiError(503, 0, "away")] * 100)
    with pytest.raises(ApiError):
        list(script.reader(patience=10).pages(10, follow=False))
    assert 10 < script.now < 13
    script = Script(ApiError(404, 301, "no such application"))
    with pytest.raises(ApiError):
        list(script.reader().pages(10, follow=False))
    assert script.now == 0


def test_reader_ends_with_a_task_but_not_before_its_last_line():
    script = Script(page(state="running"), page(line(0, 1), state="failed"), page(state="failed"))
    got = list(script.reader().pages(10, follow=True))
    assert [len(answer["lines"]) for answer in got] == [0, 1]
    assert script.now == 0


def test_reader_does_not_hurry_one_who_answers_at_once():
    script = Script(page(), page(), page(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        list(script.reader().pages(10, follow=True))
    assert script.now == 1.0
