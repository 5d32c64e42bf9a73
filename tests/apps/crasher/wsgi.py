"""Ends when asked to: /exit or /exit/STATUS; its instance must be started again."""

import os
import signal
import threading


def application(environ, start_response):
    name, _, argument = environ["PATH_INFO"].strip("/").partition("/")
    if name == "exit":
        status = int(argument or 1)
        # After the answer is out; the server's parent goes first, or it would start another worker.
        threading.Timer(0.2, lambda: (os.kill(os.getppid(), signal.SIGKILL), os._exit(status))).start()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()}\n".encode()]
