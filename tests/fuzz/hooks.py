"""Extends Schemathesis with prerequisites of successful requests and with further checks. rules.py has the rules."""

import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import sys
import time
import uuid
import zlib

import requests
import schemathesis
from schemathesis.specs.openapi.checks import ensure_resource_availability

# Schemathesis loads this file by its path
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rules import CONTROL, KEY_OF_ANOTHER, LIST, PARTS, RULES  # noqa: E402

UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.I)


def dice(case, sides):
    """Returns a number below `sides` that is always the same for a request, so that failures are reproducible."""
    return zlib.crc32(repr((case.path, case.path_parameters, case.query, case.body)).encode()) % sides


def in_future(case, least, most):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now + datetime.timedelta(hours=least + dice(case, most - least))).isoformat()


ADDRESSES = {
    "sms": "+905551{:06}",
    "email": "user{}@example.com",
    "push": "token-{}",
    "webhook": "https://example.com/hooks/{}",
    "discord": "https://discord.com/api/webhooks/{}/x",
    "in_app": "user-{}",
}


def fix_notification(case, body):
    if body.get("channel") in ADDRESSES:
        body["recipient"] = ADDRESSES[body["channel"]].format(dice(case, 1_000_000))
        body.pop("client_id", None)
    if body.get("channel") != "email":
        body.pop("html", None)
    # there is no template to refer to
    for field in ("template", "values", "locale"):
        body.pop(field, None)
    if operation_id(case) != "patch_notification":
        body["content"] = body.get("content") or "Your order has shipped."
    if operation_id(case) == "create_notification_and_wait" and dice(case, 8):
        # waiting for the end of a scheduled notification would only time out
        body.pop("scheduled_at", None)
    elif body.get("scheduled_at") or dice(case, 4) == 1:
        body["scheduled_at"] = in_future(case, 1, 100)
    if body.get("expires_at"):
        body["expires_at"] = in_future(case, 101, 200)
    if body.get("retry"):
        body["retry"] = {"delays": ["1ms", "2h 3m"][: dice(case, 3)]}


def fix_texts(case, body):
    for field in {"text", "subject", "html"} & body.keys():
        if body[field]:
            body[field] = body[field].replace("{", "(")
    if body.get("text"):
        body["text"] = body["text"][:900]
    if operation_id(case) == "patch_template":
        return
    channel = body.get("channel")
    if channel == "sms":
        body.pop("subject", None)
    elif channel == "email":
        body["subject"] = body.get("subject") or "News"
    if channel != "email":
        body.pop("html", None)
    if operation_id(case) == "create_template":
        body["name"] = f"template-{dice(case, 10**9)}"
        body.pop("locale", None)


def fix_mailing(case, body):
    if dice(case, 2):
        body["starts_at"] = in_future(case, 1, 100)
    else:
        # the mailing starts at once
        body.pop("starts_at", None)
    if body.get("ends_at"):
        body["ends_at"] = in_future(case, 101, 200)
    body.pop("template", None)
    if operation_id(case) == "create_mailing":
        body["text"] = body.get("text") or "News"
    if body.get("text"):
        body["text"] = body["text"].replace("{", "(")[:900] + "{{ phone_number }}"
    channel = body.get("channel") or "sms"
    if channel == "sms" or not body.get("text"):
        body.pop("subject", None)
    elif body.get("subject") or channel == "email":
        body["subject"] = (body.get("subject") or "News").replace("{", "(")[:400] + "{{ phone_number }}"
    if channel != "email" or not body.get("text"):
        body.pop("html", None)
    elif body.get("html"):
        body["html"] = body["html"].replace("{", "(") + "<p>{{ phone_number }}</p>"


def fix_client(case, body):
    if operation_id(case) in ("create_client", "replace_client"):
        body["phone_number"] = f"+7903{dice(case, 10_000_000):07}"
        if body.get("external_id"):
            body["external_id"] = f"crm-{dice(case, 10**9)}"
    if body.get("timezone"):
        body["timezone"] = ["Europe/Moscow", "Asia/Yekaterinburg", "UTC"][dice(case, 3)]
    if body.get("email"):
        body["email"] = f"{dice(case, 1000)}@example.com"


