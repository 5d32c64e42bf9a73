"""The host's own Debian sources, translated to another suite. Pure: text in, lines of sources.list out.

A private data centre has its own mirror; the host already knows it, so the images are built from it and keep it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)"
)
_POCKETS = ("", "-updates", "-security")
_YES = ("yes", "true", "1")


@dataclass(frozen=True, slots=True)
class Source:
    """One archive and suite: `keyring` is a path or empty, `trusted` switches signatures off."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str = ""
    trusted: bool = False

    def line(self) -> str:
        """Return the one-line form of sources.list."""
        options = [f"signed-by={self.keyring}"] if self.keyring else []
        if self.trusted:
            options.append("trusted=yes")
        shown = f"[{' '.join(options)}] " if options else ""
        return f"deb {shown}{self.uri} {self.suite} {' '.join(self.components)}"


def parse_list(text: str) -> Iterator[Source]:
    """Yield the sources of a `*.list` file."""
    for raw in text.splitlines():
        if not (match := _ONE_LINE.fullmatch(raw.split("#", 1)[0].strip())):
            continue
        options = dict(
            item.split("=", 1)
            for item in (match["options"] or "").split()
            if "=" in item and "+=" not in item
        )
        yield Source(
            uri=match["uri"],
            suite=match["suite"],
            components=tuple(match["components"].split()),
            keyring=_keyring(options.get("signed-by", "")),
            trusted=options.get("trusted", "") in _YES,
        )


def parse_deb822(text: str) -> Iterator[Source]:
    """Yield the sources of a `*.sources` file."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if fields.get("enabled", "yes") not in _YES or "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(
                    uri=uri,
                    suite=suite,
                    components=tuple(fields.get("components", "").split()),
                    keyring=_keyring(fields.get("signed-by", "")),
                    trusted=fields.get("trusted", "") in _YES,
                )


def for_suite(sources: Iterable[Source], host_suite: str, suite: str) -> list[Source]:
    """Return Debian's own archives (suite, updates, security; component main), translated to the suite.

    Other archives of the host (a vendor's, a colleague's) are left out: a managed machine has none of them.
    """
    pockets = {f"{host_suite}{pocket}": f"{suite}{pocket}" for pocket in _POCKETS}
    found = [
        Source(source.uri, pockets[source.suite], ("main",), source.keyring, source.trusted)
        for source in sources
        if source.suite in pockets and "main" in source.components
    ]
    return list(dict.fromkeys(found))


def codename(os_release: str) -> str:
    """Return VERSION_CODENAME of an os-release file, or an empty string."""
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release, re.MULTILINE)
    return match.group(1) if match else ""


def _fields(stanza: str) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            fields[key] = f"{fields.get(key, '')} {line.strip()}".strip()
        elif ":" in line:
            key, value = line.split(":", 1)
            key = key.strip().lower()
            fields[key] = value.strip()
    return fields


def _keyring(value: str) -> str:
    # A key may also be given by its fingerprint or inline; then apt's usual keyrings must do.
    return value if value.startswith("/") else ""
