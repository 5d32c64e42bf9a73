"""Says who and where it is, as JSON; no requirements, so that it is staged in seconds.

/ : app, instance, instance_id, dea, and what came in; /env: its environment's names; /slow/SECONDS; /echo: the body back;
/size/BYTES; /crash: its end; /session: counts visits in a JSESSIONID cookie, so that a router has something to stick to.
"""

import json
import os
import signal
import time

ME = json.loads(os.environ.get("VCAP_APPLICATION", "{}"))
SERVED = {"visits": 0}


def _answer(start_response, body, status="200 OK", kind="application/json", headers=()):
    if not isinstance(body, bytes):
        body = (json.dumps(body, sort_keys=True) + "\n").encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers])
    return [body]


def _identity(environ):
    SERVED["visits"] += 1
    return {
        "app": ME.get("name"),
        "instance": ME.get("instance_index"),
        "instance_id": ME.get("instance_id"),
        "dea": os.environ.get("VCAP_APP_HOST") or ME.get("host"),
        "port": os.environ.get("VCAP_APP_PORT"),
        "version": ME.get("version"),
        "greeting": os.environ.get("GREETING", "hello"),
        "path": environ["PATH_INFO"],
        "host": environ.get("HTTP_HOST"),
        "visits": SERVED["visits"],
    }


def application(environ, start_response):
    path = environ["PATH_INFO"]
    name, _, argument = path.strip("/").partition("/")
    if name == "env":
        return _answer(start_response, sorted(os.environ))
    if name == "slow":
        time.sleep(min(float(argument or 1), 30))
    elif name == "crash":
        # The server's parent first, or it would start another worker.
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "size":
        return _answer(start_response, b"x" * min(int(argument), 64 * 1024 * 1024), kind="text/plain")
    elif name == "echo":
        length = int(environ.get("CONTENT_LENGTH") or 0)
        return _answer(start_response, environ["wsgi.input"].read(length), kind="application/octet-stream")
    elif name == "services":
        offered = json.loads(os.environ.get("VCAP_SERVICES", "{}"))
        return _answer(start_response, {k: [s.get("name") for s in v] for k, v in offered.items()})
    elif name == "session":
        cookie = ("Set-Cookie", f"JSESSIONID={ME.get('instance_id', 'none')}; Path=/")
        return _answer(start_response, _identity(environ), headers=[cookie])
    return _answer(start_response, _identity(environ))
