"""A server of a folder over HTTP/1.1: GET and HEAD, entity tags, one range; of files that start with a dot those in `.well-known`.

It is part of the droplet and so uses the standard library only. All files of a droplet have the same date, so
caches work by content: `ETag` and `If-None-Match`.
"""

from __future__ import annotations

import hashlib
import http.server
import mimetypes
import os
import re
import sys
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

# More digits than a file has bytes are no range.
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})$")
_CHUNK = 256 * 1024
_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml", "application/xml")


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "ingot-static"
    sys_version = ""
    timeout = 75
    root = Path()
    tags: dict[Path, str] = {}  # noqa: RUF012 - one for all connections, on purpose: files do not change here

    def do_GET(self) -> None:
        """Answer with a file, a redirect to a folder's own address, or 404."""
        path = unquote(urlsplit(self.path).path)
        parts = [p for p in path.split("/") if p]
        # RFC 8615: the folder of certificates' and other services' proofs.
        hidden = parts[1:] if parts[:1] == [".well-known"] else parts
        if "\0" in path or any(p.startswith(".") for p in hidden):
            self._not_found()
            return
        target = self.root.joinpath(*parts)
        if target.is_dir():
            if not path.endswith("/"):
                self._empty(HTTPStatus.MOVED_PERMANENTLY, ("Location", quote("/" + "/".join(parts) + "/")))
                return
            target /= "index.html"
        if not target.is_file() or not self._may_show(target.resolve()):
            self._not_found()
            return
        self._file(target)

    def _may_show(self, landing: Path) -> bool:
        """Return whether a file is one of the pages, or a link of theirs leads to it in the application's folder."""
        if landing.is_relative_to(self.root):
            return True
        app = Path.cwd().resolve()
        return landing.is_relative_to(app) and not any(
            p.startswith(".") for p in landing.relative_to(app).parts
        )

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Write nothing for a request: the router counts them, and an instance's disk is small."""

    def _file(self, target: Path) -> None:
        tag = self._tag(target)
        if tag in (t.strip() for t in self.headers.get("If-None-Match", "").split(",")):
            self._empty(HTTPStatus.NOT_MODIFIED, ("ETag", tag))
            return
        with target.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            span = _span(self.headers.get("Range", ""), size)
            if span is not None and not span:
                self._empty(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, ("Content-Range", f"bytes */{size}"))
                return
            headers = [("ETag", tag), ("Accept-Ranges", "bytes")]
            if span:
                headers.append(("Content-Range", f"bytes {span.start}-{span.stop - 1}/{size}"))
                file.seek(span.start)
            status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
            self._send(status, file, len(span) if span else size, _type(target), headers)

    def _not_found(self) -> None:
        page = self.root / "404.html"
        if page.is_file():
            with page.open("rb") as file:
                self._send(HTTPStatus.NOT_FOUND, file, page.stat().st_size, _type(page), [])
            return
        text = b"404 Not Found\n"
        self._send(HTTPStatus.NOT_FOUND, BytesIO(text), len(text), "text/plain; charset=utf-8", [])

    def _empty(self, status: HTTPStatus, header: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header(*header)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(
        self, status: HTTPStatus, body: BinaryIO, length: int, kind: str, headers: list[tuple[str, str]]
    ) -> None:
        self.send_response(status)
        for header in (("Content-Type", kind), ("Content-Length", str(length)), *headers):
            self.send_header(*header)
        self.end_headers()
        if self.command == "HEAD":
            return
        while length > 0 and (block := body.read(min(_CHUNK, length))):
            self.wfile.write(block)
            length -= len(block)

    def _tag(self, target: Path) -> str:
        if target not in self.tags:
            with target.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False))
            self.tags[target] = f'"{digest.hexdigest()}"'
        return self.tags[target]


class Server(http.server.ThreadingHTTPServer):
    """A server with a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that went away; the library prints a traceback for each."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _span(header: str, size: int) -> range | None:
    """Return a single byte range; None for no range (or one to ignore), an empty one for one that cannot be satisfied."""
    found = _RANGE.match(header.strip())
    if not found or found.group(1) == found.group(2) == "":
        return None
    first, last = found.groups()
    if first == "":
        return range(max(size - int(last), 0), size)
    return range(int(first), min(int(last), size - 1) + 1 if last else size)


def _type(target: Path) -> str:
    kind = mimetypes.guess_type(target.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith(_TEXT) else kind


def main() -> None:
    """Serve the folder named as argument on VCAP_APP_PORT."""
    Handler.root = Path(sys.argv[1]).resolve()
    with Server(("0.0.0.0", int(os.environ["VCAP_APP_PORT"])), Handler) as server:  # noqa: S104 - routers ask from elsewhere
        server.serve_forever()


if __name__ == "__main__":
    main()