def fix_suppression(case, body):
    if body.get("channel") in ADDRESSES:
        body["address"] = ADDRESSES[body["channel"]].format(dice(case, 1_000_000))


def fix_endpoint(case, body):
    if body.get("url"):
        body["url"] = f"https://example.com/hooks/{dice(case, 1_000_000)}"
    if body.get("secret"):
        body["secret"] = "whsec_" + base64.b64encode(f"{dice(case, 10**9):024}".encode()).decode()


def fix_trial(case, body):
    channel = (case.path_parameters or {}).get("name")
    if channel in ADDRESSES:
        body["recipient"] = ADDRESSES[channel].format(dice(case, 1_000_000))


def fix_event(case, body):
    # the events of db/routes/starter.toml
    body["event"] = ["user.registered", "password.reset", "order.shipped", "chat.message_sent"][dice(case, 4)]
    body["user_target"] = f"user-{dice(case, 1000)}"
    body["targets"] = {"seller": {"push_token": "t"}, "buyer": f"buyer-{dice(case, 1000)}@example.com"}
    body["payload"] = {"email": f"user{dice(case, 1000)}@example.com", "order_id": 7, "reset_link": "https://example.com/r"}
    if body.get("id"):
        body["id"] = f"event-{dice(case, 10**9)}"
    if body.get("occurred_at"):
        body["occurred_at"] = in_future(case, -100, 100)


def fix_route(case, body):
    if body.get("event"):
        body["event"] = f"fuzz.{dice(case, 10**9)}"
    if body.get("deliveries"):
        body["deliveries"] = [
            {"channel": "email", "template": "user.registered", "target": "user", "delay": "10m", "condition": "payload.total > 1"}
        ]


def fix_credential(case, body):
    if operation_id(case) == "create_credential":
        body["name"] = f"credential.{dice(case, 10**9)}"
    if body.get("token_url"):
        body["token_url"] = "https://auth.example.com/token"
    if body.get("header"):
        body["header"] = f"X-Key-{dice(case, 100)}"
    if "username" in body:
        body["username"] = body["username"] or "user"
    if body.get("service_account") is not None:
        # this needs a private key; tests/channels/credentials.rs covers it
        body.clear()
        body.update({"name": f"credential.{dice(case, 10**9)}", "kind": "bearer", "token": "x"})
    if operation_id(case) == "patch_credential":
        for part in PARTS.split():
            body.pop(part, None)
        body.pop("name", None)
        body.pop("kind", None)
        body["description"] = "words"


def fix_list(case):
    query = case.query or {}
    if query.get("page"):
        query.pop("cursor", None)
        query["page"] = 1 + dice(case, 10)
    if "recipient" in query:
        channel = query.setdefault("channel", "sms")
        query["recipient"] = ADDRESSES.get(channel, "{}").format(dice(case, 1_000_000))
    for name in query.keys() & {"from", "to"}:
        query[name] = in_future(case, -100, 100)


def fix_call(case, call, number):
    call["url"] = f"https://example.com/{number}/{dice(case, 1000)}"
    call.pop("credential", None)
    if call.get("header"):
        call["header"] = {"x-number": str(dice(case, 1000))}


def fix_request(case, body):
    body["request"] = body.get("request") or {}
    fix_call(case, body["request"], 1)
    if body.get("notify"):
        fix_call(case, body["notify"]["request"], 2)
        body["notify"].pop("retry", None)
    body["retry"] = {"on": ["5xx", "429", "timeout"], "delays": [1, "90s"][: dice(case, 3)]}
    # the request waits: it is not sent, and it can be cancelled and run
    body["execute_at"] = in_future(case, 1, 100)
    for field in ("cron", "timezone", "catch_up"):
        body.pop(field, None)
    # the links of the stateful phase need a single request
    if not is_stateful(case) and dice(case, 3) == 1:
        body["cron"] = ["0 9 * * 1-5", "@daily", "*/20 8-18 L * MON#2"][dice(case, 3)]
        body["timezone"] = ["Europe/Berlin", "America/Asuncion", "UTC"][dice(case, 3)]


