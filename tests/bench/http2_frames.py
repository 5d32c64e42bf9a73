"""The part of HTTP/2 that sends requests which no library would: frames with given content, headers uncompressed."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
DATA, HEADERS, RESET, GOAWAY = 0, 1, 3, 7
END_STREAM, END_HEADERS = 1, 4
# Indexed answers nginx gives (RFC 7541, appendix A).
_STATUS = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}

Headers = Sequence[tuple[bytes, bytes]]


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, out = len(value) - 127, b"\x7f"
    while rest >= 128:
        out += bytes((rest % 128 + 128,))
        rest //= 128
    return out + bytes((rest,)) + value


def head(headers: Headers, *, end: bool) -> bytes:
    """Return a HEADERS frame; with `end`, no body follows."""
    block = b"".join(b"\x10" + _text(name) + _text(value) for name, value in headers)
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), block)


def data(body: bytes, *, end: bool) -> bytes:
    """Return a DATA frame."""
    return frame(DATA, END_STREAM if end else 0, body)


def connect(port: int, name: str, seconds: float) -> ssl.SSLSocket:
    """Return a new connection that has begun HTTP/2."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    secured = context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), seconds), server_hostname=name
    )
    secured.sendall(PREFACE)
    return secured


def answer(secured: ssl.SSLSocket) -> str:
    """Listen until the stream is answered or broken; return the status, or the kind of the break.

    Raises:
        TimeoutError: no frame came within the connection's timeout.
    """
    buffer = b""
    while True:
        while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
            length, kind = int.from_bytes(buffer[:3], "big"), buffer[3]
            payload, buffer = buffer[9 : 9 + length], buffer[9 + length :]
            if kind == HEADERS:
                # An update of the table's size may come before.
                payload = payload.lstrip(b"\x20")
                return str(_STATUS.get(payload[0]) or payload[2:5].decode())
            if kind == RESET:
                return f"stream reset {int.from_bytes(payload, 'big')}"
            if kind == GOAWAY:
                return f"connection ended {int.from_bytes(payload[4:8], 'big')}"
        try:
            part = secured.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            part = b""
        if not part:
            return "closed"
        buffer += part
