"""Uploads: what a stranger's zip may not do, and what becomes of a good one."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.controller.errors import ApiError
from components.controller.packages.upload import PackageLimits, build_package, parse_resources, unpack
from components.controller.packages.zip_reader import Names, extract, inspect, safe_name
from components.controller.storage.store import Store

LIMITS = PackageLimits(size=1 << 20, files=50)
OWNER = 7


def archive(tmp_path: Any, entries: Any) -> Any:
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content, *mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (mode[0] if mode else 0) << 16
            zipped.writestr(entry, content)
    return path


@pytest.fixture
def store(tmp_path: Any) -> Any:
    made = Store(tmp_path / "share")
    made.prepare()
    return made


def unpacked(path: Any, target: Any) -> None:
    unpack(path, target, inspect(path, Names(1000), most_files=LIMITS.files, most_bytes=LIMITS.size))


def refused(tmp_path: Any, entries: Any) -> Any:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ApiError) as caught:
        unpacked(archive(tmp_path, entries), target)
    assert caught.value.code == 402
    return caught.value.description


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/../../evil", "a\\..\\b", "a/" * 200 + "f", "x" * 2000]
)
def test_names_that_leave(tmp_path: Any, name: Any) -> None:
    reason = refused(tmp_path, [(name, b"x")])
    assert "path" in reason or "leaves" in reason
    assert not (tmp_path / "evil").exists()


def test_links_and_devices(tmp_path: Any) -> None:
    assert "link" in refused(tmp_path, [("l", b"/etc/passwd", stat.S_IFLNK | 0o777)])


def test_a_bomb_is_seen_before_it_goes_off(tmp_path: Any) -> None:
    reason = refused(tmp_path, [("a", b"0" * (1 << 19)), ("b", b"0" * (1 << 20))])
    assert "larger" in reason
    assert list((tmp_path / "target").iterdir()) == []


def test_too_many_files(tmp_path: Any) -> None:
    assert "50 files" in refused(tmp_path, [(f"f{n}", b"") for n in range(51)])


def test_folders_count_that_are_only_parts_of_a_path(tmp_path: Any) -> None:
    """Of a path of a hundred folders each takes memory, and an inode on every machine that unpacks it."""
    entries = [(f"{n}/" + "d/" * 98 + "x", b"") for n in range(11)]
    assert "more than 1000 files and folders" in refused(tmp_path, entries)


def test_a_name_for_a_file_and_a_folder(tmp_path: Any) -> None:
    assert "folder" in refused(tmp_path, [("a", b"x"), ("a/b", b"y")])


@given(junk=st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(tmp_path_factory: Any, junk: Any) -> None:
    folder = tmp_path_factory.mktemp("junk")
    (folder / "z").write_bytes(junk)
    with pytest.raises(ApiError) as caught:
        unpacked(folder / "z", folder)
    assert caught.value.code == 402


def test_a_package_is_named_by_its_content(tmp_path: Any, store: Any) -> None:
    kept = {}

    def build(entries: Any, resources: Any = (), owner: int = OWNER) -> str:
        work = tmp_path / f"work{len(list(tmp_path.glob('work*')))}"
        work.mkdir()

        def keep(path: Any, digest: Any) -> Any:
            kept[digest] = path.read_bytes()

        return build_package(
            store, owner, archive(tmp_path, entries), list(resources), work, limits=LIMITS, keep=keep
        )

    one = build(
        [("run.sh", b"#!", 0o100755), ("d/", b""), ("d/.kept", b"k"), (".lost", b"l"), ("f", b"data")]
    )
    assert hashlib.sha1(kept[one]).hexdigest() == one
    with zipfile.ZipFile(io.BytesIO(kept[one])) as zipped:
        assert zipped.namelist() == ["f", "run.sh", "d/", "d/.kept"]
        assert zipped.getinfo("run.sh").external_attr >> 16 & 0o777 == 0o755
        assert zipped.getinfo("f").external_attr >> 16 & 0o777 == 0o644
    two = build([("f", b"data"), ("d/.kept", b"k"), ("run.sh", b"#!", 0o100755)])
    assert two == one
    # What was uploaded once need not be sent again.
    known = {"sha1": hashlib.sha1(b"data").hexdigest(), "size": 4}
    three = build([("run.sh", b"#!", 0o100755)], [{**known, "fn": "deep/er/g"}])
    with zipfile.ZipFile(io.BytesIO(kept[three])) as zipped:
        assert zipped.read("deep/er/g") == b"data"
    with pytest.raises(ApiError) as refused:
        build([("a", b"")], [{**known, "fn": "g"}], owner=OWNER + 1)
    assert refused.value.code == 401, "what another has sent is not there"
    for bad, code in [
        ({**known, "fn": "../out"}, 402),
        ({**known, "fn": ""}, 111),
        ({**known, "fn": "/etc/passwd"}, 111),
        ({**known, "fn": "a"}, 402),
        ({**known, "fn": "a/b"}, 402),
        ({**known, "size": 5, "fn": "g"}, 401),
        ({"sha1": "../../etc/passwd", "size": 4, "fn": "g"}, 401),
        ({**known}, 111),
    ]:
        with pytest.raises(ApiError) as caught:
            build([("a", b"")], [bad])
        assert caught.value.code == code
    assert list(store.scratch.iterdir()) == []


def test_pool_files_count_towards_the_limit(tmp_path: Any, store: Any) -> None:
    content = b"x" * 700_000
    work = tmp_path / "w"
    work.mkdir()
    build_package(
        store, OWNER, archive(tmp_path, [("a", content)]), [], work, limits=LIMITS, keep=lambda *_: None
    )
    resource = {"sha1": hashlib.sha1(content).hexdigest(), "size": len(content), "fn": "b"}
    other = tmp_path / "w2"
    other.mkdir()
    with pytest.raises(ApiError, match="larger"):
        build_package(
            store,
            OWNER,
            archive(tmp_path, [("a", content)]),
            [resource],
            other,
            limits=LIMITS,
            keep=lambda *_: None,
        )


@pytest.mark.parametrize("text", [None, "{", "{}", "[1]", "7"])
def test_resources_that_are_no_list(text: Any) -> None:
    with pytest.raises(ApiError) as caught:
        parse_resources(text)
    assert caught.value.code == 100


def test_the_pool_compares_size_and_digest(store: Any, tmp_path: Any) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    digest = hashlib.sha1(b"abc").hexdigest()
    store.add_resource(OWNER, file, digest)
    number = int(digest, 16)
    assert store.resource(digest) == store.resources / str(number % 269) / str(number % 251) / digest
    assert store.has_resource(OWNER, digest, 3)
    assert not store.has_resource(OWNER, digest, 4)
    assert not store.has_resource(OWNER, digest.upper(), 3)
    assert not store.has_resource(OWNER, None, 3)
    assert not store.has_resource(OWNER, digest, "3")


def test_the_pool_tells_each_of_their_own_files_and_keeps_one_of_equal_ones(
    store: Any, tmp_path: Any
) -> None:
    one, two = OWNER, OWNER + 1
    file = tmp_path / "f"
    for content in (b"", b"abc"):
        file.write_bytes(content)
        digest = hashlib.sha1(content).hexdigest()
        # As a release before has left it: nobody's, and there.
        place = store.resource(digest)
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
        kept = place.stat().st_ino
        assert not store.has_resource(one, digest, len(content))
        store.add_resource(one, file, digest)
        assert store.has_resource(one, digest, len(content))
        assert not store.has_resource(two, digest, len(content))
        store.add_resource(two, file, digest)
        assert store.has_resource(two, digest, len(content))
        assert {p.stat().st_ino for p in (store.owned(one, digest), store.owned(two, digest))} == {kept}
        store.forget_owner(two)
        assert not store.has_resource(two, digest, len(content))
        assert store.has_resource(one, digest, len(content))


def test_safe_names() -> None:
    assert str(safe_name("a/./b")) == "a/b"
    assert str(safe_name("a/b/")) == "a/b"


def test_a_blank_file_is_unpacked_in_pieces(tmp_path: Any) -> None:
    """However much it was compressed: the pieces of all uploads at a time lie in memory."""
    path = archive(tmp_path, [("zeros", bytes(20 << 20), 0o100644)])
    (entry,) = inspect(path, Names(10), most_files=10, most_bytes=32 << 20)
    pieces = []

    class Writer:
        def write(self, piece: bytes) -> None:
            pieces.append(len(piece))

    with path.open("rb") as file:
        extract(file, entry, Writer())  # type: ignore[arg-type]
    assert sum(pieces) == 20 << 20
    assert max(pieces) <= 1 << 20


LINK = stat.S_IFLNK | 0o777


def kept_as_is(tmp_path: Any, store: Any, entries: Any, resources: Any = ()) -> dict[str, tuple[int, bytes]]:
    """Return the package of an upload that is kept as it is: name to mode and content."""
    work = tmp_path / "work"
    work.mkdir()
    package = tmp_path / "package.zip"
    build_package(
        store,
        OWNER,
        archive(tmp_path, entries),
        list(resources),
        work,
        limits=PackageLimits(size=32 << 20, files=50),
        keep=lambda scratch, _digest: package.write_bytes(scratch.read_bytes()) and None,
        as_is=True,
    )
    with zipfile.ZipFile(package) as zipped:
        return {e.filename: (e.external_attr >> 16, zipped.read(e)) for e in zipped.infolist()}


def test_a_folder_is_kept_as_it_is_on_disk(tmp_path: Any, store: Any) -> None:
    content = b"known"
    known = tmp_path / "known"
    known.write_bytes(content)
    sha1 = hashlib.sha1(content).hexdigest()
    store.add_resource(OWNER, known, sha1)
    found = kept_as_is(
        tmp_path,
        store,
        [
            (".npmrc", b"legacy-peer-deps=true", 0o100644),
            (".next/BUILD_ID", b"1", 0o100644),
            ("node_modules/.bin/tool", b"../tool/bin/tool.js", LINK),
            ("node_modules/tool/bin/tool.js", b"#!", 0o100755),
            ("packages/", b"", 0o40755),
            ("site", b"packages", LINK),
            ("a:b\\c", b"", 0o100644),
            (".__empty__", b"", 0o100644),
        ],
        [{"fn": "conf/known", "sha1": sha1, "size": len(content)}],
    )
    assert found == {
        ".npmrc": (0o100644, b"legacy-peer-deps=true"),
        ".next/": (0o40755, b""),
        ".next/BUILD_ID": (0o100644, b"1"),
        "a:b\\c": (0o100644, b""),
        "conf/": (0o40755, b""),
        "conf/known": (0o100644, content),
        "node_modules/": (0o40755, b""),
        "node_modules/.bin/": (0o40755, b""),
        "node_modules/.bin/tool": (LINK, b"../tool/bin/tool.js"),
        "node_modules/tool/": (0o40755, b""),
        "node_modules/tool/bin/": (0o40755, b""),
        "node_modules/tool/bin/tool.js": (0o100755, b"#!"),
        "packages/": (0o40755, b""),
        "site": (LINK, b"packages"),
    }


def test_zeros_are_taken_up_to_the_size_of_an_application(tmp_path: Any, store: Any) -> None:
    found = kept_as_is(tmp_path, store, [("zeros", bytes(20 << 20), 0o100644)])
    assert len(found["zeros"][1]) == 20 << 20


@pytest.mark.parametrize(
    "entries",
    [
        [("a", b"..", LINK)],
        [("a", b"/etc/passwd", LINK)],
        [("a", b"b", LINK), ("b", b"a", LINK)],
        [("d/up", b"..", LINK), ("e", b"d/up/..", LINK)],
        [("a", b"", LINK)],
        [("a", b"b\0c", LINK)],
        [("a", b"b\xff", LINK)],
        [("a", b"x" * 2000, LINK)],
        [("a", b"../work/b", LINK)],
        [("l", b"sub", LINK), ("sub/x", b"1"), ("l/y", b"2")],
        [("sub/x", b"1"), ("l/y", b"2"), ("l", b"sub", LINK)],
    ],
)
def test_links_lead_nowhere_else(tmp_path: Any, store: Any, entries: Any) -> None:
    with pytest.raises(ApiError) as caught:
        kept_as_is(tmp_path, store, entries)
    assert caught.value.code == 402
