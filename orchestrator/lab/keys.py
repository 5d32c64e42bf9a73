"""SSH keys: one pair per lab, one host key per machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.common.filesystem.files import PUBLIC, write_atomically
from orchestrator.lab.host.run import run

PRIVATE = "id_ed25519"
KNOWN_HOSTS = "known_hosts"


def generate(comment: str) -> tuple[str, str]:
    """Return a new private key and its public half (one line).

    Raises:
        CommandError: ssh-keygen is missing or failed.
    """
    with tempfile.TemporaryDirectory(prefix="ingot-lab-") as folder:
        path = Path(folder, "key")
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
        return path.read_text(), path.with_suffix(".pub").read_text().strip()


def ensure_pair(folder: Path, comment: str) -> str:
    """Make the folder's key pair where there is none; return the public half."""
    private = folder / PRIVATE
    public = private.with_suffix(".pub")
    if not public.is_file():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret, shown = generate(comment)
        write_atomically(private, secret)
        # The pair is there once its public half is.
        write_atomically(public, f"{shown}\n", mode=PUBLIC)
    return public.read_text().strip()
