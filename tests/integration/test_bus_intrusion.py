"""What `make drill-intrusion` says to the bus, said to a server of its own; and that the drill's tables and the docs hang together."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

from tests.integration.common_rig import NatsServer
from tests.lab.intrusion import bus, guests, probe, runner, steps
from tests.lab.intrusion.attempts import Bus, Guest, Step

ROOT = Path(__file__).resolve().parents[2]


def said(server: NatsServer, row: Bus) -> str:
    """Say a row's lines on a connection of its own; gives what the server said."""
    user = row.who.removeprefix("bus: ")
    hello = {"verbose": False, "user": user, "pass": user}
    with socket.create_connection(("127.0.0.1", server.port), 20) as sock:
        text = ""
        # What is denied may be said after the answer to a first question.
        for lines in ([f"CONNECT {json.dumps(hello)}", *row.lines, "PING"], ["PING"]):
            sock.sendall("".join(line + "\r\n" for line in lines).encode())
            before = text.count("PONG")
            while text.count("PONG") == before and (data := sock.recv(65536)):
                text += data.decode()
    return text


def test_the_bus_refuses_what_the_drill_says_to_it(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, users=True)
    server.start()
    try:
        rows = [row for row in bus.table() if isinstance(row, Bus)]
        assert len(rows) > 60
        taken = [f"{row.who}: {row.name}" for row in rows if "Permissions Violation" not in said(server, row)]
    finally:
        server.stop()
    assert taken == []


def test_the_tables_of_the_drill_can_be_carried_out() -> None:
    attempts = runner.tables()
    assert len({(a.who, a.name) for a in attempts}) == len(attempts) >= 120
    for attempt in attempts:
        if isinstance(attempt, Step):
            assert callable(getattr(steps, attempt.act)), attempt.name
        if isinstance(attempt, Guest):
            names = compile(attempt.code, attempt.name, "eval").co_names
            assert names, attempt.name
    first = {re.split(r"\W", a.code)[0] for a in attempts if isinstance(a, Guest)}
    builtin = {"any", "os", "socket", "time", "LIBC", ""}
    assert {name for name in first - builtin if not hasattr(probe, name)} == set()


def test_what_is_not_defended_stands_in_the_docs_and_in_the_table() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    assert "abstract socket" in page.partition("## What is not defended")[2]
    assert set(guests.UNDEFENDED) <= {attempt.name for attempt in guests.table()}


def test_what_is_accepted_stands_in_the_docs() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    for row in bus.ACCEPTED:
        for subject in re.findall(r"[a-z]+\.[a-z_*.>]*[a-z*>]|_INBOX_\S+", row.name):
            assert f"`{subject}`" in page, f"{row.who}: {subject}"
