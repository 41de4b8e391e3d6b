"""An application that writes down what it receives, byte for byte, with nothing but the standard library.

    recorder.py FOLDER

Prints its port, then answers every POST with 200 and writes the body to FOLDER/1.body, FOLDER/2.body, and so on.
"""

import http.server
import itertools
import pathlib
import sys

FOLDER = pathlib.Path(sys.argv[1])
NUMBERS = itertools.count(1)


class Recorder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):  # noqa: N802, the name is that of the standard library
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (FOLDER / f"{next(NUMBERS)}.body").write_bytes(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        """Says nothing."""


server = http.server.HTTPServer(("127.0.0.1", 0), Recorder)
print(server.server_port, flush=True)
server.serve_forever()
