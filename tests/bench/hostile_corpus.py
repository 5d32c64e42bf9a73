"""Hostile uploads, the same every time, each with a name; and good ones beside them.

A case is the content of one upload: a zip, or none, and the field `resources`. `LIMITS` are the limits that the corpus is made for.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.bench.zip_writer import DEFLATED, STORED, Member, deflate, end, write

MOST_MEGABYTES, MOST_FILES = 12, 60
# No case may write a file of this name outside its own folder.
EVIL = "evil-of-ingot"
KNOWN = b"what the pool has" * 40
SHA1 = hashlib.sha1(KNOWN).hexdigest()
REFUSALS = ((400, 100), (500, 111), (400, 401), (500, 402))


@dataclass(frozen=True)
class Case:
    """One upload."""

    name: str
    archive: bytes | None
    resources: str | None = "[]"


NAMES = {
    "up": f"../{EVIL}",
    "up-twice": f"../../{EVIL}",
    "up-thrice": f"../../../{EVIL}",
    "up-inside": f"a/../../{EVIL}",
    "up-deep-inside": f"a/b/c/../../../../{EVIL}",
    "up-and-back": f"a/../{EVIL}",
    "up-behind-a-dot": f"./../{EVIL}",
    "up-between-dots": f"a/./.././../{EVIL}",
    "up-between-slashes": f"a//..//..//{EVIL}",
    "only-up": "..",
    "ends-up": f"{EVIL}/..",
    "absolute": f"/tmp/{EVIL}",
    "absolute-twice": f"//tmp/{EVIL}",
    "absolute-up": f"/../tmp/{EVIL}",
    "absolute-home": f"/root/{EVIL}",
    "backslash": f"..\\{EVIL}",
    "backslash-inside": f"a\\..\\..\\{EVIL}",
    "backslash-mixed": f"a/..\\../{EVIL}",
    "backslash-absolute": f"\\tmp\\{EVIL}",
    "drive": f"C:\\{EVIL}",
    "drive-slash": f"C:/{EVIL}",
    "drive-relative": f"c:{EVIL}",
    "share": f"\\\\server\\share\\{EVIL}",
    "percent-up": f"..%2f{EVIL}",
    "percent-dots": f"%2e%2e/{EVIL}",
    "percent-all": f"%2E%2E%2F{EVIL}",
    "percent-inside": f"a/%2e%2e/%2e%2e/{EVIL}",
    "percent-backslash": f"..%5c{EVIL}",
    "percent-absolute": f"%2ftmp%2f{EVIL}",
    "percent-mixed": f".%2e/{EVIL}",
    "wide-dots": f"\uff0e\uff0e/{EVIL}",
    "two-dot-leader": f"\u2025/{EVIL}",
    "wide-slash": f"..\uff0f{EVIL}",
    "wide-slash-absolute": f"\uff0ftmp\uff0f{EVIL}",
    "wide-backslash": f"..\uff3c{EVIL}",
    "nul": f"{EVIL}\0",
    "nul-inside": f"a\0b/{EVIL}",
    "nul-hides-up": f"../{EVIL}\0.txt",
    "nul-hides-kind": f"{EVIL}.php\0.txt",
    "newline": f"{EVIL}\nstartup",
    "return": f"{EVIL}\r",
    "tab": f"{EVIL}\tb",
    "escape": f"{EVIL}\x1b[2J",
    "delete": f"{EVIL}\x7f",
    "next-line": f"{EVIL}\x85b",
    "long-name": "n" * 256,
    "long-name-inside": f"a/{'n' * 300}/b",
    "long-name-in-bytes": "\u00e9" * 128,
    "long-path": "/".join(["n" * 100] * 12),
    "very-long-path": "/".join(["n" * 200] * 60),
    "deep": "d/" * 101 + "f",
    "very-deep": "d/" * 480 + "f",
}
BLANK: dict[str, Any] = {"blank": "", "space": " ", "null": None, "number": 7, "true": True, "list": ["a"], "object": {"a": "b"}}  # fmt: skip
KINDS = {
    "symlink": stat.S_IFLNK | 0o777,
    "fifo": stat.S_IFIFO | 0o644,
    "character-device": stat.S_IFCHR | 0o666,
    "block-device": stat.S_IFBLK | 0o666,
    "socket": stat.S_IFSOCK | 0o777,
    "whiteout": 0o160000,
    "no-kind-there-is": 0o170000,
    "folder-called-a-file": stat.S_IFDIR | 0o755,
}
METHODS = {1: "shrink", 2: "reduce-1", 3: "reduce-2", 4: "reduce-3", 5: "reduce-4", 6: "implode", 9: "deflate64", 10: "dcl",
           12: "bzip2", 14: "lzma", 18: "terse", 19: "lz77", 93: "zstandard", 94: "mp3", 95: "xz", 96: "jpeg", 97: "wavpack",
           98: "ppmd", 99: "aes", 65535: "none-there-is"}  # fmt: skip
FLAGS = {"encrypted": 0x1, "strongly-encrypted": 0x41, "masked": 0x2000, "patch": 0x20}
TWICE: dict[str, tuple[str, str]] = {
    "same": ("a", "a"),
    "same-in-folder": ("a/b", "a/b"),
    "dot": ("a", "./a"),
    "dot-inside": ("a/b", "a/./b"),
    "slashes": ("a/b", "a//b"),
    "composed": ("caf\u00e9", "cafe\u0301"),
    "composed-folder": ("caf\u00e9/a", "cafe\u0301/b"),
    "wide": ("app.py", "\uff41pp.py"),
    "ligature": ("file", "\ufb01le"),
    "file-then-folder": ("a", "a/b"),
    "folder-then-file": ("a/b", "a"),
    "file-then-deep": ("a", "a/b/c/d"),
}
NO_ZIP = {"nothing": b"", "one-byte": b"P", "text": b"hello" * 20, "html": b"<html>413</html>", "gzip": gzip.compress(b"x", mtime=0),
          "seven-zip": b"7z\xbc\xaf\x27\x1c" + bytes(40), "rar": b"Rar!\x1a\x07\x00" + bytes(40), "zeros": bytes(5000),
          "only-a-signature": b"PK\x05\x06", "half-an-end": end(0, 0, 0)[:20]}  # fmt: skip


def cases() -> list[Case]:
    """Return all hostile uploads, in a fixed order."""
    made = [
        *_names(), *_kinds(), *_bombs(), *_lies(), *_cut(), *_twice(), *_foreign(), *_encodings(), *_ends(), *_resources(),
    ]  # fmt: skip
    assert len({c.name for c in made}) == len(made)
    return made


def _zip(name: str, *members: Member, **lies: Any) -> Case:
    return Case(name, write([Member("good.txt", b"good"), *members], **lies))


def _listed(name: str, *resources: Any, members: tuple[Member, ...] = ()) -> Case:
    return Case(name, write([Member("good.txt", b"good"), *members]), json.dumps(list(resources)))


def _pooled(fn: object, **more: Any) -> dict[str, Any]:
    return {"fn": fn, "sha1": SHA1, "size": len(KNOWN), **more}


def _names() -> Iterator[Case]:
    for name, path in NAMES.items():
        yield _zip(f"name-{name}", Member(path))
        yield _listed(f"fn-{name}", _pooled(path))
    for name in ("up", "absolute", "backslash", "nul-hides-up"):
        yield _zip(f"folder-{name}", Member(NAMES[name] + "/", b"", STORED, stat.S_IFDIR | 0o755))
    for name, fn in BLANK.items():
        yield _listed(f"fn-{name}", _pooled(fn))
    yield _zip("name-empty", Member(""))
    yield _zip("name-root", Member("/", b"", STORED, stat.S_IFDIR | 0o755))
    yield Case("fn-missing", None, json.dumps([{"sha1": SHA1, "size": len(KNOWN)}]))
    yield _listed("fn-dot", _pooled("."))
    yield _listed("fn-half-a-pair", _pooled("a\ud800b"))


def _kinds() -> Iterator[Case]:
    for name, mode in KINDS.items():
        yield _zip(f"kind-{name}", Member(EVIL, b"/etc/passwd", mode=mode))
        yield _zip(f"kind-{name}-of-another-system", Member(EVIL, b"/etc/passwd", mode=mode, system=0))
    link = Member("d", b"/tmp", STORED, stat.S_IFLNK | 0o777)
    yield _zip("kind-symlink-written-through", link, Member(f"d/{EVIL}"))
    yield _zip(
        "kind-symlink-to-parent", Member("d", b"..", STORED, stat.S_IFLNK | 0o777), Member(f"d/{EVIL}")
    )
    yield _zip("kind-symlink-as-folder", Member("d/", b"..", STORED, stat.S_IFLNK | 0o777))
    yield _zip("kind-reparse-point", Member(EVIL, dos=0x400, mode=0, system=0))
    yield _zip("kind-dos-device", Member(EVIL, dos=0x40, mode=0, system=0))
    yield _zip("kind-volume-label", Member(EVIL, dos=0x08, mode=0, system=0))
    hard = struct.pack("<HH12s9s", 0x000D, 21, bytes(12), b"good.txt\0")
    yield _zip("kind-hardlink", Member(EVIL, extra=hard))
    yield _zip("kind-file-called-a-folder", Member("d/", b"", STORED))
    yield _zip("kind-folder-with-content", Member("d/", b"x", STORED, stat.S_IFDIR | 0o755))


def _bombs() -> Iterator[Case]:
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40))
    yield _zip("bomb-size", Member("much", noise * 11000))
    yield _zip("bomb-size-of-all", *[Member(f"m{n}", noise * 4000) for n in range(3)])
    for bits in (31, 32, 40, 62, 63):
        yield _zip(f"bomb-says-2-to-the-{bits}", Member("m", b"x", size=1 << bits))
    yield _zip("bomb-says-the-most", Member("m", b"x", size=(1 << 64) - 1, packed=(1 << 64) - 1))
    yield _zip("bomb-count", *[Member(f"f{n}", b"", STORED) for n in range(MOST_FILES)])
    yield _zip("bomb-count-of-folders", *[Member(f"f{n}/", b"", STORED, 0) for n in range(MOST_FILES)])
    yield _zip("bomb-count-of-many", *[Member(f"f{n}", b"", STORED) for n in range(5000)])
    yield _zip("bomb-count-zip64", *[Member(f"f{n}", b"", STORED) for n in range(200)], zip64=True)
    yield _listed("bomb-count-of-resources", *[_pooled(f"f{n}") for n in range(MOST_FILES + 1)])
    kernel = Member("k0", b"y" * 5000)
    yield _zip("bomb-overlap-all", kernel, *[Member(f"k{n}", kernel.content, raw=b"", packed=len(kernel.body()), offset=38)
                                             for n in range(1, 20)])  # fmt: skip
    quoted = Member("inner", b"z" * 4000, STORED)
    yield _zip(
        "bomb-overlap-quoted",
        Member("outer", quoted.local(), STORED),
        Member("inner", quoted.content, STORED, offset=77),
    )
    yield _zip("bomb-overlap-directory", Member("a", b"x", STORED, packed=60, size=60))
    yield _zip(
        "bomb-extra",
        *[Member(f"e{n}", extra=struct.pack("<HH", 0x9999, 60000) + bytes(60000)) for n in range(3)],
    )


def _lies() -> Iterator[Case]:
    text = b"content that is not much, but some" * 3
    right = Member("a", text)
    yield _zip("lie-smaller", Member("a", text, size=10))
    yield _zip("lie-smaller-with-checksum", Member("a", text[:10], raw=deflate(text)))
    yield _zip("lie-larger", Member("a", text, size=1000))
    yield _zip("lie-one-larger", Member("a", text, size=len(text) + 1))
    yield _zip("lie-nothing", Member("a", text, size=0))
    yield _zip("lie-stored-smaller", Member("a", text, STORED, size=10))
    yield _zip("lie-stored-larger", Member("a", text, STORED, size=1000))
    yield _zip("lie-packed-smaller", Member("a", text, packed=len(right.body()) - 3))
    yield _zip("lie-packed-nothing", Member("a", text, packed=0))
    yield _zip("lie-packed-larger", Member("a", text, packed=len(right.body()) + 5), Member("b"))
    yield _zip("lie-more-behind", Member("a", text, raw=deflate(text) + b"hidden"))
    yield _zip("lie-two-streams", Member("a", text + text, raw=deflate(text) + deflate(text)))
    yield _zip("lie-checksum", Member("a", text, crc=1))
    yield _zip("lie-stored-checksum", Member("a", text, STORED, crc=1))
    yield _zip("lie-deflated-is-stored", Member("a", text, raw=text))
    yield _zip("lie-damaged", Member("a", text, raw=b"\xff" + deflate(text)[1:]))
    yield _zip("lie-name", Member("a", local_name=b"b"))
    yield _zip("lie-name-up", Member("a", local_name=f"../{EVIL}".encode()))
    yield _zip("lie-method", Member("a", text, local_method=STORED))
    for name, offset in {"beyond": 1 << 30, "most": (1 << 32) - 2, "content": 40, "directory": 90}.items():
        yield _zip(f"lie-place-{name}", Member("a", text, offset=offset))
    yield _zip("lie-no-signature", Member("a", text, signature=b"XX\x03\x04"))
    short = struct.pack("<HH", 1, 4) + bytes(4)
    yield _zip("lie-zip64-short", Member("a", size=0xFFFFFFFF, extra=short))
    yield _zip("lie-zip64-missing", Member("a", size=0xFFFFFFFF))
    yield _zip("lie-extra-overruns", Member("a", extra=struct.pack("<HH", 0x5455, 500) + b"x"))


def _cut() -> Iterator[Case]:
    whole = write(
        [
            Member("one.txt", b"one" * 50),
            Member("two/three.txt", b"two" * 70),
            Member("four", b"4" * 90, STORED),
        ]
    )
    for part in range(1, 20):
        yield Case(f"cut-{part}-of-20", whole[: len(whole) * part // 20])
    yield Case("cut-by-one", whole[:-1])
    yield Case("cut-in-front", whole[1:])
    for at in (0, 2, 8, 30, 45, len(whole) - 22, len(whole) - 20):
        yield Case(f"flipped-{at}", whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    first = whole.index(b"PK\x01\x02")
    for at in (0, 8, 10, 16, 20, 24, 28, 30, 42, 46):
        place = first + at
        yield Case(
            f"flipped-directory-{at}", whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        )


def _twice() -> Iterator[Case]:
    for name, (one, two) in TWICE.items():
        yield _zip(f"twice-{name}", Member(one, b"1"), Member(two, b"2"))
        yield _listed(f"twice-fn-{name}", _pooled(one), _pooled(two))
        yield _listed(f"twice-zip-and-fn-{name}", _pooled(two), members=(Member(one, b"1"),))
    yield _zip("twice-folder-and-file", Member("a/", b"", STORED, stat.S_IFDIR | 0o755), Member("a", b"1"))
    yield _zip("twice-file-and-folder", Member("a", b"1"), Member("a/", b"", STORED, stat.S_IFDIR | 0o755))


def _foreign() -> Iterator[Case]:
    for method, name in METHODS.items():
        yield _zip(f"method-{name}", Member("a", b"xyz", method))
    for name, flag in FLAGS.items():
        yield _zip(name, Member("a", b"xyz", flags=flag))
        yield _zip(f"{name}-stored", Member("a", b"xyz", STORED, flags=flag))


def _encodings() -> Iterator[Case]:
    for name, raw in {
        "half": b"caf\xc3", "latin": b"caf\xe9", "overlong-dot": b"\xc0\xae\xc0\xae/x", "overlong-slash": b"..\xc0\xafx",
        "surrogate": b"\xed\xa0\x80x", "beyond": b"\xf5\x90\x80\x80", "alone": b"\x80",
    }.items():  # fmt: skip
        yield _zip(f"encoding-{name}", Member(raw, flags=0x800))
    for name, path in {"up": f"../{EVIL}", "absolute": f"/tmp/{EVIL}"}.items():
        other = struct.pack("<BI", 1, 0) + path.encode()
        yield _zip(
            f"encoding-other-name-{name}", Member("a", extra=struct.pack("<HH", 0x7075, len(other)) + other)
        )


def _ends() -> Iterator[Case]:
    for name, content in NO_ZIP.items():
        yield Case(f"no-zip-{name}", content)
    yield _zip("end-behind", behind=b"more")
    yield _zip("end-comment-is-an-end", comment=end(0, 0, 0))
    yield _zip("end-comment-too-short", comment=b"abc", comment_length=2)
    yield _zip("end-comment-too-long", comment=b"abc", comment_length=9)
    yield _zip("end-twice", behind=end(0, 0, 0) + b"x")
    yield _zip("end-of-another-disk", disk=3)
    for name, lie in {"fewer": 0, "more": 9}.items():
        yield _zip(f"end-says-{name}", count=lie)
        yield _zip(f"end-says-{name}-zip64", count=lie, zip64=True)
    for name, length in {"nothing": 0, "short": 20, "long": 70, "absurd": 1 << 31}.items():
        yield _zip(f"end-directory-{name}", length=length)
    yield _zip("end-directory-absurd-zip64", length=1 << 62, zip64=True)
    yield _zip("end-no-signature", end_signature=b"PK\x05\x07")


def _resources() -> Iterator[Case]:
    good = write([Member("good.txt", b"good")])
    for name, text in {
        "none": None, "not-json": "{", "object": "{}", "text": '"a"', "number": "7", "null": "null", "of-numbers": "[1, 2]",
        "of-lists": "[[]]", "nested": "[" * 100_000, "half": '[{"fn": "a"', "not-a-number": '[{"fn":"a","size":NaN}]',
        "endless-number": f'[{{"fn":"a","size":{"9" * 5000}}}]',
    }.items():  # fmt: skip
        yield Case(f"resources-{name}", good, text)
    sums: dict[str, Any] = {"unknown": "f" * 40, "upper": SHA1.upper(), "short": SHA1[:-1], "long": SHA1 + "0", "path": "../../../../etc/passwd",
                            "absolute": "/etc/passwd", "null": None, "number": 5, "list": [SHA1], "object": {}, "blank": "",
                            "newline": SHA1 + "\n", "sha256": hashlib.sha256(KNOWN).hexdigest()}  # fmt: skip
    for name, value in sums.items():
        yield _listed(f"sha1-{name}", _pooled("a", sha1=value))
    sizes: dict[str, Any] = {"negative": -1, "nothing": 0, "one-less": len(KNOWN) - 1, "one-more": len(KNOWN) + 1, "absurd": 10**18,
                             "beyond": 10**40, "text": str(len(KNOWN)), "half": len(KNOWN) + 0.5, "null": None, "true": True,
                             "list": [len(KNOWN)]}  # fmt: skip
    for name, value in sizes.items():
        yield _listed(f"size-{name}", _pooled("a", size=value))


def good() -> list[Case]:
    """Return uploads that must be accepted, among them odd-looking harmless ones."""
    streamed, large = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(_Pipe(streamed), "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(zipfile.ZipInfo("app.py"), b"application = 1")
    with (
        zipfile.ZipFile(large, "w") as zipped,
        zipped.open(zipfile.ZipInfo("app.py"), "w", force_zip64=True) as writer,
    ):
        writer.write(b"application = 1")
    folder, stamp = stat.S_IFDIR | 0o755, struct.pack("<HHBI", 0x5455, 5, 1, 0)
    other = struct.pack("<BI", 1, 0) + b"caf\xc3\xa9"
    return [
        _zip("a-push", Member("lib/", b"", STORED, folder), Member("lib/a.rb"), Member("empty/", b"", STORED, folder), Member(".rvmrc"),
             Member("manifest.yml"), Member("bin/run", mode=0o100755)),
        Case("nothing-changed", write([Member(".__empty__", b"")]), json.dumps([_pooled("lib/known.bin")])),
        Case("no-zip-at-all", None, json.dumps([_pooled("known.bin"), _pooled("again.bin")])),
        Case("what-came-with-it", write([Member("a", b"fresh")]),
             json.dumps([{"fn": "b", "sha1": hashlib.sha1(b"fresh").hexdigest(), "size": 5}])),
        Case("empty-zip", write([])),
        # Blank data bases, tables of one value: how much a file is compressed says nothing of it.
        _zip("zeros", Member("zeros", bytes(10 << 20))),
        _zip("zeros-in-parts", *[Member(f"z{n}", bytes(2 << 20)) for n in range(5)]),
        Case("streamed", streamed.getvalue()),
        Case("streamed-large", large.getvalue()),
        _zip("zip64", zip64=True),
        _zip("comment", comment=b"made by hand"),
        # File systems tell these names apart, and packages of real applications have such.
        _zip("case", Member("README"), Member("readme"), Member("lib/a"), Member("LIB/b"), Member("A"), Member("a/b")),
        _zip("unicode", Member("caf\u00e9/\u6587\u4ef6.txt"), Member("\U0001f468\u200d\U0001f469.txt")),
        _zip("old-code-page", Member(b"caf\x82")),
        _zip("other-name", Member(b"caf\x82", extra=struct.pack("<HH", 0x7075, len(other)) + other)),
        _zip("stamps", Member("a", extra=stamp)),
        _zip("odd-names", Member("[...slug].js"), Member("a..b"), Member("..c"), Member("100%.txt"), Member("a b%20c"), Member("http%3A%2F%2Fx"),
             Member("-rf"), Member("~"), Member("con"), Member("startup"), Member("stop"), Member("droplet.yaml"), Member("META-INF/MANIFEST.MF")),
        _zip("root-and-dots", Member("./", b"", STORED, folder), Member("./a"), Member("b/./c")),
        _zip("zip-in-zip", Member("inner.jar", write([Member("x")]), STORED)),
        _zip("deep", Member("d/" * 60 + "f"), Member("n" * 255)),
        _zip("as-many-as-may-be", *[Member(f"f{n}", b"", STORED) for n in range(MOST_FILES - 1)]),
        _zip("zeros", Member("zeros", bytes(7 << 20))),
        _zip("folder-twice", Member("a/", b"", STORED, folder), Member("a/", b"", STORED, folder), Member("a/b")),
        _zip("no-modes", Member("a", mode=0, system=0, dos=0x20), Member("b/", b"", DEFLATED, 0, dos=0x10, system=0)),
    ]  # fmt: skip


class _Pipe(io.RawIOBase):
    """A writer that cannot seek back, like a socket."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._out.write(data)