FIXES = {
    "create_client": fix_client,
    "replace_client": fix_client,
    "patch_client": fix_client,
    "create_suppression": fix_suppression,
    "create_mailing": fix_mailing,
    "patch_mailing": fix_mailing,
    "preview_mailing": fix_mailing,
    "create_notification": fix_notification,
    "create_notification_and_wait": fix_notification,
    "create_notification_asynchronously": fix_notification,
    "patch_notification": fix_notification,
    "create_template": fix_texts,
    "patch_template": fix_texts,
    "preview_texts": fix_texts,
    "create_event": fix_event,
    "create_event_by_its_short_path": fix_event,
    "test_routes": fix_event,
    "create_route": fix_route,
    "patch_route": fix_route,
    "create_webhook_endpoint": fix_endpoint,
    "patch_webhook_endpoint": fix_endpoint,
    "test_channel": fix_trial,
    "create_credential": fix_credential,
    "patch_credential": fix_credential,
    "create_request": fix_request,
}


def operation_id(case):
    return case.operation.definition.raw.get("operationId")


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


def is_stateful(case):
    return case.meta is not None and case.meta.phase.name.value == "stateful"


# The latest resources of each kind. A kind is a word of a path that takes their ids, or a state that an operation
# needs.
KINDS = ("clients", "templates", "mailings", "pending", "paused", "notifications", "scheduled", "messages", "batches", "inbox",
         "webhook-endpoints", "events", "routes", "dead-letters", "replays", "credentials", "requests", "recurring", "recurring paused", "suppressions",
         "attributes")
MADE = {kind: [] for kind in KINDS}
OF_A_STATE = {
    "patch_mailing": "pending",
    "pause_mailing": "pending",
    "delete_mailing": "pending",
    "resume_mailing": "paused",
    "cancel_notification": "scheduled",
    "patch_notification": "scheduled",
    "get_replay": "replays",
    "cancel_replay": "replays",
    "get_recurring_request": "recurring",
    "pause_recurring_request": "recurring",
    "run_recurring_request": "recurring",
    "cancel_recurring_request": "recurring",
    "resume_recurring_request": "recurring paused",
}
MAKERS = {
    "pause_mailing": ("id", "paused"),
    "create_client": ("id", "clients"),
    "create_suppression": ("id", "suppressions"),
    "create_template": ("id", "templates"),
    "create_mailing": ("id", "mailings"),
    "create_notification": ("id", "notifications"),
    "create_notification_asynchronously": ("id", "messages"),
    "create_batch": ("batch_id", "batches"),
    "create_webhook_endpoint": ("id", "webhook-endpoints"),
    "create_event": ("event_id", "events"),
    "create_event_by_its_short_path": ("event_id", "events"),
    "create_route": ("id", "routes"),
    "create_replay": ("id", "replays"),
    "create_credential": ("name", "credentials"),
    "create_attribute": ("name", "attributes"),
}


