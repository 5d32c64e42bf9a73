"""A program of its own: the Procfile names it, it reads its port and answers who it is."""

import json
import os
import platform
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ME = json.loads(os.environ.get("VCAP_APPLICATION", "{}"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            os.kill(os.getpid(), signal.SIGKILL)
        facts = {
            "framework": "standalone",
            "name": ME.get("name"),
            "version": ME.get("version"),
            "instance": ME.get("instance_index"),
            "instance_id": ME.get("instance_id"),
            "dea": os.environ.get("VCAP_APP_HOST"),
            "port": os.environ.get("PORT"),
            "runtime": platform.python_version(),
            "greeting": os.environ.get("GREETING"),
        }
        body = (json.dumps(facts) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("0.0.0.0", int(os.environ["VCAP_APP_PORT"])), Handler).serve_forever()
