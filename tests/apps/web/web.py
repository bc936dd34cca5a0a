"""A web server on $PORT that tells about itself, and what the other web apps of the tests are made of.

GET /pid, /dyno, /color ($COLOR), /headers (as they came, in JSON), /slow?s=SECONDS; POST /echo. Each connection has a
thread of its own. It is not gentle at the end: SIGTERM ends it with whatever it is answering.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MAX_BODY = 64 << 20


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers on a connection that is kept do not wait for an acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        url = urlsplit(self.path)
        answer = {
            "/": lambda: "hello\n",
            "/pid": lambda: f"{os.getpid()}\n",
            "/dyno": lambda: os.environ.get("DYNO", "") + "\n",
            "/color": lambda: os.environ.get("COLOR", "") + "\n",
            "/headers": lambda: json.dumps(self.headers.items()) + "\n",
            "/slow": lambda: self.slow(parse_qs(url.query)),
        }.get(url.path)
        if answer is None:
            self.answer(404, b"not found\n")
        else:
            self.answer(200, answer().encode())

    do_HEAD = do_GET

    def do_POST(self):
        body = self.body()
        if urlsplit(self.path).path == "/echo":
            self.answer(200, body, self.headers.get("Content-Type"))
        else:
            self.answer(404, b"not found\n")

    def slow(self, query):
        time.sleep(float(query.get("s", ["1"])[0]))
        return "slow\n"

    def body(self):
        """The body of the request, framed in whichever way."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MAX_BODY))
        body = b""
        while len(body) <= MAX_BODY:
            size = int(self.rfile.readline(1024).split(b";")[0], 16)
            if size == 0:
                while self.rfile.readline(8192).strip():
                    pass
                break
            body += self.rfile.read(size)
            self.rfile.readline(2)
        return body

    def answer(self, status, body, content_type="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", content_type or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        # The head is flushed together with the body: in one packet.
        self._headers_buffer.append(b"\r\n")
        if self.command != "HEAD":
            self._headers_buffer.append(body)
        self.flush_headers()

    def log_message(self, *_):
        """Requests are not logged: there are many."""


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(handler=Handler):
    """Listens on $PORT, says so, and answers until it is ended."""
    server = Server(("127.0.0.1", int(os.environ["PORT"])), handler)
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