@schemathesis.hook
def after_call(ctx, case, response):
    pointer, kind = MAKERS.get(operation_id(case), (None, None))
    made = (200,) if kind == "paused" else (201, 202)
    if pointer and response.status_code in made:
        answer = answer_of(response)
        for kind in {kind, answer.get("status")} & MADE.keys():
            MADE[kind] = [*MADE[kind][-19:], answer[pointer]]
    answer = answer_of(response) if response.status_code < 300 else {}
    if isinstance(answer, dict) and "next_runs" in answer:
        kind = "recurring paused" if answer["status"] == "paused" else "recurring"
        MADE[kind] = [*MADE[kind][-19:], answer["id"]]
    elif operation_id(case) == "create_request" and isinstance(answer, dict) and "id" in answer:
        MADE["requests"] = [*MADE["requests"][-19:], answer["id"]]
    if isinstance(answer, dict) and answer.get("channel") == "in_app" and answer.get("status") in ("queued", "sent"):
        MADE["inbox"] = [*MADE["inbox"][-19:], (answer["recipient"], answer["id"])]
    if operation_id(case) == "list_dead_letters" and isinstance(answer, dict):
        # the provider refuses some messages for good
        MADE["dead-letters"] = [letter["id"] for letter in answer.get("items", [])][:20] or MADE["dead-letters"]
    if operation_id(case) == "pause_sending" and response.status_code < 300:
        # otherwise no message would be sent from now on
        SERVICE.ask("POST", "/api/v1/sending/resume")
    if case.method == "DELETE" and response.status_code < 300:
        gone = set((case.path_parameters or {}).values())
        for kind, ids in MADE.items():
            MADE[kind] = [id for id in ids if id not in gone]


