"""Links inside a tree: where each one leads, computed from names alone, in bounded time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

# Links on the way of one, as in Linux (path_resolution(7)).
MOST_FOLLOWED = 40
_LONGEST_PART = 255
# Steps for all links of a tree together: a hundred thousand links of twenty parts each.
_MOST_STEPS = 2_000_000


class LinkError(Exception):
    """A link leads out of its tree or to itself; `path` is the link's, `problem` the reason."""

    def __init__(self, path: PurePosixPath, problem: str) -> None:
        super().__init__(f"{path} is a link {problem}")
        self.path = path
        self.problem = problem


def check_links(links: Mapping[PurePosixPath, str]) -> None:
    """Check that no link leaves the tree, by itself or by way of others. A link may lead to a name that is not there.

    Args:
        links: the targets by the links' paths in the tree. No path leads through a link.

    Raises:
        LinkError: a target is blank, absolute or no name of a file, a step leaves the tree, or a link leads to itself.
    """
    targets: dict[tuple[str, ...], tuple[str, ...]] = {}
    for path, target in links.items():
        if not target or "\0" in target or target.startswith("/"):
            raise LinkError(path, f"to {target[:200]!r}, which is not a relative path")
        parts = PurePosixPath(target).parts
        if any(len(part.encode(errors="surrogateescape")) > _LONGEST_PART for part in parts):
            raise LinkError(path, "to a name that is too long")
        targets[path.parts] = parts
    left = _MOST_STEPS
    for path in links:
        left -= _walk(path, targets, left)


def _walk(path: PurePosixPath, targets: Mapping[tuple[str, ...], tuple[str, ...]], most: int) -> int:
    """Follow a link; return the number of steps."""
    place = list(path.parts[:-1])
    pending = list(reversed(targets[path.parts]))
    followed, steps = 1, 1
    while pending:
        # Looking a place up costs as many steps as it is deep.
        steps += 1 + len(place) // 8
        if steps > most:
            raise LinkError(path, "among too many that lead to each other")
        part = pending.pop()
        if part == "..":
            if not place:
                raise LinkError(path, "out of the application's folder")
            place.pop()
            continue
        place.append(part)
        target = targets.get(tuple(place))
        if target is not None:
            followed += 1
            if followed > MOST_FOLLOWED:
                raise LinkError(path, "that leads to itself, or through too many others")
            place.pop()
            pending.extend(reversed(target))
    return steps
