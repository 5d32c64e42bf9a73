"""Requests that no honest client sends, each with a name and its answer: the corpus of `bench_hostile_requests`.

`answer` is a status, `closed` for a connection ended without one, or the end of a stream of HTTP/2. `reaches` is the part that an
application sees: nothing, one request that is broken off before its end, or one whole request of one meaning.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.http2_frames import Headers, data, head

NAME = "target.localhost"
HOST = b"Host: target.localhost\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: target.localhost\r\n\r\n"
# A text that some cases carry and no application may see.
FORBIDDEN = (b"smuggled", b"evil", b"6.6.6.6", b"gopher")
NOTHING, BROKEN, ONE = "nothing", "broken", "one"


@dataclass(frozen=True)
class Case:
    """The traffic of one connection.

    Args:
        pieces: the bytes to send; each piece after the first once an application has seen the begun request, or after a moment if none has.
        by: `plain`, `tls` or `h2`.
    """

    name: str
    pieces: tuple[bytes, ...]
    answer: str
    reaches: str = NOTHING
    by: str = "plain"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    """Return a request with these header lines."""
    return b"POST /attack HTTP/1.1\r\n" + HOST + b"".join(h + b"\r\n" for h in headers) + b"\r\n" + body


def get(*headers: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    """Return a request without a body, the last of its connection."""
    return line + b"\r\n" + host + b"".join(h + b"\r\n" for h in (*headers, b"Connection: close")) + b"\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"
END = b"0\r\n\r\n"


def _bad() -> str:
    """Return the reply of this host's nginx to a malformed request by HTTP/2: an error of the protocol (1.22), or an answer (1.26)."""
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    major, minor = said.partition("nginx/")[2].split(".")[:2]
    return "stream reset 1" if (int(major), int(minor)) < (1, 25) else "400"


def cases() -> list[Case]:
    """Return all cases of the corpus."""
    made = [*_framing(), *_chunks(), *_lines(), *_hosts(), *_fields(), *_slow(), *_harmless(), *_http2()]
    assert len({c.name for c in made}) == len(made)
    return made


def _refused(table: dict[str, tuple[bytes, int]]) -> Iterator[Case]:
    for name, (sent, status) in table.items():
        yield Case(name, (sent,), str(status) if status else "closed")


def _framing() -> Iterator[Case]:
    """Yield cases whose length of the body is stated in two ways or in none."""
    yield from _refused(
        {
            "length and chunks": (post(b"Content-Length: 4", CHUNKED, body=END + SMUGGLED), 400),
            "chunks and length": (post(CHUNKED, b"Content-Length: 4", body=END + SMUGGLED), 400),
            "two lengths": (post(b"Content-Length: 0", b"Content-Length: 52", body=SMUGGLED), 400),
            "two equal lengths": (post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"), 400),
            "a list of lengths": (post(b"Content-Length: 1, 1", body=b"x"), 400),
            "a negative length": (post(b"Content-Length: -1", body=SMUGGLED), 400),
            "a signed length": (post(b"Content-Length: +5", body=b"hello"), 400),
            "a length in hexadecimal": (post(b"Content-Length: 0x5", body=b"hello"), 400),
            "a length with a blank": (post(b"Content-Length: 5 0", body=b"hello"), 400),
            "a length of nothing": (post(b"Content-Length:", body=b"hello"), 400),
            "a length beyond all numbers": (post(b"Content-Length: 99999999999999999999"), 400),
            "a length with a second line folded under it": (post(b"Content-Length: 5\r\n 0", body=b"x"), 400),
            "an unknown coding": (post(b"Transfer-Encoding: xchunked", body=END + SMUGGLED), 501),
            "a coding of nothing": (post(b"Transfer-Encoding:", body=END + SMUGGLED), 501),
            "a coding in quotes": (post(b'Transfer-Encoding: "chunked"', body=END + SMUGGLED), 501),
            "a coding with a parameter": (post(b"Transfer-Encoding: chunked;q=1", body=END + SMUGGLED), 501),
            "another coding": (post(b"Transfer-Encoding: gzip, chunked", body=END + SMUGGLED), 501),
            "two codings": (post(b"Transfer-Encoding: chunked, identity", body=END + SMUGGLED), 501),
            "the same coding twice": (post(CHUNKED, CHUNKED, body=END + SMUGGLED), 400),
            "codings in two lines": (post(CHUNKED, b"Transfer-Encoding: identity", body=END + SMUGGLED), 400),
            "a coding after a vertical tab": (
                post(b"Transfer-Encoding: \x0bchunked", body=END + SMUGGLED),
                501,
            ),
            "a coding before a tab": (post(b"Transfer-Encoding: chunked\t", body=END + SMUGGLED), 501),
            "a coding after a tab": (post(b"Transfer-Encoding:\tchunked", body=END + SMUGGLED), 501),
            "a coding before a zero byte": (post(b"Transfer-Encoding: chunked\0", body=END + SMUGGLED), 400),
            "a coding before a bare return": (
                post(b"X-A: 1\rTransfer-Encoding: chunked", body=END + SMUGGLED),
                400,
            ),
            "a coding whose colon is spaced": (post(b"Transfer-Encoding : chunked", body=END), 400),
            "a coding in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n\r\n" + END, 400),
            "a coding and a WebSocket": (
                get(b"Upgrade: websocket", CHUNKED, b"Content-Length: 3", line=b"GET /ws HTTP/1.1"),
                400,
            ),
            "a body larger than allowed": (post(b"Content-Length: 2000000"), 413),
        }
    )


