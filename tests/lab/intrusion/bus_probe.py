"""Speaks to the bus with the passwords of its users, on the machine of the bus: `bus_probe.py WORK JSON`; prints JSON.

Runs with the machine's own Python.
"""

import json
import re
import socket
import sys
import time

TEXT = open("/etc/nats-server.conf").read()
PASSWORDS = dict(re.findall(r'user: "(\w+)"\s+password: "([^"]*)"', TEXT))


class Line:
    """A connection as one of the users."""

    def __init__(self, user):
        self._sock = socket.create_connection(("127.0.0.1", 4222), 5)
        self._text = ""
        wish = {"verbose": False, "pedantic": False, "user": user, "pass": PASSWORDS[user], "headers": True}
        self.say("CONNECT " + json.dumps(wish))
        self.settle()

    def say(self, *lines):
        """Say lines."""
        self._sock.sendall("".join(line + "\r\n" for line in lines).encode())

    def settle(self):
        """Give what the server has said by the time it has heard all."""
        self.say("PING")
        while "PONG" not in self._text:
            data = self._sock.recv(65536)
            if not data:
                break
            self._text += data.decode(errors="replace")
        said, self._text = self._text, ""
        return said

    def listen(self, seconds):
        """Give what arrives within some seconds."""
        found, end = "", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                break
            if not data:
                break
            if b"PING" in data:
                self.say("PONG")
            found += data.decode(errors="replace")
        return found


def rows(given):
    """Say each row's lines on a connection of its own."""
    said = []
    for user, lines in given:
        try:
            line = Line(user)
            line.say(*lines)
            # What is denied is said after the answer to a first question, as both come by the server's own order.
            said.append(line.settle() + line.settle())
        except OSError as error:
            said.append(f"-ERR {error}")
    return said


def publish(given):
    """Publish messages as a user."""
    line = Line(given["user"])
    for subject, body in given["messages"]:
        line.say(f"PUB {subject} {len(body.encode())}", body)
    return line.settle()


def overhear(given):
    """Give what a user hears while it says something."""
    line = Line(given["user"])
    line.say(*(f"SUB {subject} {number}" for number, subject in enumerate(given["subjects"], 1)))
    line.settle()
    line.say(*given["lines"])
    return line.listen(given["seconds"])


print(
    json.dumps({"rows": rows, "publish": publish, "overhear": overhear}[sys.argv[1]](json.loads(sys.argv[2])))
)
