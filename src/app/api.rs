//! The operations of all domains, and the OpenAPI document made of them.

use utoipa::OpenApi;

use crate::credentials::handler as credentials_handler;
use crate::error::{Error, Result};
use crate::http::operations::Operations;
use crate::http::{channels, health, metrics, openapi, problem, stats};
use crate::requests::{handler as requests_handler, recurring};
use crate::{
    clients, dead_letters, endpoints, events, inbox, live, mailings, messages, notifications, people,
    preferences, requests, routes, sending, suppressions, templates,
};

/// Returns the operations that every node has.
pub fn probes() -> Operations {
    health::operations().and(metrics::operations())
}

/// Returns the operations of a node that serves the API, except the inbox, which has [`inbox::handler::routes`].
pub fn operations() -> Operations {
    [
        clients::handler::operations(),
        people::handler::operations(),
        clients::jobs::handler::operations(),
        clients::declared::handler::operations(),
        preferences::handler::operations(),
        preferences::handler::unsubscribe::operations(),
        suppressions::handler::operations(),
        endpoints::handler::operations(),
        credentials_handler::operations(),
        channels::operations(),
        messages::handler::operations(),
        templates::handler::operations(),
        events::handler::operations(),
        routes::handler::operations(),
        recurring::handler::operations(),
        requests_handler::operations(),
        dead_letters::handler::operations(),
        notifications::handler::operations(),
        mailings::handler::operations(),
        live::handler::operations(),
        stats::operations(),
        sending::handler::operations(),
    ]
    .into_iter()
    .fold(probes(), Operations::and)
}

/// Returns the OpenAPI document as `docs/openapi.json` holds it.
///
/// # Errors
/// None in practice: the document is made of strings.
pub fn document() -> Result<String> {
    let mut document = Api::openapi();
    operations().and(inbox::handler::operations()).describe(&mut document);
    openapi::complete(&mut document);
    document.to_pretty_json().map(|json| json + "\n").map_err(|error| Error::Internal(error.into()))
}

/// The parts of the document that belong to no operation.
#[derive(OpenApi)]
#[openapi(
    info(title = "Fanfare", description = "A mailing and notification service: every matching client gets one \
        message inside its window, and the counts balance."),
    components(schemas(live::Change, live::EndpointChange, clients::jobs::model::ImportProgress, mailings::views::MailingProgressView, requests::report::Report, problem::Problem)),
    tags(
        (name = "mailings", description = "A text, a filter over clients, and a window in time"),
        (name = "notifications", description = "One message to one recipient, or a batch of them"),
        (name = "templates", description = "Named texts, in languages and versions"),
        (name = "events", description = "Business events, and the routes that turn them into messages"),
        (name = "requests", description = "Scheduled HTTP requests with reported results, and their credentials"),
        (name = "clients", description = "People who can be reached"),
        (name = "preferences", description = "Opt-outs and quiet hours of clients"),
        (name = "suppressions", description = "Addresses that receive nothing, whichever client has them"),
        (name = "inbox", description = "Messages of the channel `in_app`, as the user's pages show them"),
        (name = "webhooks", description = "Webhook endpoints and their signing secrets"),
        (name = "channels", description = "Channels, their limits and the state of their providers"),
        (name = "messages", description = "The record of each delivery"),
        (name = "dead letters", description = "Failed messages: list, replay, drop"),
        (name = "sending", description = "The switch that pauses all sending"),
        (name = "operation", description = "Probes and metrics"),
    ),
)]
struct Api;
