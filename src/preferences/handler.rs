//! The HTTP handlers of preferences: `/api/v1/clients/{id}/preferences`, and the pages behind the unsubscribe links of
//! mails.

pub mod unsubscribe;

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, Schema};
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::model::{ClientPreferences, MOST_GROUPS, PreferenceChange};
use super::quiet::{QuietHours, TimeOfDay};
use super::usecase::PreferenceService;
use crate::error::{Complaints, Result};
use crate::http::json::{Json, given, path_id, present};
use crate::http::operations::{Operations, operations};
use crate::kinds::{ChannelKind, ChannelToPeople, GROUP_PATTERN, group};

/// Returns the operations, each with its scope.
pub fn operations() -> Operations {
    operations![
        get_preferences: ClientsRead,
        replace_preferences: ClientsWrite,
        patch_preferences: ClientsWrite,
    ]
}

/// The schema of `groups`: names of groups with booleans.
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

/// The preferences of a client. An absent part stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PreferencesBody, example = json!({
    "channels": {"email": false}, "groups": {"newsletter": false}, "quiet_hours": {"from": "22:00", "until": "08:00"}
}))]
pub struct PreferencesBody {
    /// Channels: `false` means that the client opted out of a channel, `true` that it opted in.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<BTreeMap<ChannelToPeople, bool>>, nullable = false)]
    pub channels: Option<BTreeMap<String, bool>>,
    /// Groups of messages, in the same way. A name has 1 to 64 of the characters `a-z0-9_.-`.
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = groups)]
    pub groups: Option<BTreeMap<String, bool>>,
    /// The quiet hours in the client's time zone; null for none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<QuietHoursBody>)]
    pub quiet_hours: Option<Option<QuietHoursBody>>,
}

/// The quiet hours of each day; `from` and `until` must differ.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QuietHours, example = json!({"from": "22:00", "until": "08:00"}))]
pub struct QuietHoursBody {
    /// The first minute of the quiet hours.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub from: String,
    /// The first minute after the quiet hours, on the next day if it is earlier than `from`.
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
        let hours = QuietHours::new(from, until).ok_or("must differ from `from`");
        wrong.check("quiet_hours.until", hours)
    }
}

/// Read a client's preferences
///
/// Returns the preferences of a client. A client without stored preferences receives everything at any time.
#[utoipa::path(get, path = "/api/v1/clients/{id}/preferences", operation_id = "get_preferences", tag = "preferences",
    params(("id" = String, Path, format = Uuid, description = "The client")),
    responses((status = 200, description = "The preferences", body = ClientPreferences)))]
pub async fn get_preferences(
    service: web::Data<PreferenceService>,
    id: web::Path<String>,
) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(service.get(path_id(&id)?).await?))
}

/// Set a client's preferences
///
/// Replaces the preferences of a client. In `channels` and in `groups`, the client is opted in to everything that is
/// not named; a part that is absent as a whole stays as it is. An opt-out applies to the client's present addresses,
/// whoever has them later. Queued messages are checked as well: unless transactional, they are cancelled or deferred
/// right before they would be sent.
#[utoipa::path(put, path = "/api/v1/clients/{id}/preferences", operation_id = "replace_preferences", tag = "preferences",
    params(("id" = String, Path, format = Uuid, description = "The client")),
    request_body = PreferencesBody,
    responses((status = 200, description = "The changed preferences", body = ClientPreferences)))]
pub async fn replace_preferences(
    service: web::Data<PreferenceService>,
    id: web::Path<String>,
    body: Json<PreferencesBody>,
) -> Result<HttpResponse> {
    let (id, change) = (path_id(&id)?, body.0.into_change()?);
    Ok(HttpResponse::Ok().json(service.replace(id, change).await?))
}

/// Change a client's preferences
///
/// Changes the preferences of a client. Values that are not named stay, also within `channels` and `groups`.
#[utoipa::path(patch, path = "/api/v1/clients/{id}/preferences", operation_id = "patch_preferences", tag = "preferences",
    params(("id" = String, Path, format = Uuid, description = "The client")),
    request_body = PreferencesBody,
    responses((status = 200, description = "The changed preferences", body = ClientPreferences)))]
pub async fn patch_preferences(
    service: web::Data<PreferenceService>,
    id: web::Path<String>,
    body: Json<PreferencesBody>,
) -> Result<HttpResponse> {
    let (id, change) = (path_id(&id)?, body.0.into_change()?);
    Ok(HttpResponse::Ok().json(service.patch(id, change).await?))
}
