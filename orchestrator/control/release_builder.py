"""The builder of a release: all parts of Ingot that a managed machine needs, in one folder with checksums.

`build/releases/<version>/` holds `wheels/py<NN>/` (ours and every dependency at the versions of `constraints.txt`), `lua/` (the
router's nginx side), one archive `py<NN>.tar` per target Python (what the `release` role pushes: one file instead of hundreds),
`py<NN>-control.tar` with what machines that run plays need beside it, `plays/` (the playbooks and roles that install and roll this
very release; they stay on the control host), and `RELEASE.json`. Its digests depend on content alone, so an unchanged checkout gives
the same release and a converge changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from components.common.errors import IngotError
from components.common.version import VERSION
from orchestrator.release_folder import MANIFEST, PLAYS

ROOT = Path(__file__).resolve().parents[2]
# Debian 12 and 13.
PYTHONS = ("311", "313")
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_26_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
# pip installs the rest on machines that have none; setuptools builds Ingot's own wheel. Both as pinned in
# constraints.txt.
INSTALLER, BUILDER = "pip", "setuptools"
# Extras of pyproject.toml that some machines get beside the rest.
EXTRAS = ("control",)
# The mark of a complete wheel in the cache.
_WHOLE = "complete"
_LUA = Path("components/router/lua")
_SOURCES = ("components", "orchestrator", "pyproject.toml", "README.md", "LICENSE")
# With the order of a roll, which the playbooks share with the orchestrator.
_PLAYS = ("playbooks", "roles", "ansible.cfg", "orchestrator/rules/roll_order.py")
_VERSION = re.compile(r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")
# The earliest time a zip archive can hold; a wheel's own time would make every build different.
_EPOCH = "315532800"


class ReleaseError(IngotError):
    """A release cannot be built; the text has the remedy."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(files: Mapping[str, str]) -> str:
    """Return one digest for a set of files.

    Args:
        files: SHA-256 in hex by relative path.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def digests_below(folder: Path, base: Path | None = None) -> dict[str, str]:
    """Return the digest of every file below a folder, by its path relative to `base` (by default the folder)."""
    base = base or folder
    files = (
        p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".pyc"
    )
    return {p.relative_to(base).as_posix(): file_digest(p) for p in files}


def source_digest(root: Path, names: Iterable[str] = (*_SOURCES, *_PLAYS, "constraints.txt")) -> str:
    """Return the digest of all sources that decide the content of a release, or of the named ones."""
    files: dict[str, str] = {}
    for name in names:
        path = root / name
        if path.is_dir():
            files |= digests_below(path, root)
        elif path.is_file():
            files[name] = file_digest(path)
    return content_digest(files)


def requirements(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the requirements of managed machines and the installer from `pyproject.toml`, and the additions of each extra.

    Raises:
        ReleaseError: there is no readable pyproject.toml.
    """
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        offered = project.get("optional-dependencies", {})
        return [*project["dependencies"], INSTALLER], {e: offered[e] for e in EXTRAS if e in offered}
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ReleaseError(f"{root / 'pyproject.toml'}: not a project's description: {error}") from error