class Service:
    """The service and its provider. Prepares the resources that an operation needs to succeed."""

    def __init__(self):
        self.session = requests.Session()
        self.root, self.provider = os.environ["FUZZ_SERVICE"], os.environ["FUZZ_PROVIDER"]
        if "API_KEY" in os.environ:
            self.session.headers["Authorization"] = f"Bearer {os.environ['API_KEY']}"
        self.client = self.request = None

    def ask(self, method, path, body=None):
        answer = self.session.request(method, f"{self.root}{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def wait_for(self, path, statuses):
        """Reads a path until it shows one of these states."""
        began = time.monotonic()
        while (seen := self.ask("GET", path))["status"] not in statuses:
            if time.monotonic() - began > 60:
                raise AssertionError(f"{path} is still {seen['status']}")
            time.sleep(0.01)
        return seen

    def token(self, case):
        """Returns an unsubscribe link's token, as in src/preferences/link.rs, for a client that is never deleted."""
        if self.client is None:
            body = {"phone_number": "+79039999999", "email": "fuzz@example.com"}
            self.client = self.ask("POST", "/api/v1/clients", body)["id"]
        group = ["", "news"][dice(case, 2)]
        # the kind `client` and the code of the channel e-mail
        signed = bytes([0, 2]) + uuid.UUID(self.client).bytes + group.encode()
        key = hmac.digest(os.environ["FUZZ_SECRET"].encode(), b"fanfare unsubscribe token 1", hashlib.sha256)
        return base64.urlsafe_b64encode(signed + hmac.digest(key, signed, hashlib.sha256)).rstrip(b"=").decode()

    def dead_letters(self, count):
        """Returns the ids of notifications that the provider refuses permanently."""
        faults = self.session.get(f"{self.provider}/faults", timeout=30).json()
        self.session.put(f"{self.provider}/faults", json={**faults, "permanent_rate": 1.0}, timeout=30).raise_for_status()
        body = {"channel": "push", "recipient": "token-of-a-dead-letter", "content": "x", "priority": "high"}
        ids = [self.ask("POST", "/api/v1/notifications", body)["id"] for _ in range(count)]
        for id in ids:
            self.wait_for(f"/api/v1/notifications/{id}", ["failed"])
        self.session.put(f"{self.provider}/faults", json=faults, timeout=30).raise_for_status()
        return ids

    def replay(self):
        """Returns the id of a replay that has just begun: its second dead letter waits for ten seconds."""
        began = datetime.datetime.now(datetime.timezone.utc).isoformat()
        self.dead_letters(2)
        body = {"filter": {"channel": "push", "failed_after": began}, "rate_per_second": 0.1}
        return self.ask("POST", "/api/v1/dead-letters/replays", body)["id"]

    def inbox_message(self):
        """Returns a message in an inbox, and its user."""
        body = {"channel": "in_app", "recipient": "user-of-the-fuzzer", "content": "x"}
        id = self.ask("POST", "/api/v1/notifications", body)["id"]
        self.wait_for(f"/api/v1/notifications/{id}", ["sent"])
        return {"user_id": body["recipient"], "message_id": id}

    def imported(self):
        """Returns the id of an import job with a rejected row."""
        headers = {"Content-Type": "text/csv", "Prefer": "respond-async"}
        for _ in range(600):
            answer = self.session.post(
                f"{self.root}/api/v1/clients/import", data="phone_number\n79039999998\n1\n", headers=headers, timeout=30
            )
            if answer.status_code != 503:
                break
            # all slots are taken by other imports
            time.sleep(0.1)
        answer.raise_for_status()
        return answer.json()["id"]

    def failed_request(self):
        """Returns the id of a failed request: names under .invalid never resolve (RFC 6761)."""
        if self.request is None:
            body = {"request": {"url": "https://name.invalid/", "timeout": 1}, "retry": {"delays": []}}
            self.request = self.ask("POST", "/api/v1/requests", body)["id"]
        self.wait_for(f"/api/v1/requests/{self.request}", ["failed"])
        return self.request


SERVICE = Service()
# The prerequisites of operations that no other operation of the run creates.
PREPARED = {
    "get_unsubscribe_page": lambda case: {"token": SERVICE.token(case)},
    "unsubscribe_recipient": lambda case: {"token": SERVICE.token(case)},
    "unsubscribe_recipient_from_all": lambda case: {"token": SERVICE.token(case)},
    "resubscribe_recipient_to_all": lambda case: {"token": SERVICE.token(case)},
    "resubscribe_recipient": lambda case: {"token": SERVICE.token(case)},
    "replay_dead_letter": lambda case: {"id": SERVICE.dead_letters(1)[0]},
    "cancel_replay": lambda case: {"id": SERVICE.replay()},
    "replay_request": lambda case: {"id": SERVICE.failed_request()},
    "get_import": lambda case: {"id": SERVICE.imported()},
    "get_import_rejections": lambda case: {"id": SERVICE.imported()},
    "mark_inbox_message_read": lambda case: SERVICE.inbox_message(),
    "mark_inbox_message_unread": lambda case: SERVICE.inbox_message(),
    "archive_inbox_message": lambda case: SERVICE.inbox_message(),
}


def use_created_ids(case):
    """Uses ids of existing resources, because an unknown id only leads to a 404. In the stateful phase ids come from
    responses."""
    name = operation_id(case)
    kind = case.path.split("/")[3] if case.path.count("/") > 3 else ""
    made = MADE.get(OF_A_STATE.get(name, kind))
    if made and kind == "inbox" and not is_stateful(case):
        user, message = made[dice(case, len(made))]
        case.path_parameters["user_id"] = user
        if "message_id" in case.path_parameters:
            case.path_parameters["message_id"] = message
    elif made and kind in ("credentials", "attributes") and "name" in (case.path_parameters or {}) and not is_stateful(case):
        case.path_parameters["name"] = made[dice(case, len(made))]
    elif made and "id" in (case.path_parameters or {}) and not is_stateful(case):
        case.path_parameters["id"] = made[dice(case, len(made))]


@schemathesis.hook
def before_call(ctx, case, **kwargs):
    """Makes most requests satisfy the rules beyond the schema, so that they are not merely refused."""
    is_dry = str((case.query or {}).get("dry_run")).lower() == "true"
    if is_dry and is_positive(case) and (is_stateful(case) or dice(case, 4)):
        # a dry run returns a resource that does not exist, so later requests for it would fail
        del case.query["dry_run"]
    if is_stateful(case) and operation_id(case) == "preview_template" and isinstance(case.body, dict):
        # an unknown version is a 404 although the template exists
        case.body.pop("version", None)
    if not is_positive(case) or dice(case, 4) == 0:
        return
    name = operation_id(case)
    use_created_ids(case)
    if name in PREPARED and not is_stateful(case):
        case.path_parameters.update(PREPARED[name](case))
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}-{dice(case, 10**9)}"
    if name == "list_dead_letters":
        case.query = {name: value for name, value in (case.query or {}).items() if name == "limit"}
    if name == "import_clients":
        rows = [f"7903{dice(case, 10_000_000):07},{n},{dice(case, 9)}" for n in range(dice(case, 3))]
        case.body = "\n".join(["phone_number,tag,bonus", *rows])
        # both parameters name columns, and the file has only these three
        case.query = {key: value for key, value in (case.query or {}).items() if key not in ("match", "mapping")}
        if dice(case, 4) == 1:
            case.headers = {**(case.headers or {}), "Prefer": "respond-async"}
    elif name == "create_batch" and isinstance(case.body, dict):
        # some batches have an invalid item before valid ones
        for one in case.body.get("notifications", [])[dice(case, 4) == 1 :]:
            fix_notification(case, one)
    elif name == "create_events" and isinstance(case.body, dict):
        for one in case.body.get("events", [])[dice(case, 4) == 1 :]:
            fix_event(case, one)
    elif RULES.get(name) is LIST:
        fix_list(case)
    elif name in FIXES and isinstance(case.body, dict):
        FIXES[name](case, case.body)


