"""Webhook endpoints that verify every request with the published library of Standard Webhooks.

webhook.py SECRET [SECRET ...]: a request is valid if it verifies with each of these secrets. Prints its address, and
then a line for each request: `ok|bad PATH WEBHOOK-ID` and the reason if it is bad.

/ok accepts the request. /flaky returns 503 at a message's first attempt. /gone, /limited and /redirect return the
status of their name. /slow never responds, /garbage does not speak HTTP, and /huge accepts with a body of 10 MB.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook

VERIFIERS = [Webhook(secret) for secret in sys.argv[1:]]
LOCK = threading.Lock()
SEEN = set()
NEVER = threading.Event()


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_):
        pass

    def wrong(self, body):
        """Returns the error of the request."""
        headers = dict(self.headers.items())
        for number, verifier in enumerate(VERIFIERS):
            try:
                message = verifier.verify(body, headers)
            except Exception as error:  # any error makes the request bad
                return f"secret {number}: {error!r}"
        if headers.get("content-type") != "application/json":
            return "not JSON by its type"
        if not headers.get("user-agent", "").startswith("fanfare/"):
            return "not by its name"
        if headers.get("idempotency-key") != headers["webhook-id"] or message["data"]["id"] != headers["webhook-id"]:
            return "more than one id"
        if message["type"] != "message" or "timestamp" not in message or not message["data"]["text"]:
            return "not the documented body"
        return None

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        wrong = self.wrong(body)
        message = self.headers.get("webhook-id")
        with LOCK:
            is_first = message not in SEEN
            SEEN.add(message)
            sys.stdout.write(f"{'bad' if wrong else 'ok'} {self.path} {message}{' ' + wrong if wrong else ''}\n")
            sys.stdout.flush()
        if wrong:
            return self.answer(400)
        match self.path:
            case "/flaky" if is_first:
                self.answer(503, retry_after="1")
            case "/gone":
                self.answer(410)
            case "/limited":
                self.answer(429, retry_after="7")
            case "/redirect":
                self.answer(307, location="/ok")
            case "/slow":
                NEVER.wait()
            case "/garbage":
                self.wfile.write(b"\x00\xff no HTTP at all\r\n\r\n")
                self.wfile.flush()
                self.close_connection = True
            case "/huge":
                self.close_connection = True
                try:
                    self.answer(200, b"a" * 10 * 1024 * 1024)
                except OSError:
                    pass  # the client closed the connection early
            case _:
                self.answer(200, json.dumps({"ok": True}).encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


server = Server(("127.0.0.1", 0), Endpoint)
print(f"127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
