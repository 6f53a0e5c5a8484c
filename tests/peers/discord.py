"""A stand-in for Discord's webhooks (Execute Webhook, Rate Limits), and for an incoming webhook like Slack's.

Prints its address, and then a line for each request: `ok|bad WEBHOOK` and, for an accepted request, its JSON.
At the first attempt of every message the webhook `limited` returns 429 with its own limit and `everybody` 429 with the
global limit. `unknown` returns 404. The second of two messages with the same nonce and enforce_nonce gets the id of the
first.
"""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FIELDS = {
    "content": str, "username": str, "avatar_url": str, "tts": bool, "embeds": list, "allowed_mentions": dict,
    "components": list, "flags": int, "thread_name": str, "applied_tags": list, "poll": dict,
    # documented for Create Message
    "nonce": (str, int), "enforce_nonce": bool,
}  # fmt: skip
LOCK = threading.Lock()
SEEN = set()
BY_NONCE = {}


def wrong_with(message):
    """Returns the error of a message by Discord's limits."""
    for name, value in message.items():
        if name not in FIELDS or not isinstance(value, FIELDS[name]):
            return f"{name}: unknown or of a wrong type"
    if not (message.get("content") or message.get("embeds") or message.get("components") or message.get("poll")):
        return "content: cannot send an empty message"
    if len(message.get("content", "")) > 2000:
        return "content: must be 2000 or fewer in length"
    if len(message.get("embeds", [])) > 10:
        return "embeds: must be 10 or fewer"
    if "username" in message and not 1 <= len(message["username"]) <= 80:
        return "username: must be between 1 and 80 in length"
    if len(str(message.get("nonce", ""))) > 25:
        return "nonce: must be 25 or fewer in length"
    if set(message.get("allowed_mentions", {}).get("parse", [])) - {"users", "roles", "everyone"}:
        return "allowed_mentions: unknown kind"
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_):
        pass

    def answer(self, status, body, line, **headers):
        with LOCK:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def do_POST(self):
        url = urlsplit(self.path)
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        try:
            message = json.loads(text)
        except ValueError:
            return self.answer(400, {"code": 50109, "message": "invalid JSON"}, "bad JSON")
        if url.path.startswith("/services/"):
            if not isinstance(message.get("text"), str):
                return self.answer(400, b"no_text", "bad no text")
            return self.answer(200, b"ok", f"ok slack {json.dumps(message)}")
        match = re.fullmatch(r"/api(?:/v\d+)?/webhooks/(\w+)/([\w-]+)", url.path)
        if not match or match[1] == "unknown":
            return self.answer(404, {"code": 10015, "message": "Unknown Webhook"}, "bad unknown")
        if match[2] != "token":
            return self.answer(401, {"code": 50027, "message": "Invalid Webhook Token"}, "bad token")
        if self.headers.get("content-type") != "application/json":
            return self.answer(400, {"code": 50035}, "bad type")
        if wrong := wrong_with(message):
            return self.answer(400, {"code": 50035, "message": "Invalid Form Body"}, f"bad {wrong}")
        name, nonce = match[1], message.get("nonce")
        with LOCK:
            is_first = (name, nonce) not in SEEN
            SEEN.add((name, nonce))
        if name in ("limited", "everybody") and is_first:
            is_global = name == "everybody"
            body = {"message": "You are being rate limited.", "retry_after": 0.65, "global": is_global}
            scope = {"x_ratelimit_scope": "global", "x_ratelimit_global": "true"} if is_global else {
                "x_ratelimit_scope": "shared", "x_ratelimit_reset_after": "0.65", "x_ratelimit_bucket": "abcd"}  # fmt: skip
            return self.answer(429, body, f"ok {name} limited", retry_after="1", **scope)
        if parse_qs(url.query).get("wait") != ["true"]:
            return self.answer(204, b"", "bad no wait")
        with LOCK:
            new = str(1_200_000_000_000_000_000 + len(BY_NONCE))
            known = BY_NONCE.setdefault((name, nonce), new) if message.get("enforce_nonce") and nonce else new
        self.answer(200, {"id": known, "nonce": nonce}, f"ok {name} {json.dumps(message)}")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


server = Server(("127.0.0.1", 0), Handler)
print(f"127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
