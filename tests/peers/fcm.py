"""A stand-in for Google's token endpoint and for Firebase Cloud Messaging, HTTP v1, as documented.

/token                                    https://developers.google.com/identity/protocols/oauth2/service-account#httprest
/v1/projects/{project}/messages:send      https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages

    fcm.py [--expires-in SECONDS] [--failing-token N] [--renewal-after N]

--failing-token: the Nth request for a token fails. --renewal-after: from the second on, requests for a token wait until
N messages were sent.

Prints `{"base", "service_account"}`, with a key created for this run, and then a line for each request before it
responds. The registration token selects the response.
"""

import argparse
import base64
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PROJECT = "demo-project"
EMAIL = "sender@demo-project.iam.gserviceaccount.com"
KEY_ID = "0123456789abcdef"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"


def fcm(code):
    return {"@type": FCM_ERROR, "errorCode": code}


def violation(field):
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": "Invalid value"}]}


def quota(subject):
    return {"@type": QUOTA_FAILURE, "violations": [{"subject": subject, "description": "exceeded"}]}


# From https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode and the examples of
# https://firebase.google.com/docs/cloud-messaging/error-codes: status, canonical code, message, details, headers.
ERRORS = {
    "unregistered": (404, "NOT_FOUND", "Requested entity was not found.", [fcm("UNREGISTERED")]),
    "malformed": (
        400, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token",
        [fcm("INVALID_ARGUMENT")],
    ),
    "malformed-field": (
        400, "INVALID_ARGUMENT", "Request contains an invalid argument.",
        [fcm("INVALID_ARGUMENT"), violation("message.token")],
    ),
    "invalid": (
        400, "INVALID_ARGUMENT", "Invalid value at 'message.data[0].value' (TYPE_STRING), 12",
        [violation("message.data[0].value")],
    ),
    "mismatch": (403, "PERMISSION_DENIED", "SenderId mismatch", [fcm("SENDER_ID_MISMATCH")]),
    "denied": (403, "PERMISSION_DENIED", "Permission denied on resource project", []),
    "quota": (429, "RESOURCE_EXHAUSTED", "Quota exceeded", [fcm("QUOTA_EXCEEDED"), quota("project:demo-project")]),
    "quota-after": (429, "RESOURCE_EXHAUSTED", "Quota exceeded", [], {"Retry-After": "7"}),
    "quota-device": (429, "RESOURCE_EXHAUSTED", "Quota exceeded", [fcm("QUOTA_EXCEEDED"), quota("device:quota-device")]),
    "unavailable": (503, "UNAVAILABLE", "The service is currently unavailable.", [fcm("UNAVAILABLE")], {"Retry-After": "8"}),
    "internal": (500, "INTERNAL", "Internal error encountered.", [fcm("INTERNAL")]),
    "third-party": (
        401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service", [fcm("THIRD_PARTY_AUTH_ERROR")],
    ),
}


class Refused(Exception):
    """A request that violates the documentation."""


