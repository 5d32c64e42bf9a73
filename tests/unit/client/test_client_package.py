"""What of a folder is pushed."""

import os
import zipfile

import pytest

from components.client.errors import PackageError
from components.client.package import (
    EMPTY,
    Kind,
    collect,
    fingerprint,
    ignore_rules,
    split_known,
    survey,
    without_links,
    worth_asking,
    write_zip,
)


def make(folder, *names, content="x"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def names(folder):
    return [entry.name for entry in collect(folder, ignore_rules(folder))]


def test_what_nobody_means_to_push_stays(tmp_path):
    make(
        tmp_path,
        "wsgi.py",
        ".git/config",
        "a/__pycache__/x.pyc",
        "x.pyc",
        "b~",
        "#b#",
        ".hidden",
        "a/keep.log",
    )
    make(tmp_path, "env/pyvenv.cfg", "env/lib/x.py", ".venv/x")
    assert names(tmp_path) == [".hidden", "a/keep.log", "wsgi.py"]


@pytest.mark.parametrize("file", [".ingotignore", ".cfignore", ".vcapignore", ".vmcignore"])
def test_ignore_file_has_gitignores_syntax(tmp_path, file):
    make(tmp_path, "a.log", "keep.log", "build/x", "src/build/y", "docs/a/b.md", "docs/c.txt", "x.pyc")
    (tmp_path / file).write_text("# comment\n*.log\n!keep.log\n/build\ndocs/**/*.md\n!x.pyc\n")
    assert names(tmp_path) == ["docs/a", "docs/c.txt", "keep.log", "src/build/y", "x.pyc"]


def test_our_ignore_file_wins_over_the_old_one(tmp_path):
    make(tmp_path, "a", "b")
    (tmp_path / ".ingotignore").write_text("a\n")
    (tmp_path / ".vcapignore").write_text("b\n")
    assert names(tmp_path) == ["b"]


def test_links_stay_inside(tmp_path):
    folder = tmp_path / "app"
    make(folder, "real.txt")
    (folder / "link.txt").symlink_to("real.txt")
    assert names(folder) == ["link.txt", "real.txt"]
    make(tmp_path, "secret")
    (folder / "out").symlink_to("../secret")
    with pytest.raises(PackageError, match="out is a link out of the folder"):
        names(folder)
    (folder / ".ingotignore").write_text("out\n")
    assert names(folder) == ["link.txt", "real.txt"]


def entry_of(folder, name):
    (found,) = [entry for entry in collect(folder, ignore_rules(folder)) if entry.name == name]
    return found


@pytest.mark.parametrize(
    ("target", "pushed"), [("sub", "sub"), ("sub/x", "sub/x"), ("{here}/sub/x", "sub/x"), ("later", "later")]
)
def test_links_inside_the_folder_stay_links(tmp_path, target, pushed):
    make(tmp_path, "sub/x")
    (tmp_path / "link").symlink_to(target.format(here=tmp_path))
    entry = entry_of(tmp_path, "link")
    assert (entry.kind, entry.target) == (Kind.LINK, pushed)
    write_zip([entry], tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.getinfo("link").external_attr >> 16 == 0o120777
        assert archive.read("link").decode() == pushed


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("link", "leads to itself"),
        ("../app/sub", "by way of a place outside"),
        ("/etc/passwd", "out of the folder"),
    ],
)
def test_links_that_lead_out_are_refused(tmp_path, target, says):
    folder = tmp_path / "app"
    make(folder, "sub/x")
    (folder / "link").symlink_to(target)
    with pytest.raises(PackageError, match=says):
        names(folder)


def test_empty_folders_and_those_of_ignored_files_are_kept(tmp_path):
    (tmp_path / "uploads").mkdir()
    make(tmp_path, "cache/a.pyc", "a", "deep/er/b.pyc")
    assert names(tmp_path) == ["a", "cache", "deep/er", "uploads"]
    write_zip(collect(tmp_path, ignore_rules(tmp_path)), tmp_path.parent / "x.zip")
    with zipfile.ZipFile(tmp_path.parent / "x.zip") as archive:
        assert archive.namelist() == ["a", "cache/", "deep/er/", "uploads/"]


@pytest.mark.parametrize(
    "name", [".npmrc", ".next/BUILD_ID", "public/.well-known/x", "a:b", "c\\d", "n\new", "\u00e4", "a\u0308"]
)
def test_any_name_is_pushed(tmp_path, name):
    make(tmp_path, name)
    assert names(tmp_path) == [name]


