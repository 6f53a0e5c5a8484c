"""The rules that no schema can express, by operation and field. A request that its schema allows may break them."""

# The reasons for which a request that its schema allows may be refused, by the field that the refusal names. Any other
# refusal means that the schema allows too much. A key matches as a prefix, without indices.
TIMES = "times are ascending, in the years 1970 to 9999, and a window has not ended yet"
LIST = {
    "cursor": "a cursor comes from a response of the same list",
    "page": "not together with `cursor`, and `page` times `limit` is bounded",
    "recipient": "an address needs its channel",
    "from": TIMES,
    "to": TIMES,
}
CLIENT = {
    "phone_number": "the number is possible in its country, by libphonenumber's data",
    "timezone": "the IANA names are too many for a schema and change with every release",
    "attributes": "not the name of another field, and at most 500 with 50,000 characters after the merge",
    "email": "64 bytes before the @, 254 bytes in all: a schema counts characters",
    "push_token": "4096 bytes: a schema counts characters",
    "tag": "together with `tags` it is the first of them",
}
MAILING = {
    "starts_at": TIMES,
    "ends_at": TIMES,
    "text": "a text is a template, uses existing attributes, and has the channel's maximum length",
    "subject": "likewise; an e-mail needs a subject, an SMS cannot have one, and a preview has none without a text",
    "html": "likewise, and only for e-mail",
    "template": "the template exists for the channel, and its placeholders are attributes of clients",
    "filter": "a text of digits is an operator's code, with up to ten digits",
}
NOTIFICATION = {
    "recipient": "a valid address depends on the channel; `recipient` or `client_id` is required",
    "client_id": "the client exists and has the address, and `recipient` is absent",
    "scheduled_at": TIMES,
    "expires_at": TIMES,
    "retry.delays": "durations like 1h 30m, from 1 ms to 24 h",
    "data": "16 KiB of JSON",
    "metadata": "16 KiB of JSON",
    "html": "only for e-mail",
    "content": "either `content` or `template`",
    "subject": "not together with `template`",
    "template": "the template exists for the channel",
    "values": "they fill the template, which is required, and have at most 16 KiB",
    "locale": "only with a template",
}
TEMPLATE = {
    "text": "a text is a template with the channel's maximum length",
    "subject": "likewise; an e-mail needs a subject, an SMS cannot have one",
    "html": "likewise, and only for e-mail",
    "locale": "the variant without a locale is created first",
    "data": "an object",
}
PREFERENCES = {
    "quiet_hours.until": "not the same as `from`",
    "groups": "at most 200 unwanted groups after the change",
}
ENDPOINT = {
    "url": "https, to a public host",
    "secret": "24 to 64 bytes in base64",
}
EVENT = {
    "event": "the event has a route",
    "user_target": "its route has a delivery to it, and it is a client's name or an object with addresses",
    "targets": "likewise; the targets of the route are present",
    "payload": "an object of up to 64 KiB that fills the templates of the route",
    "occurred_at": TIMES,
    "id": "unique, and at most 200 visible characters",
}
ROUTE = {
    "deliveries": "a template for the channel, an address of the channel, durations up to a year, a condition that is an "
    "expression, a target that is a role or a path into the payload, and a provider for the channel",
}
CREDENTIAL = {
    "token_url": "https, to a public host, without a fragment",
    "service_account": "the JSON of a Google service account key",
    "header": "not a header of the connection",
    "password": "not empty if the user name is empty",
}
# A patch does not contain the kind, and fields of other kinds are refused.
PARTS = "username password token header value token_url client_id client_secret scope audience client_auth service_account scopes"
LETTERS = {
    "filter.failed_after": TIMES,
    "filter.failed_before": TIMES,
}
REQUEST = {
    "execute_at": TIMES + ", up to a year ahead",
    "request": "a public URL, no headers of the connection, an existing credential, and a "
    "body of up to 256 KiB",
    "notify": "likewise, and no signature headers",
    "retry": "known conditions, durations from 1 ms to 24 h, and an end after the beginning",
    "cron": "five fields of numbers, names, lists, ranges and steps that match some day",
    "timezone": "only for a recurring request, and an IANA name",
    "catch_up": "only for a recurring request",
}
SUPPRESSION = {
    "address": "a valid address depends on the channel",
    "note": "no control characters",
    "source": "no control characters, and not blank",
}
# A schema cannot know the keys that were used before.
KEY_OF_ANOTHER = "was used for another request"
# Applies to every text of every body, including free-form parts. A schema would have to repeat it for each.
CONTROL = "must not contain control characters"
RULES = {
    "list_clients": LIST,
    "list_imports": LIST,
    "list_attributes": LIST,
    "create_attribute": {"name": "not the name of a client's field", "label": "not blank, and no control characters"},
    "patch_attribute": {"label": "not blank, and no control characters"},
    "list_mailings": LIST,
    "list_messages": LIST,
    "list_mailing_messages": LIST,
    "list_notifications": LIST,
    "list_batch_notifications": LIST,
    "list_inbox": LIST,
    "create_client": CLIENT,
    "replace_client": CLIENT,
    "patch_client": CLIENT,
    "replace_preferences": PREFERENCES,
    "patch_preferences": PREFERENCES,
    # refusals name the columns of the uploaded file, which are arbitrary
    "import_clients": {"": "the first line of the file names columns"},
    "create_suppression": SUPPRESSION,
    "list_suppressions": {**LIST, "address": "an address needs its channel"},
    "import_suppressions": {"": "the first line of the file names columns"},
    "create_mailing": MAILING,
    "patch_mailing": MAILING,
    "preview_mailing": MAILING,
    "create_notification": NOTIFICATION,
    "create_notification_and_wait": NOTIFICATION,
    "create_notification_asynchronously": NOTIFICATION,
    "patch_notification": NOTIFICATION,
    "create_template": TEMPLATE,
    "patch_template": TEMPLATE,
    "preview_texts": TEMPLATE,
    "preview_template": {**TEMPLATE, "version": "an integer without a decimal point"},
    "list_dead_letters": {**LIST, "failed_after": TIMES, "failed_before": TIMES},
    "create_replay": LETTERS,
    "delete_dead_letters": LETTERS,
    "list_templates": LIST,
    "list_template_versions": LIST,
    "create_webhook_endpoint": ENDPOINT,
    "patch_webhook_endpoint": ENDPOINT,
    "list_webhook_endpoints": LIST,
    "create_event": EVENT,
    "create_event_by_its_short_path": EVENT,
    "test_routes": EVENT,
    "create_events": {"events": "at least one item satisfies the rules of a single one"},
    "create_action": {"created": TIMES, "id": "likewise of an action"},
    "list_events": LIST,
    "create_route": ROUTE,
    "patch_route": ROUTE,
    "list_routes": LIST,
    "create_request": REQUEST,
    "list_requests": LIST,
    "list_recurring_requests": LIST,
    "create_credential": CREDENTIAL,
    "patch_credential": {**{part: "a field of another kind" for part in PARTS.split()}, **CREDENTIAL},
    "list_credentials": LIST,
    "test_channel": {"recipient": "a valid address depends on the channel"},
    "create_batch": {"notifications": "at least one item satisfies the rules of a single one"},
}
