//! Preferences over HTTP: `/api/v1/clients/{id}/preferences`, and the pages behind the links in mails.

pub mod unsubscribe;

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, Schema};
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::model::{ClientPreferences, MOST_GROUPS, PreferenceChange};
use super::quiet::{QuietHours, TimeOfDay};
use super::usecase::Preferring;
use crate::error::{Complaints, Result};
use crate::http::json::{Json, given, path_id, present};
use crate::http::routing::{get, others};
use crate::kinds::{ChannelKind, ChannelToPeople, GROUP_PATTERN, group};

/// Registers the routes, relative to `/api/v1`.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(
        web::resource("/clients/{id}/preferences")
            .route(get().to(get_preferences))
            .route(web::put().to(replace_preferences))
            .route(web::patch().to(patch_preferences))
            .default_service(others("GET, HEAD, PUT, PATCH")),
    );
}

/// Words of groups, each with whether the client wants it.
fn groups() -> Object {
    let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some(GROUP_PATTERN));
    let wanted = ObjectBuilder::new().schema_type(Type::Boolean);
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(Schema::Object(name.build())))
        .additional_properties(Some(AdditionalProperties::RefOr(Schema::Object(wanted.build()).into())))
        .max_properties(Some(MOST_GROUPS))
        .build()
}

/// The wishes of a client. A part that is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PreferencesBody, example = json!({
    "channels": {"email": false}, "groups": {"newsletter": false}, "quiet_hours": {"from": "22:00", "until": "08:00"}
}))]
pub struct PreferencesBody {
    /// Channels: `false` for one that the client opted out of, `true` for one that it wants.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<BTreeMap<ChannelToPeople, bool>>, nullable = false)]
    pub channels: Option<BTreeMap<String, bool>>,
    /// Groups of messages likewise: 1 to 64 of `a-z0-9_.-` each.
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = groups)]
    pub groups: Option<BTreeMap<String, bool>>,
    /// When the client is left alone, by the clock of its time zone; null for never.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<QuietHoursBody>)]
    pub quiet_hours: Option<Option<QuietHoursBody>>,
}

/// Hours of each day in which a client is left alone; `from` and `until` must differ.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QuietHours, example = json!({"from": "22:00", "until": "08:00"}))]
pub struct QuietHoursBody {
    /// Their first minute.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub from: String,
    /// The first minute after them; of the next day if it is the earlier one.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub until: String,
}

impl PreferencesBody {
    fn into_change(self) -> Result<PreferenceChange> {
        let mut wrong = Complaints::default();
        let channels = self.channels.map(|channels| {
            let read = channels.into_iter().filter_map(|(word, is_wanted)| {
                let channel = wrong.check(&format!("channels.{word}"), ChannelKind::to_people(&word));
                channel.map(|channel| (channel, is_wanted))
            });
            read.collect()
        });
        let groups = self.groups;
        for word in groups.iter().flatten().map(|(word, _)| word) {
            wrong.check(&format!("groups.{word}"), group(word));
        }
        let quiet = self.quiet_hours.map(|hours| hours.and_then(|hours| hours.read(&mut wrong)));
        wrong.finish()?;
        Ok(PreferenceChange { channels, groups, quiet })
    }
}

impl QuietHoursBody {
    fn read(&self, wrong: &mut Complaints) -> Option<QuietHours> {
        let from = wrong.check("quiet_hours.from", self.from.parse::<TimeOfDay>());
        let until = wrong.check("quiet_hours.until", self.until.parse::<TimeOfDay>());
        let (from, until) = from.zip(until)?;
        let hours = QuietHours::new(from, until).ok_or("must be another time than `from`");
        wrong.check("quiet_hours.until", hours)
    }
}

/// Read a client's preferences
///
/// A client that never said anything wants everything at any time.
#[utoipa::path(get, path = "/api/v1/clients/{id}/preferences", operation_id = "get_preferences", tag = "preferences",
    params(("id" = String, Path, format = Uuid, description = "The client")),
    responses((status = 200, description = "What the client wants", body = ClientPreferences)))]
pub async fn get_preferences(service: web::Data<Preferring>, id: web::Path<String>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Set a client's preferences
///
/// In `channels`, and in `groups`, what is not named is wanted; what is absent as a whole stays as it is. An opt-out holds for
/// the addresses that the client has now, whoever has them later. What waits already is checked as well: it is cancelled or
/// held back just before it would be sent, unless it is transactional.
#[utoipa::path(put, path = "/api/v1/clients/{id}/preferences", operation_id = "replace_preferences", tag = "preferences",
    params(("id" = String, Path, format = Uuid, description = "The client")),
    request_body = PreferencesBody,
    responses((status = 200, description = "What the client wants now", body = ClientPreferences)))]
pub async fn replace_preferences(
    service: web::Data<Preferring>,
    id: web::Path<String>,
    body: Json<PreferencesBody>,
) -> Result<HttpResponse> {
    let (id, change) = (path_id(&id)?, body.0.into_change()?);
    Ok(HttpResponse::Ok().json(service.replace(id, change).await?))
}

/// Change a client's preferences
///
/// What is not named stays, also within `channels` and `groups`.
#[utoipa::path(patch, path = "/api/v1/clients/{id}/preferences", operation_id = "patch_preferences", tag = "preferences",
    params(("id" = String, Path, format = Uuid, description = "The client")),
    request_body = PreferencesBody,
    responses((status = 200, description = "What the client wants now", body = ClientPreferences)))]
pub async fn patch_preferences(
    service: web::Data<Preferring>,
    id: web::Path<String>,
    body: Json<PreferencesBody>,
) -> Result<HttpResponse> {
    let (id, change) = (path_id(&id)?, body.0.into_change()?);
    Ok(HttpResponse::Ok().json(service.patch(id, change).await?))
}
