"""The application of the stand-in for the controller: it runs what it is asked for, and shows the output.

Run as `python stand_in_app.py PORT`, as an instance, with the machine's own interpreter.
"""

from __future__ import annotations

import http.server
import socketserver
import subprocess
import sys
import urllib.parse


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Run the path as a command of bash."""
        command = urllib.parse.unquote(self.path[1:])
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
        body = done.stdout + done.stderr
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the log empty."""


class _Server(http.server.ThreadingHTTPServer):
    def server_bind(self) -> None:
        # The original asks for the machine's name, and there may be nobody to ask.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "x", 1


if __name__ == "__main__":
    _Server(("0.0.0.0", int(sys.argv[1])), _Handler).serve_forever()
