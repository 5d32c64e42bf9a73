"""The lab's errors. `kind` is the word that crosses the socket; `status` is the HTTP status that carries it."""

from __future__ import annotations

from collections.abc import Sequence

from components.common.errors import IngotError


class LabError(IngotError):
    """The lab could not carry out a request."""

    kind = "failed"
    status = 500


class NotFoundError(LabError):
    """There is no lab, machine or image of that name."""

    kind = "not_found"
    status = 404


class ConflictError(LabError):
    """A request collides with an existing name, port, subnet, or an image in use."""

    kind = "conflict"
    status = 409


class BadRequestError(LabError):
    """The request itself is invalid: a bad name, an unknown image, a missing directory."""

    kind = "bad_request"
    status = 422


class NotReadyError(LabError):
    """A machine did not answer within its time; the text ends with the tail of its console."""

    kind = "not_ready"
    status = 504


class DaemonError(LabError):
    """The daemon cannot be reached or started."""

    kind = "daemon"
    status = 503


class PreflightError(LabError):
    """A lab cannot be raised on this host as it is; all reasons are in `problems`, one sentence each."""

    kind = "preflight"
    status = 409

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class CommandError(LabError):
    """A program of the host failed; its name, exit status and the end of its output are in the text."""

    def __init__(self, argv: Sequence[str], status: int, output: str) -> None:
        tail = " / ".join(output.strip().splitlines()[-5:]) or "no output"
        super().__init__(f"{' '.join(argv)}: exit status {status}: {tail}")
        self.argv = tuple(argv)
        self.exit_status = status
        self.output = output


KINDS: dict[str, type[LabError]] = {
    error.kind: error
    for error in (LabError, NotFoundError, ConflictError, BadRequestError, NotReadyError, DaemonError)
}
