"""GET /stream is answered with one chunk after the other for as long as a visitor reads: `tick N`, every $INTERVAL
seconds, or every `?interval=SECONDS`."""

import itertools
import os
import time
from urllib.parse import parse_qs, urlsplit

import web


class Handler(web.Handler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path != "/stream":
            return super().do_GET()
        interval = parse_qs(url.query).get("interval", [os.environ.get("INTERVAL", "0.1")])[0]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number in itertools.count(1):
                line = f"tick {number}\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                time.sleep(float(interval))
        except ConnectionError:
            print("reader gone", flush=True)
        self.close_connection = True


web.serve(Handler)
