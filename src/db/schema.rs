//! The tables in diesel's notation, the same for both databases; `migrations/` documents the columns.
#![expect(missing_docs, reason = "generated items; the migrations document the columns")]

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    client (id) {
        id -> Id, phone_number -> Nullable<BigInt>, mobile_operator_code -> Nullable<Text>, tag -> Nullable<Text>,
        timezone -> Nullable<Text>, email -> Nullable<Text>, push_token -> Nullable<Text>,
        external_id -> Nullable<Text>, attributes -> Text, created_at -> Instant, updated_at -> Instant,
        locale -> Nullable<Text>, email_key -> Nullable<Text>, tag_key -> Nullable<Text>,
        more_tags -> Nullable<Text>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Id;
    client_tag (key, client_id) { key -> Text, client_id -> Id, mobile_operator_code -> Nullable<Text>, }
}
diesel::table! {
    use diesel::sql_types::*;
    client_attribute (name) { name -> Text, }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    erased_client (client_id) { client_id -> Id, erased_at -> Instant, }
}
diesel::table! {
    use crate::db::types::Id;
    client_move (client_id) { client_id -> Id, }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    mailing (id) {
        id -> Id, text -> Text, filter -> Text, channel -> SmallInt, priority -> SmallInt, status -> SmallInt,
        starts_at -> Instant, ends_at -> Instant, created_at -> Instant, updated_at -> Instant,
        started_at -> Nullable<Instant>, finished_at -> Nullable<Instant>,
        total -> BigInt, planned -> BigInt, upper_bound -> Nullable<Id>, cursor_range -> Integer,
        cursor_client -> Nullable<Id>, walked -> Bool,
        sent -> BigInt, failed -> BigInt, expired -> BigInt, cancelled -> BigInt, settled -> Bool,
        rate_per_second -> Nullable<Double>, number -> Integer,
        subject -> Nullable<Text>, html -> Nullable<Text>,
        template -> Nullable<Text>, variants -> Nullable<Text>,
        message_group -> Nullable<Text>, is_transactional -> Bool,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    pending_mailing (id) {
        id -> Id, mailing_id -> Id, status -> Integer, due_at -> Instant, taken_at -> Nullable<Instant>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    message (id) {
        id -> Id, client_id -> Nullable<Id>, due_at -> Nullable<Instant>, expires_at -> Nullable<Instant>,
        finished_at -> Nullable<Instant>, mailing_number -> Nullable<Integer>, duration_ms -> Nullable<Integer>,
        status_code -> Nullable<SmallInt>, channel -> SmallInt, priority -> SmallInt, status -> SmallInt,
        attempts -> SmallInt, revision -> SmallInt, recipient -> Text, provider_id -> Nullable<Text>,
        error -> Nullable<Text>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    notification (message_id) {
        message_id -> Id, batch_id -> Nullable<Id>, scheduled_at -> Nullable<Instant>, updated_at -> Instant,
        is_awaited -> Bool, text -> Text, subject -> Nullable<Text>, html -> Nullable<Text>, data -> Nullable<Text>,
        metadata -> Nullable<Text>, retry -> Nullable<Text>, event_id -> Nullable<Id>,
        template -> Nullable<Text>,
        message_group -> Nullable<Text>, is_transactional -> Bool,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Id;
    batch (id) { id -> Id, total -> Integer, }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    idempotency_key (key) {
        key -> Text, fingerprint -> Binary, resource_id -> Id, created_at -> Instant, expires_at -> Instant,
        locked_until -> Nullable<Instant>, status -> Nullable<SmallInt>, location -> Nullable<Text>,
        body -> Nullable<Text>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    due (message_id) {
        message_id -> Id, mailing_id -> Nullable<Id>, channel -> SmallInt, priority -> SmallInt, due_at -> Instant,
        expires_at -> Nullable<Instant>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    rate (name) { name -> Text, next_at -> Instant, }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    node (id) { id -> Id, name -> Text, started_at -> Instant, heartbeat_at -> Instant, }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    page (id) {
        id -> Id, node_id -> Nullable<Id>, mailing_id -> Nullable<Id>, channel -> SmallInt, priority -> SmallInt,
        remaining -> Integer, created_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Id;
    page_members (page_id) { page_id -> Id, message_ids -> Binary, client_ids -> Binary, revisions -> Binary, }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    attempt (message_id, number) {
        message_id -> Id, number -> SmallInt, at -> Instant, outcome -> SmallInt, status_code -> Nullable<Integer>,
        duration_ms -> Integer, error -> Nullable<Text>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    dead_letter (id) {
        id -> Id, mailing_id -> Nullable<Id>, channel -> Nullable<SmallInt>, class -> SmallInt, failed_at -> Instant,
        event_id -> Nullable<Id>, closed_at -> Nullable<Instant>, closed -> Nullable<SmallInt>, error -> Text,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    dead_event (id) {
        id -> Id, source -> SmallInt, subject -> Text, key -> Nullable<Text>, name -> Nullable<Text>, body -> Binary,
        tries -> Integer, received_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    refused_event (id) {
        id -> Id, subject -> Text, key -> Text, name -> Nullable<Text>, body -> Binary, tries -> Integer,
        due_at -> Instant, error -> Text, received_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    broker_position (consumer_group, topic, partition) {
        consumer_group -> Text, topic -> Text, partition -> Integer, topic_id -> Id, incarnation -> Integer,
        next_offset -> BigInt, moved_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    replayed (message_id, number) {
        message_id -> Id, number -> SmallInt, at -> Instant, attempts -> SmallInt, replay_id -> Nullable<Id>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    replay (id) {
        id -> Id, filter -> Text, rate_per_second -> Double, status -> SmallInt, created_at -> Instant,
        finished_at -> Nullable<Instant>, cursor_at -> Nullable<Instant>, cursor_id -> Nullable<Id>,
        replayed -> BigInt, refused -> Text, taken_by -> Nullable<Id>, taken_until -> Nullable<Instant>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    declared_attribute (name) {
        name -> Text, kind -> SmallInt, label -> Nullable<Text>, created_at -> Instant, updated_at -> Instant,
        converting -> SmallInt, cursor_id -> Nullable<Id>, looked_at -> BigInt, converted -> BigInt,
        unconverted -> BigInt,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    import_job (id) {
        id -> Id, status -> SmallInt, node_id -> Nullable<Id>, held_until -> Nullable<Instant>, size -> BigInt,
        bytes -> BigInt, row_count -> BigInt, line -> BigInt, created -> BigInt, updated -> BigInt,
        rejected_count -> BigInt, findings -> Nullable<Text>, error -> Nullable<Text>, created_at -> Instant,
        started_at -> Nullable<Instant>, finished_at -> Nullable<Instant>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    inbox (message_id) {
        message_id -> Id, created_at -> Instant, read_at -> Nullable<Instant>, archived_at -> Nullable<Instant>,
        expires_at -> Instant, user_id -> Text, subject -> Nullable<Text>, text -> Text, data -> Nullable<Text>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    webhook_endpoint (id) {
        id -> Id, url -> Text, description -> Nullable<Text>, is_registered -> Bool, secret -> Nullable<Text>,
        old_secret -> Nullable<Text>, old_secret_until -> Nullable<Instant>, disabled -> Nullable<SmallInt>,
        disabled_at -> Nullable<Instant>, failing_since -> Nullable<Instant>, failures -> Integer,
        created_at -> Instant, updated_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    event (id) {
        id -> Id, key -> Nullable<Text>, name -> Text, user_target -> Nullable<Text>, targets -> Nullable<Text>,
        payload -> Text, occurred_at -> Nullable<Instant>, received_at -> Instant, source -> SmallInt,
        skipped -> Nullable<Text>, fingerprint -> Nullable<Binary>, namespace -> SmallInt,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    credential (name) {
        name -> Text, description -> Nullable<Text>, shown -> Text, sealed -> Text, created_at -> Instant,
        updated_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    route (id) {
        id -> Id, event -> Text, description -> Nullable<Text>, event_group -> Nullable<Text>,
        is_transactional -> Bool, is_enabled -> Bool, deliveries -> Text, created_at -> Instant,
        updated_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    template (id) {
        id -> Id, name -> Text, channel -> SmallInt, locale -> Text, version -> Integer, created_at -> Instant,
        updated_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    template_version (template_id, version) {
        template_id -> Id, version -> Integer, subject -> Nullable<Text>, text -> Text, html -> Nullable<Text>,
        placeholders -> Text, created_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    cancellation (message_id) {
        message_id -> Id, holds -> Bool, in_flight -> Nullable<Bool>, asked_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    sending (id) {
        id -> SmallInt, paused_at -> Nullable<Instant>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    generated_secret (name) {
        name -> Text, secret -> Binary, created_at -> Instant,
    }
}
diesel::allow_tables_to_appear_in_same_query!(client, client_tag);
diesel::allow_tables_to_appear_in_same_query!(template, template_version);
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    preference (client_id) {
        client_id -> Id, channels -> SmallInt, message_groups -> Nullable<Text>, quiet_from -> Nullable<SmallInt>,
        quiet_until -> Nullable<SmallInt>, updated_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    opt_out_address (channel, recipient, message_group) {
        channel -> SmallInt, recipient -> Text, message_group -> Text, created_at -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    suppression (id) {
        id -> Id, channel -> SmallInt, address_key -> Binary, message_group -> Text, reason -> SmallInt,
        address -> Nullable<Text>, source -> Text, note -> Nullable<Text>, since -> Instant,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Id;
    mailing_address (mailing_number, address_key) {
        mailing_number -> Integer, address_key -> Binary, client_id -> Id,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    request (message_id) {
        message_id -> Id, kind -> SmallInt, parent_id -> Nullable<Id>, scheduled_at -> Instant, updated_at -> Instant,
        spec -> Text, retry -> Nullable<Text>, notify -> Nullable<Text>, executed_at -> Nullable<Instant>,
        response -> Nullable<Text>, response_body -> Nullable<Binary>,
    }
}
diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Id, Instant};
    recurring_request (id) {
        id -> Id, status -> SmallInt, cron -> Text, timezone -> Text, catch_up -> SmallInt,
        next_at -> Nullable<Instant>, last_at -> Nullable<Instant>, created_at -> Instant, updated_at -> Instant,
        starts_at -> Nullable<Instant>, ends_at -> Nullable<Instant>, spec -> Text, retry -> Nullable<Text>,
        notify -> Nullable<Text>,
    }
}
diesel::allow_tables_to_appear_in_same_query!(
    client,
    client_attribute,
    client_move,
    mailing,
    mailing_address,
    pending_mailing,
    message,
    generated_secret,
    suppression,
    notification,
    due,
    node,
    page,
    page_members,
    attempt,
    dead_letter,
    preference,
    replayed,
    request,
    cancellation
);