def test_a_name_that_is_not_utf8_is_refused_by_its_name(tmp_path):
    (tmp_path / os.fsdecode(b"b\xffd")).write_text("x")
    with pytest.raises(PackageError, match="has a name that is not UTF-8"):
        names(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        "\ufeffa\nb\n".encode(),
        b"a\r\nb\r\n",
        "\ufeffa\nb\n".encode("utf-16-le"),
        "\ufeffa\nb\n".encode("utf-16-be"),
    ],
)
def test_an_ignore_file_of_any_editor_is_read(tmp_path, raw):
    make(tmp_path, "a", "b", "c")
    (tmp_path / ".ingotignore").write_bytes(raw)
    assert names(tmp_path) == ["c"]


def test_what_stays_behind_has_its_reason(tmp_path):
    make(tmp_path, "a.log", "b", "x.pyc", "env/pyvenv.cfg", ".git/config")
    (tmp_path / ".cfignore").write_text("# logs\n*.log\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").symlink_to("/etc")
    found = survey(tmp_path, ignore_rules(tmp_path))
    assert found.ignored == {
        ".cfignore": "/.cfignore is never pushed",
        ".git/": ".git is never pushed",
        "a.log": "*.log in .cfignore",
        "env/": "a Python environment belongs to the machine that made it",
        "pipe": "it is a socket, a pipe or a device",
        "x.pyc": "*.pyc is never pushed",
    }
    assert found.refused == {"out": "is a link out of the folder (/etc)"}


def test_pipes_are_left_out(tmp_path):
    make(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["a"]


def test_fingerprint_is_sha1_and_size(tmp_path):
    make(tmp_path, "a", content="hello\n")
    (entry,) = fingerprint(collect(tmp_path, ignore_rules(tmp_path)))
    assert entry.fingerprint() == {
        "fn": "a",
        "size": 6,
        "sha1": "f572d396fae9206628714fb2ce00f72e94f2258f",
    }


def test_zip_depends_on_content_alone(tmp_path):
    archives = []
    for number, order in enumerate((("b", "a/c", "run"), ("run", "a/c", "b"))):
        folder = tmp_path / str(number)
        make(folder, *order)
        (folder / "run").chmod(0o700 + number)
        os.utime(folder / "b", (number, number))
        write_zip(collect(folder, ignore_rules(folder)), tmp_path / f"{number}.zip")
        archives.append((tmp_path / f"{number}.zip").read_bytes())
    assert archives[0] == archives[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert archive.namelist() == ["a/c", "b", "run"]
        assert archive.getinfo("run").external_attr >> 16 == 0o100755
        assert archive.getinfo("b").external_attr >> 16 == 0o100644


def test_zip_of_nothing_holds_a_place_holder(tmp_path):
    write_zip([], tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == [EMPTY]


def test_known_files_stay_but_executables_are_sent(tmp_path):
    make(tmp_path, "a", "b", "run")
    (tmp_path / "run").chmod(0o755)
    entries = fingerprint(collect(tmp_path, ignore_rules(tmp_path)))
    send, have = split_known(entries, [{"fn": "a"}, {"fn": "run"}])
    assert [e.name for e in send] == ["b", "run"]
    assert [e.name for e in have] == ["a"]


def test_small_folders_are_sent_without_asking(tmp_path):
    make(tmp_path, "a", content="x" * 65_536)
    assert not worth_asking(collect(tmp_path, ignore_rules(tmp_path)))
    make(tmp_path, "b")
    assert worth_asking(collect(tmp_path, ignore_rules(tmp_path)))


def test_a_folder_whose_name_is_not_utf8_is_refused_and_an_ignored_one_is_shown(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / os.fsdecode(b"caf\xe9~")).touch()
    found = survey(tmp_path, ignore_rules(tmp_path))
    assert found.refused == {"caf?/": "has a name that is not UTF-8"}
    assert found.ignored == {"caf?~": "*~ is never pushed"}


def test_a_link_that_nothing_can_follow_is_refused_by_its_name(tmp_path):
    (tmp_path / "link").symlink_to("x" * 255 + "/" + "y" * 300)
    assert list(survey(tmp_path, ignore_rules(tmp_path)).refused) == ["link"]


def test_a_platform_without_links_gets_copies(tmp_path):
    make(tmp_path, "lib/run", content="#!/bin/sh\n")
    (tmp_path / "lib/run").chmod(0o755)
    (tmp_path / "run").symlink_to("lib/run")
    copied = without_links(collect(tmp_path, ignore_rules(tmp_path)))
    assert [(e.name, e.kind, e.executable, e.size) for e in copied] == [
        ("lib/run", Kind.FILE, True, 10),
        ("run", Kind.FILE, True, 10),
    ]
    assert copied[0].sha1 == copied[1].sha1
    (tmp_path / "site").symlink_to("lib")
    with pytest.raises(PackageError, match="site is a link to a folder"):
        without_links(collect(tmp_path, ignore_rules(tmp_path)))