def _chunks() -> Iterator[Case]:
    """Yield cases with a fault within a chunked body: with the head, and later."""
    bad = {
        "that is none": (b"zz\r\n" + SMUGGLED, 400),
        "of a negative size": (b"-1\r\n" + SMUGGLED, 400),
        "of a signed size": (b"+5\r\nhello\r\n" + END, 400),
        "of a size with a prefix": (b"0x5\r\nhello\r\n" + END, 400),
        "of a size after a blank": (b" 5\r\nhello\r\n" + END, 400),
        "of a size of nothing": (b"\r\nhello\r\n" + END, 400),
        "of a size beyond all numbers": (b"ffffffffffffffffff\r\nx", 400),
        "of a size that wraps to five": (b"100000000000000005\r\nhello\r\n" + END, 400),
        "longer than its size": (b"3\r\nhello\r\n" + END, 400),
        "shorter than its size": (b"9\r\nhello\r\n" + END, 400),
        "whose end is not there": (b"5\r\nhello" + END, 400),
        "whose size ends in a bare return": (b"5\rhello\r\n" + END, 400),
        "larger than allowed": (b"fffffff\r\nx", 413),
    }
    for name, (body, status) in bad.items():
        yield Case(f"a chunk {name}", (post(CHUNKED, body=body),), str(status))
        # The head has arrived with a correct chunk: an application reads it already.
        yield Case(f"later, a chunk {name}", (post(CHUNKED, body=b"2\r\nok\r\n"), body), str(status), BROKEN)
    # These cannot be known as bad yet, and nginx reads a size when the chunk's first byte is there.
    for name, body in {
        "a chunk larger than allowed, not begun": b"fffffff\r\n",
        "a chunk that never comes": b"5\r\nab",
        "a last chunk that never comes": b"5\r\nhello\r\n",
    }.items():
        yield Case(name, (post(CHUNKED, body=body),), "closed", BROKEN)


