"""Counts its visits in the bound Redis; no requirements: it speaks the little of Redis's protocol that it needs.

/ : counts and says how many; /peek: says how many; /credentials: what VCAP_SERVICES holds, for tests.
Without a bound Redis it answers 503 and says so.
"""

import json
import os
import socket

ME = json.loads(os.environ.get("VCAP_APPLICATION", "{}"))


class RedisError(Exception):
    pass


def credentials():
    offered = json.loads(os.environ.get("VCAP_SERVICES", "{}"))
    for label, instances in offered.items():
        if label.startswith("redis-"):
            return instances[0]["credentials"]
    return None


def ask(given, *commands):
    """Sign in with the password alone, send the commands, and return the last one's answer."""
    with socket.create_connection((given["host"], given["port"]), timeout=5) as connection:
        stream = connection.makefile("rwb")
        answer = None
        for command in (("AUTH", given["password"]), *commands):
            stream.write(b"*%d\r\n" % len(command))
            for word in command:
                text = str(word).encode()
                stream.write(b"$%d\r\n%s\r\n" % (len(text), text))
            stream.flush()
            answer = read(stream)
    return answer


def read(stream):
    line = stream.readline().rstrip(b"\r\n")
    if not line:
        raise RedisError("the server closed the connection")
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise RedisError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if int(rest) < 0 else stream.read(int(rest) + 2)[:-2].decode()
    return rest.decode()


def answer(path):
    given = credentials()
    if given is None:
        return "503 Service Unavailable", {"error": "no Redis is bound to this application"}
    if path == "/credentials":
        return "200 OK", given
    try:
        command = ("GET", "visits") if path == "/peek" else ("INCR", "visits")
        visits = int(ask(given, command) or 0)
    except (OSError, RedisError) as error:
        return "502 Bad Gateway", {"error": str(error)}
    return "200 OK", {"app": ME.get("name"), "instance": ME.get("instance_index"), "visits": visits}


def application(environ, start_response):
    status, body = answer(environ["PATH_INFO"])
    text = (json.dumps(body, sort_keys=True) + "\n").encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]
