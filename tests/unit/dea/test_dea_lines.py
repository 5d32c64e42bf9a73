"""Numbered lines: cutting, the window, the spool over restarts, bounds, and files that are not what they seem."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dea.logs.lines import MOST_CHARACTERS, Line, Window, split
from components.dea.logs.logbook import LogBook
from components.dea.logs.spool import Bounds, Spool


def lines(first: int, *texts: str) -> list[Line]:
    return [Line(n, 1.0, "stdout", text) for n, text in enumerate(texts, first)]


@pytest.mark.parametrize(
    ("content", "found", "used"),
    [
        (b"", [], 0),
        (b"no end", [], 0),
        (b"a\nb\r\n\nc", ["a", "b", ""], 5 + 1),
        (b"\xff\0x\n", ["\ufffdx"], 4),
        (b"x" * (MOST_CHARACTERS + 1), ["x" * MOST_CHARACTERS, "x"], MOST_CHARACTERS + 1),
    ],
)
def test_output_is_cut_into_lines(content: bytes, found: list[str], used: int) -> None:
    assert split(content) == (found, used)


def test_the_last_words_are_a_line_without_an_end() -> None:
    assert split(b"a\nb", final=True) == (["a", "b"], 3)
    assert split(b"a\n", final=True) == (["a"], 2)


class TestWindow:
    """What is kept."""

    def test_it_is_empty_at_first(self) -> None:
        window = Window(3, 1000)
        assert (window.first, window.last, window.after(0, 10)) == (1, 0, [])

    def test_the_newest_stay_and_readers_go_on_where_they_were(self) -> None:
        window = Window(3, 1000)
        window.take(lines(1, *"abcde"))
        assert (window.first, window.last) == (3, 5)
        assert [line.text for line in window.after(0, 10)] == ["c", "d", "e"]
        assert [line.text for line in window.after(3, 1)] == ["d"]
        assert window.after(5, 10) == window.after(99, 10) == []
        assert window.newest(4) == "d\ne\n"

    def test_bytes_bound_it_too(self) -> None:
        window = Window(100, 500)
        window.take(lines(1, "x" * 300, "y" * 300))
        assert [line.n for line in window.all()] == [2]

    def test_a_gap_forgets_what_was_before_it(self) -> None:
        window = Window(10, 1000)
        window.take(lines(1, "a", "b"))
        window.take(lines(50, "c"))
        assert (window.first, window.last) == (50, 50)
        window.take([], 70)
        assert (window.first, window.last, window.all()) == (70, 69, [])

    @given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.text(max_size=30), max_size=8))))
    def test_numbers_have_no_gap_and_no_repetition(self, batches: list[tuple[int, list[str]]]) -> None:
        window, following = Window(5, 400), 1
        for missed, texts in batches:
            before = window.last
            following += missed
            new = lines(following, *texts)
            following += len(new)
            window.take(new, following)
            numbers = [line.n for line in window.all()]
            assert numbers == list(range(window.first, window.last + 1))
            assert window.last == following - 1 >= before
            assert len(numbers) <= 5


class TestSpool:
    """Files of an instance, and what outlives the agent."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "i/logs").mkdir(parents=True)
        return tmp_path / "i"

    def spool(self, folder: Path, bounds: Bounds | None = None, uid: int | None = None) -> Spool:
        return Spool(folder, folder.parent / "spool", uid, bounds or Bounds())

    def look(self, spool: Spool, *, final: bool = False) -> list[str]:
        found, following = spool.look(final=final)
        spool.window.take(found, following)
        return [line.text for line in found]

    def write(self, folder: Path, text: str, name: str = "stdout.log") -> None:
        with (folder / "logs" / name).open("a") as file:
            file.write(text)

    def test_each_line_is_read_once_and_numbers_go_on_in_the_next_agent(self, folder: Path) -> None:
        spool = self.spool(folder)
        assert self.look(spool) == []
        self.write(folder, "a\nb")
        self.write(folder, "oops\n", "stderr.log")
        assert self.look(spool) == ["a", "oops"]
        assert self.look(spool) == []
        self.write(folder, "!\n")
        later = self.spool(folder)
        assert [(line.n, line.text) for line in later.window.all()] == [(1, "a"), (2, "oops")]
        assert self.look(later) == ["b!"]
        assert later.window.last == 3
        assert [line.stream for line in later.window.all()] == ["stdout", "stderr", "stdout"]

    def test_a_torn_write_repeats_no_number_that_a_reader_saw(self, folder: Path) -> None:
        spool = self.spool(folder)
        self.write(folder, "a\nb\n")
        self.look(spool)
        whole = (folder.parent / "spool").read_bytes()
        self.write(folder, "c\n")
        found, _following = spool.look()
        assert found[0].n == 3
        torn = (folder.parent / "spool").read_bytes()[: len(whole) + 9]
        (folder.parent / "spool").write_bytes(torn)
        # Nobody was given number 3, as its batch was not whole.
        later = self.spool(folder)
        assert later.window.last == 2
        assert self.look(later) == ["c"]

    def test_a_spool_of_nonsense_leaves_a_gap_rather_than_a_repetition(self, folder: Path) -> None:
        (folder.parent / "spool").write_bytes(b"\x00\x01nonsense")
        spool = self.spool(folder)
        self.write(folder, "a\n")
        assert self.look(spool) == ["a"]
        assert spool.window.first > 1_000_000

    def test_a_flood_is_counted_and_the_files_stay_short(self, folder: Path) -> None:
        bounds = Bounds(lines=10, size=10_000, file=2000, once=500)
        spool = self.spool(folder, bounds)
        self.write(folder, "before\n")
        self.look(spool)
        self.write(folder, "".join(f"{n:04}\n" for n in range(2000)))
        assert self.look(spool) == [f"{n:04}" for n in range(1990, 2000)]
        assert (spool.window.first, spool.window.last) == (1992, 2001)
        assert (folder / "logs/stdout.log").stat().st_size == 0
        kept = (folder / "logs/stdout.log.1").read_text()
        assert len(kept) == 1000
        assert kept.endswith("1999\n")
        self.write(folder, "after\n")
        assert self.look(spool) == ["after"]
        assert spool.window.last == 2002
        assert self.spool(folder, bounds).window.last == 2002

    def test_the_spool_is_bounded(self, folder: Path) -> None:
        bounds = Bounds(lines=10, size=1000)
        spool = self.spool(folder, bounds)
        for n in range(500):
            self.write(folder, f"line {n}\n")
            self.look(spool)
        assert (folder.parent / "spool").stat().st_size < 10_000
        later = self.spool(folder, bounds)
        assert (later.window.last, later.window.all()[-1].text) == (500, "line 499")

    def test_a_program_that_does_not_append_is_read_on_after_a_cut(self, folder: Path) -> None:
        spool = self.spool(folder, Bounds(file=20_000, once=100_000))
        with (folder / "logs/stdout.log").open("w") as file:
            file.write("x" * 99 + "\n")
            for _ in range(300):
                file.write("y" * 99 + "\n")
            file.flush()
            assert len(self.look(spool)) == 301
            file.write("z\n")
            file.flush()
            assert self.look(spool) == ["z"]

    def test_last_words_and_files_that_were_replaced(self, folder: Path) -> None:
        spool = self.spool(folder)
        self.write(folder, "old\n")
        self.look(spool)
        (folder / "logs/stdout.log").rename(folder / "logs/mine")
        self.write(folder, "new")
        assert self.look(spool) == []
        assert self.look(spool, final=True) == ["new"]

    def test_a_file_that_is_not_the_applications_own_is_neither_read_nor_cut(self, folder: Path) -> None:
        victim = folder.parent / "victim"
        victim.write_text("secret\n" * 100)
        spool = self.spool(folder, Bounds(file=10))
        log = folder / "logs/stdout.log"
        log.symlink_to(victim)
        assert self.look(spool) == []
        log.unlink()
        log.hardlink_to(victim)
        assert self.look(spool) == []
        log.unlink()
        os.mkfifo(log)
        assert self.look(spool) == []
        assert victim.read_text() == "secret\n" * 100

    def test_a_full_disk_loses_no_number(self, folder: Path) -> None:
        spool = self.spool(folder)
        # Nothing can be written at all: the spool's name is a folder's.
        (folder.parent / "spool").mkdir()
        self.write(folder, "a\n")
        assert self.look(spool) == ["a"]
        assert spool.unwritten
        (folder.parent / "spool").rmdir()
        self.write(folder, "b\n")
        assert self.look(spool) == ["b"]
        assert not spool.unwritten
        assert [line.text for line in self.spool(folder).window.all()] == ["a", "b"]


async def test_who_waits_is_woken_and_who_asks_for_nobodys_log_is_told(tmp_path: Path) -> None:
    import asyncio

    (tmp_path / "i/logs").mkdir(parents=True)
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines/stranger").touch()
    book = LogBook(tmp_path / "lines", Bounds())
    await book.follow("i", tmp_path / "i", None)
    await book.tidy()
    assert not (tmp_path / "lines/stranger").exists()
    assert await book.page("nobody", 0, 10, 30) is None
    page = await book.page("i", 0, 10, 0)
    assert page is not None
    assert (page.first, page.last, page.lines) == (1, 0, [])
    waiting = asyncio.create_task(book.page("i", 0, 10, 30))
    await asyncio.sleep(0)
    (tmp_path / "i/logs/stdout.log").write_text("a\n")
    await book.look()
    page = await waiting
    assert page is not None
    assert [line.text for line in page.lines] == ["a"]
    waiting = asyncio.create_task(book.page("i", 1, 10, 30))
    await asyncio.sleep(0)
    await book.drop("i")
    assert await waiting is None
    # Not a number, and less than nothing, are no reasons to wait.
    await book.follow("i", tmp_path / "i", None)
    assert await book.page("i", 99, -5, float("nan")) is not None
