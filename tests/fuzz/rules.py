"""Why a request that its schema allows may be refused: the rules that no schema can say, by operation and field."""

# Why a request that its schema allows may be refused, by the field that the refusal names. Any other refusal is a
# schema that promises too much. A key is matched from its start, with indices left out.
TIMES = "times lie after one another, in the years 1970 to 9999, and a window has not closed yet"
LIST = {
    "cursor": "only what the list answered is a cursor, and not every list of messages has the same ones",
    "page": "not beside `cursor`, and `page` times `limit` is bounded",
    "recipient": "an address is one of a channel, which has to be given",
    "from": TIMES,
    "to": TIMES,
}
CLIENT = {
    "phone_number": "it is possible in its country, by libphonenumber's data",
    "timezone": "the names of the IANA are too many for a schema, and change with every release",
    "attributes": "no name of another field, and 500 at most after the merge, with 50,000 characters",
    "email": "64 bytes before the @, 254 bytes in all: a schema counts characters",
    "push_token": "4096 bytes: a schema counts characters",
    "tag": "beside `tags` it is the first of them",
}
MAILING = {
    "starts_at": TIMES,
    "ends_at": TIMES,
    "text": "a text is a template, names attributes that some client has, and each channel has its own longest",
    "subject": "likewise; an e-mail needs one, a text message has none, and a preview has none without a text",
    "html": "likewise, of an e-mail alone",
    "template": "there is such a template for the channel, and its placeholders name what clients have",
    "filter": "a text of digits is an operator's code, with up to ten of them",
}
NOTIFICATION = {
    "recipient": "which address is one depends on the channel; it or `client_id` is needed",
    "client_id": "there is such a client, it has the address, and it does not stand beside `recipient`",
    "scheduled_at": TIMES,
    "expires_at": TIMES,
    "retry.delays": "durations such as 1h 30m, from 1 ms to 24 h",
    "data": "16 KiB of JSON",
    "metadata": "16 KiB of JSON",
    "html": "a part of an e-mail alone",
    "content": "it or `template` is needed, and not both",
    "subject": "not beside `template`",
    "template": "there is such a template for the channel",
    "values": "they fill the template, which has to be there, and have 16 KiB at most",
    "locale": "of a template alone",
}
TEMPLATE = {
    "text": "a text is a template, and each channel has its own longest",
    "subject": "likewise; an e-mail needs one, a text message has none",
    "html": "likewise, of an e-mail alone",
    "locale": "one without a locale is made first",
    "data": "an object",
}
PREFERENCES = {
    "quiet_hours.until": "not the same as `from`",
    "groups": "200 at most that are not wanted after the change",
}
ENDPOINT = {
    "url": "https, to a host that everybody can reach",
    "secret": "24 to 64 bytes in base64",
}
EVENT = {
    "event": "there is a route for it",
    "user_target": "its route sends to it, and a client's name or an object with addresses",
    "targets": "likewise: each is a client's name or an object with addresses, and the route's are there",
    "payload": "an object of up to 64 KiB that fills the templates of the route",
    "occurred_at": TIMES,
    "id": "it is one event's alone, and visible characters, 200 at most",
}
ROUTE = {
    "deliveries": "a template for the channel, an address of the channel, durations up to a year, a condition that is an "
    "expression, a target that is a role or a path into the payload, and a provider for the channel",
}
CREDENTIAL = {
    "token_url": "https, to a host that everybody can reach, and no fragment",
    "service_account": "the JSON of a key that Google gives",
    "header": "not one of the connection's",
    "password": "not empty when the name is",
}
# In a change the kind is not said, and parts of other kinds are none of it.
PARTS = "username password token header value token_url client_id client_secret scope audience client_auth service_account scopes"
LETTERS = {
    "filter.failed_after": TIMES,
    "filter.failed_before": TIMES,
}
REQUEST = {
    "execute_at": TIMES + ", up to a year ahead",
    "request": "a URL that everybody can reach, headers that are not the connection's, a credential that is there, and a "
    "body of up to 256 KiB",
    "notify": "likewise, and none of the headers that it is signed with",
    "retry": "words for what is tried again, durations from 1 ms to 24 h, and an end after the beginning",
    "cron": "five fields of numbers, names, lists, ranges and steps, and some day that keeps them",
    "timezone": "of a recurring request alone, and a name of the IANA",
    "catch_up": "of a recurring request alone",
}
SUPPRESSION = {
    "address": "which address is one depends on the channel",
    "note": "no control characters",
    "source": "no control characters, and not only spaces",
}
# Nor can a schema know which keys were used before.
KEY_OF_ANOTHER = "was used for another request"
# Every text of every body, free-form parts included: a schema would have to say it of each.
CONTROL = "must not contain control characters"
RULES = {
    "list_clients": LIST,
    "list_imports": LIST,
    "list_attributes": LIST,
    "create_attribute": {"name": "no name of a client's field", "label": "not blank, and no control characters"},
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
    # the columns are the caller's, and so are their names in the complaints
    "import_clients": {"": "a file is more than a text: its first line names columns"},
    "create_suppression": SUPPRESSION,
    "list_suppressions": {**LIST, "address": "an address is one of a channel, which has to be given"},
    "import_suppressions": {"": "a file is more than a text: its first line names columns"},
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
    "preview_template": {**TEMPLATE, "version": "a whole number, written without a point"},
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
    "create_events": {"events": "each is held against the rules of one, and at least one has to keep them"},
    "create_action": {"created": TIMES, "id": "likewise of an action"},
    "list_events": LIST,
    "create_route": ROUTE,
    "patch_route": ROUTE,
    "list_routes": LIST,
    "create_request": REQUEST,
    "list_requests": LIST,
    "list_recurring_requests": LIST,
    "create_credential": CREDENTIAL,
    "patch_credential": {**{part: "it is of another kind" for part in PARTS.split()}, **CREDENTIAL},
    "list_credentials": LIST,
    "test_channel": {"recipient": "which address is one depends on the channel"},
    "create_batch": {"notifications": "each is held against the rules of one, and at least one has to keep them"},
}
