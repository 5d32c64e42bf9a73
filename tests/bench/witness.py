"""An application that reads requests strictly, and records the bytes it received."""

from __future__ import annotations

import socketserver
import threading
from typing import cast


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        witness = cast("_Server", self.server).witness
        while head := self._head():
            witness.heads.append(head)
            try:
                self._body(head)
            except (ValueError, OSError):
                witness.broken += 1
                return
            witness.whole += 1
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _head(self) -> bytes:
        lines = b""
        try:
            while line := self.rfile.readline():
                lines += line
                if line == b"\r\n":
                    return lines
        except OSError:
            pass
        return b""

    def _exactly(self, count: int) -> None:
        if len(self.rfile.read(count)) != count:
            raise ValueError("the body is cut short")

    def _body(self, head: bytes) -> None:
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        self._exactly(int(fields.get(b"content-length", b"0")))
        if fields.get(b"transfer-encoding") == b"chunked":
            while size := int(self.rfile.readline(), 16):
                self._exactly(size + 2)
            self._exactly(2)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        super().__init__(("127.0.0.1", 0), _Handler)


class Witness:
    """Answers every whole request with 200.

    `heads` are the requests that began, `whole` is the number that came to their end, `broken` the number cut off before.
    """

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.whole = 0
        self.broken = 0
        self._server = _Server(self)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def settled(self) -> bool:
        """Return whether no request is on its way."""
        return len(self.heads) == self.whole + self.broken

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
