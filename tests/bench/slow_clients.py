"""A given number of clients that are slow on purpose, until they are told to end.

    python -m tests.bench.slow_clients COUNT PORT TOKEN

By turns: a head that does not end, a short body that drips, a body of unknown length, an upload that drips, an answer that is not read.
A client whose connection is cut connects again. The program prints `begun` once all have connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

DRIP_SECONDS = 2.0
_LOGIN = "POST /users/nobody%40b.com/tokens HTTP/1.1\r\nHost: api.ingot.localhost\r\n"


def kinds(token: str) -> list[bytes]:
    """Return the bytes that each kind sends at once."""
    upload = (
        f"POST /apps/app0-0/application HTTP/1.1\r\nHost: api.ingot.localhost\r\nAUTHORIZATION: {token}\r\n"
        "Content-Type: multipart/form-data; boundary=41184\r\nContent-Length: 9000000\r\n\r\n--41184"
    )
    texts = (
        "GET /info HTTP/1.1\r\nHost: api.ingot.localhost\r\nX-Slow: ",
        f"{_LOGIN}Content-Length: 20000\r\n\r\n{{",
        f"{_LOGIN}Transfer-Encoding: chunked\r\n\r\n5000\r\n{{",
        upload,
        "GET /info HTTP/1.1\r\nHost: api.ingot.localhost\r\nConnection: close\r\n\r\n",
    )
    return [text.encode() for text in texts]


async def hold(port: int, words: bytes, begun: asyncio.Semaphore) -> None:
    """Act as one slow client."""
    first = True
    while True:
        with contextlib.suppress(OSError):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(words)
                await writer.drain()
                if first:
                    first = False
                    begun.release()
                while True:
                    await asyncio.sleep(DRIP_SECONDS)
                    writer.write(b"x")
                    await writer.drain()
            finally:
                writer.close()
        await asyncio.sleep(0.5)


async def main(count: int, port: int, token: str) -> None:
    """Connect all clients, and keep them."""
    begun, texts = asyncio.Semaphore(0), kinds(token)
    tasks = [asyncio.create_task(hold(port, texts[n % len(texts)], begun)) for n in range(count)]
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: [task.cancel() for task in tasks])
    for _ in tasks:
        await begun.acquire()
    print("begun", flush=True)
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
