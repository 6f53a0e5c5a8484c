//! OpenAPI links: the id in the response of one operation is a parameter of others.

use utoipa::Modify;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr};

/// The creating operation, the JSON pointer to the id in its response, and the operations that take the id.
const LINKS: &[(&str, &str, &[&str])] = &[
    (
        "create_client",
        "/id",
        &["get_client", "replace_client", "patch_client", "export_client", "delete_client"],
    ),
    (
        "create_mailing",
        "/id",
        &[
            "get_mailing",
            "get_mailing_stats",
            "list_mailing_messages",
            "patch_mailing",
            "pause_mailing",
            "resume_mailing",
            "cancel_mailing",
            "delete_mailing",
        ],
    ),
    (
        "create_template",
        "/id",
        &["get_template", "patch_template", "preview_template", "list_template_versions", "delete_template"],
    ),
    ("create_notification", "/id", NOTIFICATION),
    ("create_notification_asynchronously", "/id", NOTIFICATION),
    ("create_event", "/event_id", &["get_event"]),
    ("create_event_by_its_short_path", "/event_id", &["get_event"]),
    ("create_route", "/id", &["get_route", "patch_route", "delete_route"]),
    ("create_request", "/id", &["get_request", "run_request", "cancel_request", "replay_request"]),
    ("create_batch", "/batch_id", &["get_batch", "list_batch_notifications", "cancel_batch"]),
];
const NOTIFICATION: &[&str] =
    &["get_notification", "get_notification_by_its_short_path", "patch_notification", "cancel_notification"];

/// Adds [`LINKS`] to the responses 201 and 202; the 200 of a dry run creates nothing.
pub(super) struct Links;

impl Modify for Links {
    fn modify(&self, document: &mut OpenApi) {
        let posts = document.paths.paths.values_mut().filter_map(|item| item.post.as_mut());
        for operation in posts {
            let made = LINKS.iter().find(|(maker, ..)| operation.operation_id.as_deref() == Some(maker));
            if let Some((_, pointer, takers)) = made {
                add(operation, pointer, takers);
            }
        }
    }
}

fn add(operation: &mut Operation, pointer: &str, takers: &[&str]) {
    for status in ["201", "202"] {
        if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
            for taker in takers {
                let link = LinkBuilder::new()
                    .operation_id(*taker)
                    .parameter("id", format!("$response.body#{pointer}"))
                    .build();
                response.links.insert((*taker).to_owned(), link.into());
            }
        }
    }
}
