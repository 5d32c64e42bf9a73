"""What of a folder is pushed."""

import os
import zipfile

import pytest

from components.client.errors import PackageError
from components.client.package import (
    EMPTY,
    collect,
    fingerprint,
    ignore_rules,
    split_known,
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


@pytest.mark.parametrize("file", [".ingotignore", ".vcapignore"])
def test_ignore_file_has_gitignores_syntax(tmp_path, file):
    make(tmp_path, "a.log", "keep.log", "build/x", "src/build/y", "docs/a/b.md", "docs/c.txt", "x.pyc")
    (tmp_path / file).write_text("# comment\n*.log\n!keep.log\n/build\ndocs/**/*.md\n!x.pyc\n")
    assert names(tmp_path) == ["docs/c.txt", "keep.log", "src/build/y", "x.pyc"]


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


@pytest.mark.parametrize(("target", "says"), [("nowhere", "leads nowhere"), ("sub", "link to a folder")])
def test_links_that_cannot_be_packed_are_refused(tmp_path, target, says):
    make(tmp_path, "sub/x")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(PackageError, match=says):
        names(tmp_path)


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
