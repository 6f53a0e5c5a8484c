//! The OpenAPI document and Swagger UI.

mod links;
mod presence;
mod problems;
mod replays;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use self::links::Links;
use self::presence::Presence;
use self::problems::Problems;
use self::replays::Replays;
use crate::{
    clients, credentials, dead_letters, endpoints, events, inbox, live, mailings, messages, notifications,
    people, preferences, requests, routes, sending, suppressions, templates,
};

/// Where the document is.
pub const DOCUMENT: &str = "/api/v1/openapi.json";
/// The document as it is served. Made from the code once for each worker it would hold 5 MiB for each of them, for good;
/// a test sees to it that the file is what the code says.
pub(super) static COMMITTED: &str = include_str!("../../docs/openapi.json");

/// The API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Fanfare", description = "Mailing campaigns and notifications: every matching client gets one \
        message, inside its window, and the books balance."),
    paths(
        clients::handler::create_client, clients::handler::list_clients, clients::handler::get_client,
        clients::handler::replace_client, clients::handler::patch_client, people::handler::delete_client, people::handler::export_client, clients::handler::import_clients,
        clients::jobs::handler::list_imports, clients::jobs::handler::get_import, clients::jobs::handler::get_import_rejections,
        clients::declared::handler::create_attribute, clients::declared::handler::list_attributes,
        clients::declared::handler::get_attribute, clients::declared::handler::patch_attribute,
        clients::declared::handler::delete_attribute,
        mailings::handler::create_mailing, mailings::handler::list_mailings, mailings::handler::preview_mailing,
        mailings::handler::get_overview, mailings::handler::get_mailing, mailings::handler::get_mailing_stats,
        mailings::handler::patch_mailing, mailings::handler::delete_mailing, mailings::handler::pause_mailing,
        mailings::handler::resume_mailing, mailings::handler::cancel_mailing,
        notifications::handler::create_notification, notifications::handler::list_notifications,
        notifications::handler::get_notification, notifications::handler::patch_notification,
        notifications::handler::cancel_notification, notifications::handler::create_batch,
        notifications::handler::get_batch, notifications::handler::list_batch_notifications,
        notifications::handler::cancel_batch, notifications::handler::notify, notifications::handler::notify_later,
        notifications::handler::get_notified,
        messages::handler::list_messages, messages::handler::list_mailing_messages, messages::handler::get_message,
        dead_letters::handler::list_dead_letters, dead_letters::handler::get_dead_letter,
        dead_letters::handler::replay_dead_letter, dead_letters::handler::delete_dead_letter,
        dead_letters::handler::drop_dead_letters, dead_letters::handler::create_replay,
        dead_letters::handler::list_replays, dead_letters::handler::get_replay, dead_letters::handler::cancel_replay,
        inbox::handler::list_inbox, inbox::handler::get_inbox_count, inbox::handler::get_inbox_stream,
        inbox::handler::create_inbox_token, inbox::handler::mark_inbox_read, inbox::handler::mark_inbox_message_read,
        inbox::handler::mark_inbox_message_unread, inbox::handler::archive_inbox_message,
        templates::handler::create_template, templates::handler::list_templates, templates::handler::get_template,
        templates::handler::patch_template, templates::handler::delete_template,
        templates::handler::preview_template, templates::handler::preview_texts,
        templates::handler::list_template_versions, templates::handler::get_template_version,
        templates::handler::restore_template_version,
        events::handler::create_event, events::handler::create_event_by_short_path, events::handler::create_events, events::handler::create_action,
        events::handler::list_events, events::handler::get_event, events::handler::test_routes,
        routes::handler::create_route, routes::handler::list_routes, routes::handler::get_route,
        routes::handler::patch_route, routes::handler::delete_route,
        requests::handler::create_request, requests::handler::list_requests, requests::handler::get_request,
        requests::handler::cancel_request, requests::handler::run_request, requests::handler::replay_request,
        requests::recurring::handler::list_recurring_requests, requests::recurring::handler::get_recurring_request,
        requests::recurring::handler::cancel_recurring_request, requests::recurring::handler::pause_recurring_request,
        requests::recurring::handler::resume_recurring_request, requests::recurring::handler::run_recurring_request,
        endpoints::handler::create_webhook_endpoint, endpoints::handler::list_webhook_endpoints,
        endpoints::handler::get_webhook_endpoint, endpoints::handler::patch_webhook_endpoint,
        endpoints::handler::delete_webhook_endpoint, endpoints::handler::rotate_webhook_secret,
        endpoints::handler::enable_webhook_endpoint, endpoints::handler::disable_webhook_endpoint,
        credentials::handler::create_credential, credentials::handler::list_credentials,
        credentials::handler::get_credential, credentials::handler::patch_credential,
        credentials::handler::delete_credential,
        preferences::handler::get_preferences, preferences::handler::replace_preferences,
        preferences::handler::patch_preferences, preferences::handler::unsubscribe::get_unsubscribe_page,
        preferences::handler::unsubscribe::unsubscribe_recipient, preferences::handler::unsubscribe::resubscribe_recipient,
        preferences::handler::unsubscribe::unsubscribe_recipient_from_all, preferences::handler::unsubscribe::resubscribe_recipient_to_all,
        suppressions::handler::create_suppression, suppressions::handler::list_suppressions,
        suppressions::handler::get_suppression, suppressions::handler::delete_suppression, suppressions::handler::file::import_suppressions,
        live::handler::get_stream, super::health::get_health, super::health::get_ready, super::metrics::get_metrics,
        sending::handler::get_sending, sending::handler::pause_sending, sending::handler::resume_sending,
        super::figures::get_figures, super::channels::list_channels, notifications::handler::trial::test_channel,
    ),
    components(schemas(live::Change, live::EndpointChange, clients::jobs::model::ImportProgress, mailings::model::Progress, requests::report::Report, super::problem::Problem)),
    tags(
        (name = "mailings", description = "A text, a filter over clients, and a window in time"),
        (name = "notifications", description = "One message to one recipient, or a batch of them"),
        (name = "templates", description = "Texts that are kept under a name, in languages and versions"),
        (name = "events", description = "What happened, and the routes that say which messages it causes"),
        (name = "requests", description = "HTTP requests that run at a time and report their results, and what lets them in"),
        (name = "clients", description = "People who can be reached"),
        (name = "preferences", description = "What clients opted out of, and when they are left alone"),
        (name = "suppressions", description = "Addresses that nothing is sent to, whoever has them"),
        (name = "inbox", description = "What is delivered over `in_app`, as the user's pages show it"),
        (name = "webhooks", description = "Where webhooks go, and what they are signed with"),
        (name = "channels", description = "Where messages go, and whether that works"),
        (name = "messages", description = "What became of each delivery"),
        (name = "dead letters", description = "What failed: read, replayed, dropped"),
        (name = "sending", description = "The switch that stops all that is sent"),
        (name = "operation", description = "Probes and metrics"),
    ),
    modifiers(&ApiKey, &Problems, &Links, &Presence, &Replays)
)]
pub struct Api;

/// Swagger's "Authorize" button.
struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        document.security = Some(vec![
            SecurityRequirement::new::<_, [&str; 0], &str>("api_key", []),
            // without a configured key the service asks for none
            SecurityRequirement::default(),
        ]);
    }
}

/// The document as `docs/openapi.json` holds it.
///
/// # Errors
/// None in practice: the document is made of strings.
pub fn document() -> crate::error::Result<String> {
    Api::openapi()
        .to_pretty_json()
        .map(|json| json + "\n")
        .map_err(|e| crate::error::Error::Internal(e.into()))
}

/// Where Swagger UI is.
pub const DOCS: &str = "/api/v1/docs";

/// Swagger UI at `/api/v1/docs/`.
pub fn swagger() -> SwaggerUi {
    let config = Config::from(DOCUMENT).try_it_out_enabled(true).persist_authorization(true);
    SwaggerUi::new(format!("{DOCS}/{{_:.*}}")).config(config)
}

/// The document.
pub async fn get_document() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(COMMITTED)
}
