"""Logs are JSON lines and hold no secret, whoever writes them."""

import io
import json
import logging
import sys
import threading

import pytest
import structlog

from components.common import log
from components.common.config import BusConfig


@pytest.fixture
def lines(monkeypatch):
    """Configure as a daemon does, and put everything back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    log.configure("sample", "info", index=3)

    def read():
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield read
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_says_who_when_and_what(lines):
    log.get("a.module").info("thing_done", count=2)
    (line,) = lines()
    assert (line["event"], line["count"], line["component"], line["index"]) == ("thing_done", 2, "sample", 3)
    assert (line["level"], line["logger"]) == ("info", "a.module")
    assert line["timestamp"].endswith("Z")


def test_secrets_are_masked_at_any_depth(lines):
    log.get("m").info(
        "signed_in",
        password="hidden-1",
        nested={"api_key": "hidden-2", "list": [{"Authorization": "hidden-3"}], "kept": "shown"},
        db_password="hidden-4",
        credentials=["u", "hidden-5"],
        token="hidden-6",
    )
    (line,) = lines()
    assert "hidden" not in json.dumps(line)
    assert line["nested"]["kept"] == "shown"
    assert line["password"] == log.MASK


def test_the_standard_librarys_records_are_lines_too(lines):
    logging.getLogger("library").warning("odd %s", "thing")
    (line,) = lines()
    assert (line["event"], line["component"], line["level"]) == ("odd thing", "sample", "warning")


def sign_in(given):
    raise RuntimeError(f"boom after {len(given.password)} characters")


def test_an_exception_is_one_line_and_does_not_show_what_its_frames_hold(lines):
    try:
        sign_in(BusConfig(urls=[], password="hidden-7"))
    except RuntimeError:
        log.get("m").exception("failed")
    (line,) = lines()
    text = json.dumps(line)
    assert "boom" in text
    assert "sign_in" in text
    assert "hidden" not in text


def test_what_is_below_the_level_is_not_written(lines):
    log.get("m").debug("quiet")
    assert lines() == []


def test_threads_say_who_they_are(lines):
    thread = threading.Thread(target=lambda: log.get("m").info("from_a_thread"))
    thread.start()
    thread.join()
    (line,) = lines()
    assert line["component"] == "sample"


def test_a_password_in_an_address_is_masked(lines):
    log.get("m").info(
        "fetched", uri="http://staging:hid%2Fden@10.0.0.5:9022/x", list=["nats://bus:hidden@h:4222"]
    )
    log.get("m").info("seen", uri="http://10.0.0.5:9022/a@b:c", text="user@host: x")
    first, second = lines()
    assert "hid" not in json.dumps(first)
    assert first["uri"] == "http://staging:***@10.0.0.5:9022/x"
    assert (second["uri"], second["text"]) == ("http://10.0.0.5:9022/a@b:c", "user@host: x")


def test_what_was_written_is_kept_as_it_went_out(lines):
    log.get("m").warning("kept", password="hidden-7", number=len(log.RING.lines()))
    assert [json.loads(text) for text in log.RING.lines(contains='"kept"', limit=1)] == lines()
    assert "hidden" not in str(log.RING.lines())