def expect(condition, why):
    if not condition:
        raise Refused(why)


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Google:
    """The granted tokens and the key of the service account."""

    def __init__(self, options):
        self.options = options
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.asked = 0
        self.tokens = set()
        self.lock = threading.Lock()
        self.sent = 0
        self.one_more = threading.Condition(self.lock)

    def service_account(self, base):
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account", "project_id": PROJECT, "private_key_id": KEY_ID, "private_key": pem.decode(),
            "client_email": EMAIL, "client_id": "1", "token_uri": f"{base}/token",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth", "universe_domain": "googleapis.com",
        }

    def claims(self, assertion, token_uri):
        header, claims, signature = assertion.split(".")
        expect("=" not in assertion, "padding")
        try:
            self.key.public_key().verify(
                decoded(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            raise Refused("the signature") from None
        header, claims = json.loads(decoded(header)), json.loads(decoded(claims))
        expect(header == {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}, "the header")
        expect(set(claims) == {"iss", "scope", "aud", "iat", "exp"}, "the claims")
        expect(claims["iss"] == EMAIL and claims["aud"] == token_uri, "iss or aud")
        expect(claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging", "the scope")
        expect(abs(claims["iat"] - time.time()) < 3600, "iat is not now")
        expect(claims["iat"] < claims["exp"] <= claims["iat"] + 3600, "exp is more than an hour after iat")
        return claims


def of_type(value, kind, keys=None):
    return isinstance(value, kind) and (keys is None or set(value) <= keys)


def check_message(body):
    expect(set(body) <= {"message", "validate_only"}, "an unknown field next to the message")
    message = body["message"]
    fields = {"token", "notification", "data", "android", "apns", "webpush", "fcm_options"}
    expect(of_type(message, dict, fields), "an unknown field of the message")
    expect(of_type(message["token"], str), "the token")
    notification = message.get("notification", {})
    expect(of_type(notification, dict, {"title", "body", "image"}), "the notification")
    expect(all(of_type(text, str) for text in notification.values()), "a text of the notification")
    data = message.get("data", {})
    expect(of_type(data, dict) and all(of_type(value, str) for value in data.values()), "data that is not a string")
    reserved = [key for key in data if key in ("from", "message_type") or key.startswith(("google.", "gcm."))]
    expect(not reserved, "a reserved key")
    android = {
        "collapse_key", "priority", "ttl", "restricted_package_name", "data", "notification", "fcm_options",
        "direct_boot_ok", "bandwidth_constrained_ok", "restricted_satellite_ok",
    }
    expect(of_type(message.get("android", {}), dict, android), "android")
    expect(of_type(message.get("webpush", {}), dict, {"headers", "data", "notification", "fcm_options"}), "webpush")
    apns = message.get("apns", {})
    expect(of_type(apns, dict, {"headers", "payload", "fcm_options", "live_activity_token"}), "apns")
    headers = apns.get("headers", {})
    expect(of_type(headers, dict) and all(of_type(value, str) for value in headers.values()), "apns.headers")
    expect(len(headers.get("apns-collapse-id", "").encode()) <= 64, "apns-collapse-id is longer than 64 bytes")
    return message["token"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def told(self, event):
        # under a lock, because other threads also write
        with self.server.google.lock:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            if self.path == "/token":
                self.token(body)
            else:
                self.send(body)
        except (Refused, ValueError, KeyError) as why:
            self.told({"refused": repr(why)})
            self.answer(400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "refused"}})

    def token(self, body):
        google, options = self.server.google, self.server.google.options
        expect(self.headers["Content-Type"] == "application/x-www-form-urlencoded", "the type of the body")
        fields = parse_qs(body.decode("ascii"), strict_parsing=True)
        expect(fields["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"], "the grant")
        claims = google.claims(fields["assertion"][0], f"{self.server.base}/token")
        with google.lock:
            google.asked += 1
            number = google.asked
        self.told({"token": number, "iat": claims["iat"]})
        if number == options.failing_token:
            self.answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT: Token must be short-lived"})
            return
        if number > 1:
            with google.one_more:
                if not google.one_more.wait_for(lambda: google.sent >= options.renewal_after, timeout=20):
                    raise Refused("no message was sent in the meantime")
        token = f"ya29.token-{number}"
        google.tokens.add(token)
        self.answer(200, {"access_token": token, "expires_in": options.expires_in, "token_type": "Bearer"})

    def send(self, body):
        google = self.server.google
        expect(self.path == f"/v1/projects/{PROJECT}/messages:send", "the path")
        expect(self.headers["Content-Type"] == "application/json", "the type of the body")
        body = json.loads(body)
        bearer = self.headers["Authorization"].removeprefix("Bearer ")
        device = check_message(body)
        self.told({"sent": body, "bearer": bearer})
        if device == "revoke":
            google.tokens.discard(bearer)
        with google.one_more:
            google.sent += 1
            google.one_more.notify_all()
        if bearer not in google.tokens:
            # Google's response to an expired token, which has no FcmError
            self.error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", [])
        elif device == "garbage":
            self.answer(200, b"<html>hello</html>")
        elif device in ERRORS:
            self.error(*ERRORS[device])
        else:
            self.answer(200, {"name": f"projects/{PROJECT}/messages/0:1500415314455276%31bd1c9631bd1c96"})

    def error(self, code, status, message, details, headers=None):
        error = {"code": code, "message": message, "status": status}
        self.answer(code, {"error": {**error, "details": details} if details else error}, headers)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--expires-in", type=int, default=3599)
    parser.add_argument("--failing-token", type=int, default=0)
    parser.add_argument("--renewal-after", type=int, default=0)
    server = Server(("127.0.0.1", 0), Handler)
    server.google = Google(parser.parse_args())
    server.base = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"base": server.base, "service_account": server.google.service_account(server.base)}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
