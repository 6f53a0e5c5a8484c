"""A stand-in for an OAuth 2.0 token endpoint with the client credentials grant (RFC 6749).

POST /token              4.4.2 and 2.3.1: authenticates a client of CLIENTS by HTTP Basic or by the body, never by both
POST /status/{code}      responds with this status, and with `invalid_client` in the form of 5.2
POST /hostile/{how}      responds as no token endpoint should

    oauth.py [--expires-in SECONDS] [--held N]

--expires-in: 0 omits the field. --held: the Nth request for a token waits for a GET of /release.

Prints `{"base"}`, and then a line for each request before it responds.
"""

import argparse
import base64
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_plus

# with all characters that a form must encode
CLIENTS = {"app:1 +%&=": "planted s/e=c+r:e t&%", "plain": "planted-secret"}


class Refused(Exception):
    """A request that is refused with this error code of RFC 6749, 5.2."""

    def __init__(self, word, why):
        super().__init__(why)
        self.word = word


def expect(condition, why, word="invalid_request"):
    if not condition:
        raise Refused(word, why)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def told(self, event):
        with self.server.lock:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()

    def answer(self, status, body, headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.released.set()
        self.answer(200, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        where, _, what = self.path.lstrip("/").partition("/")
        try:
            if where == "status":
                self.told({"status": int(what)})
                self.answer(int(what), {"error": "invalid_client", "error_description": "planted"})
            elif where == "hostile":
                self.told({"hostile": what})
                getattr(self, f"hostile_{what}")()
            else:
                self.token(body)
        except Refused as why:
            self.told({"refused": str(why), "word": why.word})
            basic = {"WWW-Authenticate": "Basic"} if self.headers["Authorization"] else {}
            status = 401 if why.word == "invalid_client" else 400
            self.answer(status, {"error": why.word, "error_description": f"planted {why}"}, basic)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def token(self, body):
        expect(self.headers["Content-Type"] == "application/x-www-form-urlencoded", "the type of the body")
        expect("Expect" not in self.headers and self.headers["User-Agent"].startswith("fanfare/"), "the headers")
        fields = parse_qs(body.decode("ascii"), strict_parsing=True)
        expect(all(len(values) == 1 for values in fields.values()), "a parameter twice")
        expect(set(fields) <= {"grant_type", "scope", "audience", "client_id", "client_secret"}, "an unknown parameter")
        expect(fields["grant_type"] == ["client_credentials"], "the grant", "unsupported_grant_type")
        scheme, _, given = (self.headers["Authorization"] or "").partition(" ")
        if scheme:
            expect(scheme == "Basic" and "client_secret" not in fields and "client_id" not in fields, "two authentication methods")
            client, _, secret = base64.b64decode(given, validate=True).decode("ascii").partition(":")
            client, secret, way = unquote_plus(client), unquote_plus(secret), "basic"
        else:
            client, secret, way = fields["client_id"][0], fields["client_secret"][0], "body"
        expect(CLIENTS.get(client) == secret, "the client", "invalid_client")
        with self.server.lock:
            self.server.asked += 1
            number = self.server.asked
        scope, audience = (fields.get(name, [None])[0] for name in ("scope", "audience"))
        self.told({"token": number, "client": client, "way": way, "scope": scope, "audience": audience})
        if number == self.server.options.held:
            self.server.released.wait(20)
        granted = {"access_token": f"planted-token-{number}", "token_type": "bearer", "example_parameter": "x"}
        if self.server.options.expires_in:
            granted["expires_in"] = self.server.options.expires_in
        self.answer(200, granted)

    def hostile_huge(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b'{"access_token": "planted' + b"x" * 65536)

    def hostile_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b" ")
            time.sleep(0.2)

    def hostile_cut(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"access_token": "planted"}')
        self.close_connection = True

    def hostile_html(self):
        self.answer(200, b"<html>planted</html>")

    def hostile_lines(self):
        self.answer(200, {"access_token": "planted\r\nX-Evil: 1", "token_type": "Bearer"})

    def hostile_empty(self):
        self.answer(200, {"access_token": "", "token_type": "Bearer"})

    def hostile_deep(self):
        self.answer(200, b"[" * 60000)

    def hostile_type(self):
        self.answer(200, {"access_token": "planted", "token_type": "DPoP"})

    def hostile_error(self):
        self.answer(200, {"error": "planted"})

    def hostile_redirect(self):
        self.answer(307, b"", {"Location": f"{self.server.base}/token"})

    def hostile_words(self):
        self.answer(401, {"error": "planted <script> +79031234567", "error_description": "planted"})

    def hostile_silence(self):
        self.connection.close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--expires-in", type=int, default=3600)
    parser.add_argument("--held", type=int, default=0)
    server = Server(("127.0.0.1", 0), Handler)
    server.options = parser.parse_args()
    server.lock, server.released, server.asked = threading.Lock(), threading.Event(), 0
    server.base = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"base": server.base}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