def _lines() -> Iterator[Case]:
    """Yield cases with odd request lines."""
    yield from _refused(
        {
            "a zero byte in the path": (get(line=b"GET /a\x00b HTTP/1.1"), 400),
            "a control byte in the path": (get(line=b"GET /a\x01b HTTP/1.1"), 400),
            "a blank in the path": (get(line=b"GET /a b HTTP/1.1"), 400),
            "a tab in the path": (get(line=b"GET /a\tb HTTP/1.1"), 400),
            "a bare return in the path": (get(line=b"GET /a\rX: b HTTP/1.1"), 400),
            "a path out of the root": (get(line=b"GET /../../etc/passwd HTTP/1.1"), 400),
            "an encoded path out of the root": (get(line=b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1"), 400),
            "an encoded zero byte": (get(line=b"GET /a%00b HTTP/1.1"), 400),
            "a broken encoding": (get(line=b"GET /%zz HTTP/1.1"), 400),
            "a method in lower case": (get(line=b"get / HTTP/1.1"), 400),
            "a method with a control byte": (get(line=b"GE\x01T / HTTP/1.1"), 400),
            "TRACE": (get(line=b"TRACE / HTTP/1.1"), 405),
            "CONNECT": (get(line=b"CONNECT target.localhost:443 HTTP/1.1"), 400),
            "a star": (get(line=b"OPTIONS * HTTP/1.1"), 400),
            "a scheme without a host": (get(line=b"GET http:/// HTTP/1.1"), 400),
            "a host with a password": (get(line=b"GET http://a:b@target.localhost/ HTTP/1.1"), 400),
            "a version of the future": (get(line=b"GET / HTTP/3.0"), 505),
            "a version that is none": (get(line=b"GET / HTTPS/1.1"), 400),
            "a version in lower case": (get(line=b"GET / http/1.1"), 400),
            "a version of many digits": (get(line=b"GET / HTTP/1.99999"), 400),
            # Answered in the manner of HTTP/0.9: a page without a status.
            "HTTP/0.9": (b"GET /\r\n\r\n", 0),
            "the preface of HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
            "bytes that are no HTTP": (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
                400,
            ),
            "a line longer than allowed": (get(line=b"GET /" + b"a" * 40_000 + b" HTTP/1.1"), 414),
        }
    )


def _hosts() -> Iterator[Case]:
    """Yield cases about the host of a request."""
    yield from _refused(
        {
            "two hosts": (get(b"Host: other.localhost"), 400),
            "the same host twice": (get(b"Host: target.localhost"), 400),
            "no host": (get(host=b""), 400),
            "a host of nothing": (get(host=b"Host:\r\n"), 400),
            "a host with a path": (get(host=b"Host: target.localhost/x\r\n"), 400),
            "a host with a blank": (get(host=b"Host: target localhost\r\n"), 400),
            "a host with a tab": (get(host=b"Host: target\tlocalhost\r\n"), 400),
            "a host with a zero byte": (get(host=b"Host: target.localhost\0\r\n"), 400),
            "a host out of its folder": (get(host=b"Host: ..\r\n"), 400),
            "a host in half a bracket": (get(host=b"Host: [::1\r\n"), 404),
            "a host that is folded": (get(host=b"Host: target.\r\n localhost\r\n"), 400),
            "a list of hosts": (get(host=b"Host: target.localhost, other.localhost\r\n"), 400),
            "a host with a name before it": (get(host=b"Host: a@target.localhost\r\n"), 404),
        }
    )


def _fields() -> Iterator[Case]:
    """Yield cases with other header fields."""
    yield from _refused(
        {
            "a folded header": (get(b"X-A: 1\r\n folded"), 400),
            "a first header that is folded": (b"GET / HTTP/1.1\r\n folded: 1\r\n" + HOST + b"\r\n", 400),
            "a blank before the colon": (post(b"Content-Length : 5", body=b"hello"), 400),
            "a blank in a name": (get(b"X A: 1"), 400),
            "a control byte in a name": (get(b"X\x01A: 1"), 400),
            "a zero byte in a name": (get(b"X\x00A: 1"), 400),
            "a header without a name": (post(b": x"), 400),
            "a zero byte in a header": (post(b"X-A: a\x00b"), 400),
            "a bare return in a header": (get(b"X-A: a\rb"), 400),
            "a field larger than allowed": (post(b"X-A: " + b"a" * 40_000), 400),
            "too many fields": (post(*(b"X-%d: %s" % (i, b"a" * 1000) for i in range(100))), 400),
            "very many small fields": (get(*(b"a%d: b" % i for i in range(20_000))), 400),
        }
    )


def _slow() -> Iterator[Case]:
    """Yield cases that never end."""
    yield Case("a header that never ends", (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: ",), "closed")
    yield Case("nothing at all", (b"",), "closed")
    yield Case("a body that never comes", (post(b"Content-Length: 10"),), "closed")
    yield Case("half a body", (post(b"Content-Length: 10", body=b"x"),), "closed")
    yield Case("half a long body", (post(b"Content-Length: 200000", body=b"x" * 50_000),), "closed", BROKEN)


def _harmless() -> Iterator[Case]:
    """Yield odd cases of one meaning: an application sees one request, and nothing of the hidden text."""
    body = b"5\r\nhello\r\n" + END
    odd = {
        "lines that end in bare line feeds": b"GET / HTTP/1.1\nHost: target.localhost\nConnection: close\n\n",
        "empty lines before it": b"\r\n\r\n" + get(),
        "a host in capitals, with a dot and a port": get(host=b"Host: TARGET.localhost.:80\r\n"),
        "a coding in capitals": post(b"transfer-ENCODING: CHUNKED", CLOSE, body=body),
        "a coding before blanks": post(b"Transfer-Encoding:  chunked  ", CLOSE, body=body),
        "chunks with extensions": post(CHUNKED, CLOSE, body=b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n'),
        "chunks with zeros before their size": post(CHUNKED, CLOSE, body=b"0000005\r\nhello\r\n000\r\n\r\n"),
        "chunks whose lines end in bare line feeds": post(CHUNKED, CLOSE, body=b"5\nhello\n0\n\n"),
        "a header without a colon": get(b"nonsense"),
        "trailers that would be headers": post(
            CHUNKED,
            CLOSE,
            body=b"5\r\nhello\r\n0\r\nHost: evil\r\nContent-Length: 9\r\nX-Real-IP: 6.6.6.6\r\n\r\n",
        ),
        "a coding whose name is misspelt": post(
            b"Transfer_Encoding: chunked", b"Content-Length: 5", CLOSE, body=END
        ),
        "a name no header has": get(b"X-(A): 1"),
        "a header called hop-by-hop": get(
            b"Connection: X-Real-IP, Content-Length, Host", b"X-Real-IP: 6.6.6.6"
        ),
        "an expectation nobody knows": get(b"Expect: the-unexpected"),
        "an upgrade to something else": get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        "forged addresses": get(
            b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: gopher", b"Forwarded: for=6.6.6.6"
        ),
    }
    for name, sent in odd.items():
        yield Case(name, (sent,), "200", ONE)


def _http2() -> Iterator[Case]:
    """Yield cases of HTTP/2, which nginx translates: no byte may end a line, or a request, before its end."""

    def asked(*more: tuple[bytes, bytes], **pseudo: bytes) -> Headers:
        named = {
            "method": b"POST",
            "scheme": b"https",
            "authority": NAME.encode(),
            "path": b"/attack",
            **pseudo,
        }
        return [*((b":" + k.encode(), v) for k, v in named.items() if v), *more]

    yield Case(
        "h2: a body shorter than its length",
        (head(asked((b"content-length", b"10")), end=False) + data(b"x", end=True),),
        "400",
        by="h2",
    )
    yield Case(
        "h2: a body longer than its length",
        (head(asked((b"content-length", b"1")), end=False) + data(b"x" + SMUGGLED, end=True),),
        "400",
        by="h2",
    )
    long = head(asked((b"content-length", b"200000")), end=False) + data(b"x" * 16_000, end=False)
    yield Case("h2: half a long body", (long, data(b"", end=True)), "400", BROKEN, by="h2")
    yield Case(
        "h2: a coding", (head(asked((b"transfer-encoding", b"chunked")), end=True),), "200", ONE, by="h2"
    )
    bad = _bad()
    refused: dict[str, tuple[Headers, str]] = {
        "a length and no body": (asked((b"content-length", b"10")), "400"),
        "two lengths": (asked((b"content-length", b"0"), (b"content-length", b"9")), "400"),
        "a line end in a value": (asked((b"x-a", b"b\r\nX-Smuggled: 1")), bad),
        "a bare line feed in a value": (asked((b"x-a", b"b\nX-Smuggled: 1")), bad),
        "a request in a value": (asked((b"x-a", b"b\r\n\r\n" + SMUGGLED)), bad),
        "a zero byte in a value": (asked((b"x-a", b"b\0c")), bad),
        "a line end in a name": (asked((b"x-a: b\r\nx-smuggled", b"1")), bad),
        "a colon in a name": (asked((b"x-a: b", b"1")), bad),
        "a blank in a name": (asked((b"x a", b"1")), bad),
        "a name in capitals": (asked((b"X-A", b"1")), bad),
        "a name of nothing": (asked((b"", b"1")), "connection ended 1"),
        "a line end in the method": (asked(method=b"GET / HTTP/1.1\r\nX: 1"), bad),
        "a method in lower case": (asked(method=b"get"), "400"),
        "a line end in the path": (asked(path=b"/ HTTP/1.1\r\nHost: evil\r\n\r\n"), bad),
        "a blank in the path": (asked(path=b"/ HTTP/1.1"), "400"),
        "a path that begins with nothing": (asked(path=b"attack"), "400"),
        "no path": (asked(path=b""), "400"),
        "no method": (asked(method=b""), "400"),
        "no scheme": (asked(scheme=b""), "400"),
        "no host": (asked(authority=b""), "400"),
        "a line end in the host": (asked(authority=b"target.localhost\r\nX: 1"), bad),
        "a line end in the scheme": (asked(scheme=b"https\r\nX: 1"), bad),
        "a pseudo header nobody knows": (asked((b":evil", b"1")), "400"),
        "a pseudo header after the others": (asked((b"x-a", b"1"), (b":path", b"/")), "400"),
        "a pseudo header twice": ([*asked(), (b":path", b"/")], "400"),
        "another host than it says": (asked((b"host", b"other.localhost")), "400"),
        "an upgrade": (asked((b"upgrade", b"websocket"), (b"connection", b"upgrade")), "400"),
        "CONNECT": (asked(method=b"CONNECT"), "405"),
        "TRACE": (asked(method=b"TRACE"), "405"),
    }
    for name, (headers, answer) in refused.items():
        yield Case(f"h2: {name}", (head(headers, end=True),), answer, by="h2")
    yield Case("h2: no HTTP/2 after all", (get(),), "connection ended 1", by="h2")
    yield Case("plain HTTP where TLS is spoken", (get(),), "400", by="tls")
