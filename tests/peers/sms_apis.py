"""Stand-ins for the HTTP APIs of SMS providers, as documented.

/2010-04-01/Accounts/{sid}/Messages.json  Twilio (https://www.twilio.com/docs/messaging/api/message-resource), with the
                                          numbers of its test credentials (https://www.twilio.com/docs/iam/test-credentials)
/sms/json                                 Vonage (https://developer.vonage.com/en/api/sms)
/plain/{phone}                            a generic provider: PUT with JSON, or GET with a query

Prints its address, then each request as a line of JSON. The recipient's number selects the response.
"""

import base64
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TWILIO_SID = "AC" + "0123456789abcdef" * 2
TWILIO_TOKEN = "token&with=signs+"
VONAGE_KEY, VONAGE_SECRET = "abcd1234", "s3cr&t=+ %"
# 3GPP TS 23.038, 6.2.1
GSM = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà\f^{}\\[~]|€"
)
# From Twilio's documentation of the test numbers, and from its list of error codes for the other numbers.
TWILIO_ERRORS = {
    "+15005550001": (400, 21211, "The 'To' number +15005550001 is not a valid phone number."),
    "+15005550002": (400, 21612, "The 'To' phone number is not currently reachable via SMS."),
    "+15005550003": (400, 21408, "Permission to send an SMS has not been enabled for the region."),
    "+15005550004": (400, 21610, "Attempt to send to unsubscribed recipient."),
    "+15005550009": (400, 21614, "'To' number is not a valid mobile number."),
    "+15005550090": (429, 20429, "Too Many Requests"),
    "+15005550091": (503, 20503, "Service unavailable"),
}
VONAGE_ERRORS = {
    "15005550001": ("1", "Throughput Rate Exceeded - please wait [ 1000 ] and retry"),
    "15005550003": ("3", "Invalid Parameters"),
    "15005550005": ("5", "Internal Error"),
    "15005550007": ("7", "Number Barred"),
}


class Refused(Exception):
    """A request that violates the documentation."""


def expect(condition, why):
    if not condition:
        raise Refused(why)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def form(self):
        expect(self.headers["Content-Type"] == "application/x-www-form-urlencoded", "the type of the body")
        fields = parse_qs(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        expect(all(len(values) == 1 for values in fields.values()), "a field twice")
        return {name: values[0] for name, values in fields.items()}

    def handle_one(self):
        length = self.headers["Content-Length"]
        self.body = self.rfile.read(int(length)) if length else b""
        path = urlsplit(self.path).path
        try:
            if path.startswith("/2010-04-01/"):
                fields = self.twilio(path)
            elif path == "/sms/json":
                fields = self.vonage()
            else:
                fields = self.plain()
        except (Refused, ValueError, KeyError) as why:
            fields = {"refused": repr(why)}
            self.answer(400, {"error": "refused"})
        fields["idempotency_key"] = self.headers["Idempotency-Key"]
        # in a single write, because other threads also write
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()

    do_POST = do_PUT = do_GET = handle_one

    def twilio(self, path):
        expect(self.command == "POST", "the method")
        account = re.fullmatch(r"/2010-04-01/Accounts/(AC[0-9a-f]{32})/Messages\.json", path)
        expect(account and account[1] == TWILIO_SID, "the path")
        credentials = base64.b64encode(f"{TWILIO_SID}:{TWILIO_TOKEN}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {credentials}":
            self.twilio_error(401, 20003, "Authenticate")
            return {"refused": "credentials"}
        fields = self.form()
        expect(re.fullmatch(r"\+[1-9]\d{6,14}", fields["To"]), "To is not E.164")
        expect(fields.get("From") or fields.get("MessagingServiceSid"), "no sender")
        expect(0 < len(fields["Body"]) <= 1600, "the length of Body")
        if fields["To"] == "+15005550099":
            self.answer(201, b"<html>hello</html>")
        elif fields["To"] in TWILIO_ERRORS:
            self.twilio_error(*TWILIO_ERRORS[fields["To"]])
        else:
            self.answer(201, {"sid": "SM" + "0" * 32, "status": "queued", "error_code": None, "to": fields["To"]})
        return fields

    def twilio_error(self, status, code, message):
        headers = [("Retry-After", "7")] if status == 429 else []
        more = f"https://www.twilio.com/docs/errors/{code}"
        self.answer(status, {"code": code, "message": message, "more_info": more, "status": status}, headers)

    def vonage(self):
        expect(self.command == "POST", "the method")
        fields = self.form()
        expect(re.fullmatch(r"\d{7,15}", fields["to"]), "to is not E.164 without a plus")
        expect(fields["from"] and fields["text"], "from or text is empty")
        expect(len(fields.get("client-ref", "")) <= 40, "client-ref is longer than 40 characters")
        fits = set(fields["text"]) <= GSM
        expect(fields.get("type", "text") == ("text" if fits else "unicode"), "type")
        status, why = VONAGE_ERRORS.get(fields["to"], ("0", None))
        if (fields["api_key"], fields["api_secret"]) != (VONAGE_KEY, VONAGE_SECRET):
            status, why = "4", "Bad Credentials"
        message = {"status": status, "error-text": why} if why else {
            "to": fields["to"], "message-id": "0A0000000123ABCD1", "status": "0", "remaining-balance": "3.14",
            "message-price": "0.03", "network": "12345",
        }
        self.answer(200, {"message-count": "1", "messages": [message]})
        del fields["api_secret"]
        return fields

    def plain(self):
        url = urlsplit(self.path)
        fields = {"phone": unquote(url.path.removeprefix("/plain/")), "token": self.headers["X-Token"]}
        fields["tag"] = self.headers["X-Tag"]
        if self.command == "GET":
            expect(not self.body, "a body")
            fields["query"] = parse_qs(url.query, keep_blank_values=True, strict_parsing=True)
        else:
            expect(self.command == "PUT" and self.headers["Content-Type"] == "application/json", "no JSON")
            fields["body"] = json.loads(self.body)
        self.answer(200, {"accepted": True, "number": 17})
        return fields


class Server(ThreadingHTTPServer):
    daemon_threads = True


def main():
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