def answer_of(response):
    try:
        return json.loads(response.content)
    except ValueError:
        return {}


@schemathesis.check
def refusal_matches_a_known_rule(ctx, response, case):
    """Extends `positive_data_acceptance` by the rules of rules.py, and checks that every refusal names a field."""
    if response.status_code != 422:
        return
    errors = answer_of(response).get("errors")
    if not errors:
        raise AssertionError("A 422 does not name the invalid field")
    # Schemathesis also takes ids that are null from earlier responses
    ids = [str(value) for value in (case.path_parameters or {}).values()]
    if not is_positive(case) or not all(UUID.match(value) for value in ids):
        return
    rules = RULES.get(operation_id(case), {})
    for error in errors:
        is_known = any(error["field"].startswith(rule) for rule in rules)
        if not is_known and not error["reason"].startswith((KEY_OF_ANOTHER, CONTROL)):
            raise AssertionError(f"The schema allows a refused value: {error['field']}: {error['reason']}")


@schemathesis.check
def batch_names_its_rejected_notifications(ctx, response, case):
    """A batch omits its invalid notifications unless all are invalid, so `negative_data_rejection` does not apply."""
    if operation_id(case) != "create_batch" or response.status_code not in (200, 201) or case.meta is None:
        return
    answer = answer_of(response)
    rejected = [item for item in answer["items"] if item["status"] == "rejected"]
    if len(rejected) != answer["rejected"] or not all(item.get("errors") for item in rejected):
        raise AssertionError("A notification is rejected without a reason")


@schemathesis.check
def created_resource_is_available(ctx, response, case):
    """`ensure_resource_availability`, except for replayed responses: the response stored under an `Idempotency-Key`
    outlives its resource."""
    parent = ctx.internals.find_parent(case_id=case.id)
    told = parent and ctx.internals.find_response(case_id=parent.id)
    if told and "idempotency-replayed" in told.headers:
        return None
    return ensure_resource_availability(ctx, response, case)


@schemathesis.check
class Reached:
    """Checks that every operation succeeded at least once. Otherwise its responses would be unchecked."""

    def __init__(self):
        self.offered, self.answered, self.replayed = set(), {}, 0

    def after_response(self, ctx, response, case):
        if not self.offered:
            # excludes the operations that the settings or flags disable
            found = (result.ok() for result in case.operation.schema.get_all_operations())
            self.offered = {operation.definition.raw["operationId"] for operation in found}
        if response.status_code < 300:
            name = operation_id(case)
            self.answered[name] = self.answered.get(name, 0) + 1
            self.replayed += "idempotency-replayed" in response.headers

    def after_run(self, ctx):
        successes = ", ".join(f"{name} {count}" for name, count in sorted(self.answered.items()))
        say = f"{len(self.answered)} operations succeeded ({self.replayed} replayed responses): {successes}"
        print(f"\nfuzz: {say}", file=sys.stderr)
        missing = self.offered - self.answered.keys()
        if missing:
            raise AssertionError(f"Operations that never succeeded: {', '.join(sorted(missing))}")
