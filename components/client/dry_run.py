"""`ingot push --dry-run`: what would be sent, what stays behind, and what stops the push, each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.client import output, package
from components.client.units import format_bytes


def report(name: str, folder: Path) -> dict[str, Any]:
    """Look at a folder; nothing is sent.

    Returns:
        `{"name", "folder", "send": [{"name", "kind", "size", "target"}], "ignored": [{"name", "reason"}], "refused": [...]}`,
        where `kind` is `file`, `link` or `folder` (an empty one), and `target` is a link's.

    Raises:
        PackageError: the ignore file cannot be read.
    """
    found = package.survey(folder, package.ignore_rules(folder))
    return {
        "name": name,
        "folder": str(folder),
        "send": [
            {"name": entry.name, "kind": entry.kind.value, "size": entry.size, "target": entry.target or None}
            for entry in found.entries
        ],
        "ignored": [{"name": n, "reason": reason} for n, reason in sorted(found.ignored.items())],
        "refused": [{"name": n, "reason": reason} for n, reason in sorted(found.refused.items())],
    }


def show(found: dict[str, Any]) -> None:
    """Print a report as a table, and its sums."""
    rows = [("send", _size(one), _called(one), "") for one in found["send"]]
    for verdict in ("ignored", "refused"):
        rows += [(verdict, "", one["name"], one["reason"]) for one in found[verdict]]
    output.table(("VERDICT", "#SIZE", "NAME", "REASON"), rows, f"{found['folder']} is empty")
    files = [one for one in found["send"] if one["kind"] == package.Kind.FILE]
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    output.line(
        f"{found['name']}: {count}, {format_bytes(sum(one['size'] for one in files))};"
        f" {len(found['ignored'])} ignored, {len(found['refused'])} refused; nothing was sent"
    )


def _size(entry: dict[str, Any]) -> str:
    return format_bytes(entry["size"]) if entry["kind"] == package.Kind.FILE else str(entry["kind"])


def _called(entry: dict[str, Any]) -> str:
    return f"{entry['name']} -> {entry['target']}" if entry["target"] else str(entry["name"])
