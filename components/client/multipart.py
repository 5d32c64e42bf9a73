"""An upload in the format of `vmc` (protocol 1.9), streamed, with a length known in advance."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """The parts `_method`, `application` (a zip), `resources` and `as_is`, in this order.

    `as_is` says that the zip is the folder as it is on disk, with dot files and links; controllers before it pass it over.

    Args:
        name: the application's; the file part is called `<name>.zip`.
        archive: the zip.
        resources: `[{"size", "sha1", "fn"}]` of the files the controller has already, `fn` relative.
        boundary: between the parts.
    """

    name: str
    archive: Path
    resources: Sequence[Mapping[str, Any]]
    boundary: str

    @classmethod
    def of(cls, name: str, archive: Path, resources: Sequence[Mapping[str, Any]]) -> Upload:
        """Return an upload with a boundary of its own."""
        return cls(name, archive, resources, secrets.token_hex(16))

    @property
    def headers(self) -> dict[str, str]:
        """Return the content headers; with a length, never chunked."""
        length = len(self._head()) + self.archive.stat().st_size + len(self._tail())
        return {
            "Content-Type": f"multipart/form-data; boundary={self.boundary}",
            "Content-Length": str(length),
        }

    def body(self, sent: Callable[[int, int], None]) -> Iterator[bytes]:
        """Yield the body; call `sent(bytes so far, bytes in all)` as the archive goes out."""
        total = self.archive.stat().st_size
        yield self._head()
        done = 0
        with self.archive.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
                done += len(chunk)
                sent(done, total)
        yield self._tail()

    def _head(self) -> bytes:
        return (
            f"--{self.boundary}\r\n"
            'Content-Disposition: form-data; name="_method"\r\n\r\nput\r\n'
            f"--{self.boundary}\r\n"
            f'Content-Disposition: form-data; name="application"; filename="{self.name}.zip"\r\n'
            "Content-Type: application/zip\r\n\r\n"
        ).encode()

    def _tail(self) -> bytes:
        return (
            f"\r\n--{self.boundary}\r\n"
            'Content-Disposition: form-data; name="resources"\r\n\r\n'
            f"{json.dumps(list(self.resources))}\r\n--{self.boundary}\r\n"
            'Content-Disposition: form-data; name="as_is"\r\n\r\ntrue\r\n'
            f"--{self.boundary}--\r\n"
        ).encode()
