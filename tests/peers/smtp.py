"""A mail server (aiosmtpd) on a free port of 127.0.0.1.

Its first line contains its port. Each further line is an accepted mail as parsed by Python. The recipient's local part
selects the response: `gone`, `later` and `denied` at RCPT, `spam` and `busy` at the mail.
"""

import argparse
import asyncio
import email
import email.policy
import json
import ssl
import subprocess

from aiosmtpd.smtp import AuthResult, SMTP

AT_RECIPIENT = {
    "gone": "550 5.1.1 <gone@example.net>: no such user",
    "later": "450 4.2.0 <later@example.net>: greylisted",
    "denied": "550 5.7.1 <denied@example.net>: denied",
}
AT_MAIL = {"spam": "554 5.7.1 this is spam", "busy": "451 4.3.0 come back later"}


def say(line):
    print(json.dumps(line), flush=True)


class Handler:
    def __init__(self, pipelining):
        self.pipelining = pipelining
        self.mails = {}

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return responses[:-1] + ["250-PIPELINING"] * self.pipelining + responses[-1:]

    async def handle_RCPT(self, server, session, envelope, address, options):
        refusal = AT_RECIPIENT.get(address.split("@")[0])
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        refusal = AT_MAIL.get(envelope.rcpt_tos[0].split("@")[0])
        if refusal:
            return refusal
        mail = email.message_from_bytes(envelope.content, policy=email.policy.SMTPUTF8)
        parts = [part for part in mail.walk() if not part.is_multipart()]
        # the number of mails over this connection
        number = self.mails[session.peer] = self.mails.get(session.peer, 0) + 1
        say(
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "options": envelope.mail_options,
                "hello": session.host_name,
                "tls": server.transport.get_extra_info("sslcontext") is not None,
                "user": session.auth_data,
                "number": number,
                "headers": [[name, str(value)] for name, value in mail.items()],
                "parts": [[part.get_content_type(), part.get_content().replace("\r\n", "\n")] for part in parts],
                "defects": [str(defect) for part in mail.walk() for defect in part.defects]
                + [str(defect) for value in mail.values() for defect in value.defects],
            }
        )
        return "250 2.0.0 Ok: queued as 4XyZ"


def authenticate(user, password):
    def check(server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=good, handled=False, auth_data=f"{user} by {mechanism}")

    return check


def certificate(folder):
    """Creates a self-signed certificate for the name localhost, not for its address."""
    paths = [f"{folder}/key.pem", f"{folder}/certificate.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=A mail server for tests of fanfare", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", paths[0], "-out", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


async def main():
    args = argparse.ArgumentParser()
    args.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    args.add_argument("--certificate", help="folder for the certificate")
    args.add_argument("--user")
    args.add_argument("--password", default="")
    args.add_argument("--without", default="", help="login mechanism to exclude")
    args.add_argument("--pipelining", action="store_true")
    args.add_argument("--utf8", action="store_true")
    args.add_argument("--largest", type=int, default=1_000_000)
    args = args.parse_args()

    context, path = None, None
    if args.tls != "none":
        key, path = certificate(args.certificate)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path, key)
    handler = Handler(args.pipelining)

    def protocol():
        login = {"auth_required": True, "authenticator": authenticate(args.user, args.password)} if args.user else {}
        return SMTP(
            handler,
            data_size_limit=args.largest,
            enable_SMTPUTF8=args.utf8,
            tls_context=context if args.tls == "starttls" else None,
            require_starttls=args.tls == "starttls",
            auth_require_tls=args.tls == "starttls",
            auth_exclude_mechanism=[args.without],
            loop=asyncio.get_running_loop(),
            **login,
        )

    implicit = context if args.tls == "implicit" else None
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=implicit)
    say({"port": server.sockets[0].getsockname()[1], "certificate": path})
    await server.serve_forever()


asyncio.run(main())
