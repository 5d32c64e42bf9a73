"""The check that a machine answers SSH with its own key, which is then pinned."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import paramiko

from components.common.errors import IngotError
from components.common.filesystem.files import PUBLIC, write_atomically
from orchestrator.config import SshConfig

_PORT = 22
# The time of one attempt: connect, exchange keys, log in. A booting machine refuses at once; an unreachable one is
# silent.
_TRY_SECONDS = 10.0
_PAUSE_SECONDS = 0.3
# The interval of messages while a machine does not answer.
_SAY_SECONDS = 15.0
# Its threads log every connection that a booting machine refuses.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class SshError(IngotError):
    """A machine is not verified; the text has the reason and the remedy."""


class HostKeyError(SshError):
    """A machine shows another host key than the known one."""


class _NotYetError(Exception):
    """This attempt failed, the next may succeed."""


@dataclass(frozen=True, slots=True)
class VerifiedHost:
    """A machine that accepted the login: its host key as in known_hosts (`ssh-ed25519 AAAA...`), and the seconds taken."""

    host_key: str
    fingerprint: str
    seconds: float


class SshVerifier:
    """The SSH check of machines; it writes the files `known_hosts` of the configuration (the first is read)."""

    def __init__(self, config: SshConfig) -> None:
        self._config = config
        self._files = [Path(f) for f in config.known_hosts]
        self._writing = threading.Lock()

    def wait_ready(
        self,
        name: str,
        address: str,
        *,
        expected: str = "",
        deadline: float | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> VerifiedHost:
        """Wait until a machine answers and accepts the login, check its host key, and pin it.

        Args:
            name: the machine's, for messages and as a second name in known_hosts.
            address: IPv4 address.
            expected: the key that its provider reports; empty: trust the first key seen.
            deadline: seconds; by default the configuration's.
            say: called with a line now and then while the machine does not answer.

        Raises:
            HostKeyError: another key than the known or the expected one.
            SshError: it did not answer, or does not accept the login.
        """
        seconds = self._config.deadline if deadline is None else deadline
        started = time.monotonic()
        said = started
        key = self._private_key()
        known = self.known(address) or expected.strip()
        while True:
            try:
                seen = self._try(name, address, key, known)
                break
            except _NotYetError as error:
                now = time.monotonic()
                if now - started >= seconds:
                    raise SshError(
                        f"{name} ({address}) did not accept the login within {seconds:.0f} s: {error}. See whether it boots "
                        f"(its provider's console), and whether {self._config.user} accepts {self._config.private_key}"
                    ) from error
                if now - said >= _SAY_SECONDS:
                    said = now
                    say(f"{name}: {error}; waiting up to {seconds - (now - started):.0f} s more")
                time.sleep(_PAUSE_SECONDS)
        if expected and not _same(seen, expected):
            raise self._changed(name, address, seen, expected, "its provider tells")
        self._pin(name, address, seen)
        return VerifiedHost(seen, fingerprint(seen), time.monotonic() - started)

    def known(self, address: str) -> str:
        """Return the pinned key of an address, or an empty text."""
        for line in _lines(self._files[0]):
            if self._host(address) in _hosts(line):
                return " ".join(line.split()[1:3])
        return ""

    def forget(self, address: str) -> None:
        """Remove the key of an address: the next machine there is another one."""
        self._rewrite(address, None)

    def _private_key(self) -> paramiko.PKey:
        path = self._config.private_key
        try:
            return paramiko.PKey.from_path(path)
        except (OSError, paramiko.SSHException, ValueError) as error:
            raise SshError(f"ssh.private_key: {path} cannot be used: {error}") from error

    def _try(self, name: str, address: str, key: paramiko.PKey, known: str) -> str:
        """Connect once.

        Returns:
            The host key the machine showed.
        """
        try:
            connection = socket.create_connection((address, self._config.port), timeout=_TRY_SECONDS)
        except OSError as error:
            raise _NotYetError(f"no answer on port {self._config.port} ({error})") from error
        # The transport closes the connection, also when it never started.
        with contextlib.closing(paramiko.Transport(connection)) as transport:
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = _TRY_SECONDS
            if known:
                _ask_for(transport, known.split(maxsplit=1)[0])
            try:
                transport.start_client(timeout=_TRY_SECONDS)
                seen = _text(transport.get_remote_server_key())
            except paramiko.ssh_exception.IncompatiblePeer as error:
                raise self._changed(name, address, "", known, "is pinned") from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise _NotYetError(f"no SSH on port {self._config.port} ({error or 'it hung up'})") from error
            # Before any credential is sent to it.
            if known and not _same(seen, known):
                raise self._changed(name, address, seen, known, "is known")
            self._log_in(transport, key)
        return seen

    def _log_in(self, transport: paramiko.Transport, key: paramiko.PKey) -> None:
        try:
            transport.auth_publickey(self._config.user, key)
            with contextlib.closing(transport.open_session(timeout=_TRY_SECONDS)) as session:
                session.settimeout(_TRY_SECONDS)
                session.exec_command("true")
                if (code := session.recv_exit_status()) != 0:
                    raise _NotYetError(f"its shell answers with status {code}")
        except paramiko.AuthenticationException as error:
            raise _NotYetError(
                f"{self._config.user} is not accepted with the orchestrator's key ({error})"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _NotYetError(f"the connection broke ({error or 'it hung up'})") from error

    def _changed(self, name: str, address: str, seen: str, known: str, why: str) -> HostKeyError:
        shown = f"the host key {fingerprint(seen)}" if seen else "no host key of the kind that is known"
        return HostKeyError(
            f"{name} ({address}) shows {shown}, but {fingerprint(known)} {why}. If it was installed anew on purpose, remove "
            f"it with `ssh-keygen -R '{self._host(address)}' -f {self._files[0]}` and try again; otherwise another machine "
            "answers there, and nothing was sent to it"
        )

    def _pin(self, name: str, address: str, key: str) -> None:
        self._rewrite(address, f"{self._host(address)},{self._host(name)} {key}")

    def _rewrite(self, address: str, fresh: str | None) -> None:
        """Replace an address's line in all files; other lines stay, and a file that has the line already is not touched."""
        host = self._host(address)
        with self._writing:
            for path in self._files:
                lines = _lines(path)
                kept = [line for line in lines if host not in _hosts(line)]
                wanted = kept if fresh is None else [*kept, fresh]
                if sorted(wanted) != sorted(lines):
                    _put(path, wanted)

    def _host(self, address: str) -> str:
        return address if self._config.port == _PORT else f"[{address}]:{self._config.port}"


def fingerprint(key: str) -> str:
    """Return a host key's fingerprint as OpenSSH prints it, with its type before it."""
    kind, _, rest = key.strip().partition(" ")
    try:
        blob = base64.b64decode(rest.split()[0], validate=True)
    except (ValueError, IndexError):
        return f"{kind} (unreadable)"
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"{kind} SHA256:{digest}"


def _ask_for(transport: paramiko.Transport, kind: str) -> None:
    """Ask the machine for its key of this kind; signatures of an RSA key have names of their own."""
    kinds = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
    options = transport.get_security_options()
    if wanted := [k for k in kinds if k in options.key_types]:
        options.key_types = wanted


def _same(one: str, other: str) -> bool:
    return one.split()[:2] == other.split()[:2]


def _text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SshError(f"{path}: {error.strerror}") from error


def _hosts(line: str) -> list[str]:
    words = line.split()
    return words[0].split(",") if len(words) >= 3 and not line.startswith("#") else []


def _put(path: Path, lines: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{line}\n" for line in lines), mode=PUBLIC)
    except OSError as error:
        raise SshError(f"{path}: host keys cannot be written here: {error.strerror}") from error