def write_archive(target: Path, folder: Path, members: Iterable[tuple[Path, str]]) -> None:
    """Write files as a tar archive that depends on their names and contents alone.

    Args:
        target: the archive.
        folder: the base of the sources' paths.
        members: (path below `folder`, name in the archive); a directory stands for everything below it.
    """
    found: dict[str, Path] = {}
    for source, name in members:
        path = folder / source
        if path.is_dir():
            found |= {f"{name}/{p.relative_to(path).as_posix()}": p for p in path.rglob("*") if p.is_file()}
        else:
            found[name] = path
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        # A directory entry lets tar empty the directory of an earlier unpacking first.
        for name in sorted({part for n in found for part in _parents(n)}):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, path in sorted(found.items()):
            entry = tarfile.TarInfo(name)
            content = path.read_bytes()
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def is_current(folder: Path, source: str, pythons: Sequence[str]) -> bool:
    """Return whether the release in this folder is undamaged and was built from these sources for all of these Pythons."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        targets = [manifest["targets"][p] for p in pythons]
        archives = [a for t in targets for a in (t, *t["extras"].values())]
        return (
            manifest["source"] == source
            and manifest[PLAYS] == content_digest(digests_below(folder / PLAYS))
            and all(file_digest(folder / a["archive"]) == a["sha256"] for a in archives)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def build(root: Path, version: str, out: Path, pythons: Sequence[str], cache: Path) -> dict[str, Any]:
    """Build a release, or leave it alone where nothing changed.

    Args:
        root: the checkout.
        version: the release's name.
        out: the folder of releases; the release is `out / version`.
        pythons: targets such as `311`; targets that are there already stay only where nothing else changed.
        cache: keeps downloads between builds.

    Returns:
        The manifest as in `RELEASE.json`.

    Raises:
        ReleaseError: a bad name or target, or a download or a build that failed.
    """
    if not _VERSION.match(version):
        raise ReleaseError(
            f"version {version!r}: must be letters, digits, dots, underscores and hyphens, 64 at most"
        )
    if bad := [p for p in pythons if not re.fullmatch(r"3\d{1,2}", p)]:
        raise ReleaseError(f"python {', '.join(bad)}: must be 3 and the minor number, such as {PYTHONS[0]}")
    out.mkdir(parents=True, exist_ok=True)
    folder = out / version
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        source = source_digest(root)
        if not is_current(folder, source, pythons):
            wanted = sorted({*pythons, *_kept_targets(folder, source)})
            _replace(folder, _assemble(root, version, out, source=source, pythons=wanted, cache=cache))
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def _kept_targets(folder: Path, source: str) -> list[str]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(manifest["targets"]) if manifest.get("source") == source else []


def _assemble(
    root: Path, version: str, out: Path, *, source: str, pythons: Sequence[str], cache: Path
) -> Path:
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=out))
    try:
        work.chmod(0o755)
        shutil.copytree(root / _LUA, work / "lua", ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True)
        _copy(root, _PLAYS, work / PLAYS)
        with tempfile.TemporaryDirectory(prefix="ingot-wheel-") as scratch:
            ours = _own_wheel(root, cache, Path(scratch))
            targets = {python: _target(root, work, python, ours=ours, cache=cache) for python in pythons}
        manifest = {
            "version": version,
            "commit": _commit(root),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "source": source,
            PLAYS: content_digest(digests_below(work / PLAYS)),
            "targets": targets,
            "files": digests_below(work),
        }
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return work


def _target(root: Path, work: Path, python: str, *, ours: Path, cache: Path) -> dict[str, Any]:
    """Write wheels and archives for one Python; return its part of the manifest."""
    base, offered = requirements(root)
    wheels = work / "wheels" / f"py{python}"
    shutil.copytree(_download(root, python, cache / f"py{python}", base), wheels)
    shutil.copy2(ours, wheels)
    archive = work / f"py{python}.tar"
    write_archive(archive, work, [(wheels.relative_to(work), "wheels"), (Path("lua"), "lua")])
    extras = {}
    for extra, wanted in offered.items():
        name = f"py{python}-{extra}"
        folder = work / "wheels" / name
        # Resolved together with the rest, so that both fit; packages that all machines get are not added again.
        shutil.copytree(_download(root, python, cache / name, [*base, *wanted]), folder)
        for known in wheels.iterdir():
            (folder / known.name).unlink(missing_ok=True)
        write_archive(work / f"{name}.tar", work, [(folder.relative_to(work), extra)])
        extras[extra] = {
            "archive": f"{name}.tar",
            "sha256": file_digest(work / f"{name}.tar"),
            "digest": content_digest(digests_below(folder)),
        }
    return {
        "archive": archive.name,
        "sha256": file_digest(archive),
        "digest": content_digest(digests_below(wheels) | digests_below(work / "lua", work)),
        "installer": next(wheels.glob(f"{INSTALLER}-*.whl")).name,
        "extras": extras,
    }


def _copy(root: Path, names: Iterable[str], target: Path) -> None:
    """Copy those files and folders of the checkout that exist, without bytecode."""
    target.mkdir()
    for name in names:
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        elif (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def _replace(folder: Path, fresh: Path) -> None:
    old = folder.with_name(f".old-{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _own_wheel(root: Path, cache: Path, scratch: Path) -> Path:
    """Return Ingot's own wheel in `scratch`: a copy of the last one where the sources are the same.

    A release's name is no part of it. It is built from a copy: building in the checkout leaves deleted modules behind.
    """
    own = cache / "own"
    kept = own / source_digest(root, (*_SOURCES, "constraints.txt"))[:12]
    own.mkdir(parents=True, exist_ok=True)
    # Each folder of a release has its own lock, and this folder is shared by all of them.
    with (cache / ".own.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / _WHOLE).is_file():
            for old in own.iterdir():
                shutil.rmtree(old)
            _build_wheel(root, cache, scratch / "source", kept)
            (kept / _WHOLE).touch()
        return Path(shutil.copy2(next(kept.glob("*.whl")), scratch))


def _build_wheel(root: Path, cache: Path, copy: Path, result: Path) -> None:
    tools = _cached(cache / "build", [BUILDER], root, [])
    _copy(root, _SOURCES, copy)
    options = ["--no-deps", "--no-index", "--find-links", str(tools), "--wheel-dir", str(result)]
    _pip(["wheel", *options, str(copy)])


def _download(root: Path, python: str, cache: Path, wanted: Sequence[str]) -> Path:
    target = ["--python-version", f"{python[0]}.{python[1:]}", "--implementation", "cp"]
    target += [f for abi in (f"cp{python}", "abi3", "none") for f in ("--abi", abi)]
    target += [f for platform in PLATFORMS for f in ("--platform", platform)]
    return _cached(cache, wanted, root, target)


def _cached(folder: Path, wanted: Sequence[str], root: Path, options: Sequence[str]) -> Path:
    """Return a folder with these wheels, downloaded anew only where the packages or the constraints changed."""
    constraints = root / "constraints.txt"
    key = hashlib.sha256("\n".join([*wanted, *options, constraints.read_text("utf-8")]).encode()).hexdigest()
    wheels, stamp = folder / key[:12], folder / f"{key[:12]}.complete"
    if not stamp.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        wheels.mkdir(parents=True)
        _pip(
            [
                "download",
                "--only-binary=:all:",
                *options,
                "--dest",
                str(wheels),
                "-c",
                str(constraints),
                *wanted,
            ]
        )
        stamp.touch()
    return wheels


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"pip {arguments[0]} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")


def _commit(root: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], check=False, capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else ""


@click.command()
@click.option("--version", default=VERSION, help="Name of the release; by default, the checkout's version.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=ROOT / "build/releases", help="Folder of releases."
)
@click.option(
    "--python", "pythons", multiple=True, default=PYTHONS, help="Target, such as 311; may be given again."
)
@click.option(
    "--cache", type=click.Path(path_type=Path), default=ROOT / "build/cache/wheels", help="Kept downloads."
)
def main(version: str, out: Path, pythons: tuple[str, ...], cache: Path) -> None:
    """Build a release of this checkout."""
    started = time.monotonic()
    try:
        manifest = build(ROOT, version, out, pythons, cache)
    except IngotError as error:
        raise click.ClickException(str(error)) from error
    targets = ", ".join(f"python {p} {t['digest'][:12]}" for p, t in sorted(manifest["targets"].items()))
    click.echo(f"{out / version}: {targets} ({time.monotonic() - started:.1f} s)")


if __name__ == "__main__":
    main()
