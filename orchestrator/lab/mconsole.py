"""The management console of a User Mode Linux kernel: one datagram asks, datagrams answer (`uml_mconsole`'s protocol, version 2)."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from orchestrator.lab.errors import LabError

_MAGIC = 0xCAFEBABE
_VERSION = 2
_ROOM = 512
_REQUEST = struct.Struct(f"=III{_ROOM}s")
_REPLY = struct.Struct("=III")
_DEADLINE = 5.0


def request(command: str) -> bytes:
    """Return the datagram that asks for a command.

    Raises:
        LabError: the command is too long for one.
    """
    text = command.encode()
    if len(text) >= _ROOM:
        raise LabError(f"mconsole: a command has at most {_ROOM - 1} bytes")
    return _REQUEST.pack(_MAGIC, _VERSION, len(text), text)


def reply(datagram: bytes) -> tuple[bool, bool, str]:
    """Return (whether it failed, whether more comes, text) of an answer.

    Raises:
        LabError: this is no answer.
    """
    if len(datagram) < _REPLY.size:
        raise LabError(f"mconsole: an answer of {len(datagram)} bytes")
    failed, more, length = _REPLY.unpack_from(datagram)
    text = datagram[_REPLY.size :][:length].rstrip(b"\0")
    return bool(failed), bool(more), text.decode(errors="replace")


def ask(path: Path, command: str) -> str:
    """Give a kernel a command and return what it says.

    Args:
        path: the console's socket.
        command: `version`, `cad`, `halt`, ...

    Raises:
        LabError: nobody answers there, or the kernel refuses.
    """
    said = ""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_DEADLINE)
        try:
            # An empty name: the kernel of the host gives one, so that the answer finds its way.
            sock.bind("")
            sock.sendto(request(command), str(path))
            more = True
            while more:
                failed, more, text = reply(sock.recv(_REPLY.size + _ROOM))
                said += text
                if failed:
                    raise LabError(f"mconsole: {command}: {said}")
        except OSError as error:
            raise LabError(f"mconsole: {command}: {error}") from error
    return said
