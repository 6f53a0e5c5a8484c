//! Builds FCM messages: <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>.

use serde_json::{Map, Value, json};

use crate::channels::delivery::Delivery;

/// Platform options, which a request carries beside the data.
const PLATFORMS: [&str; 3] = ["android", "apns", "webpush"];

/// Builds the body of a request.
///
/// An object member `android`, `apns` or `webpush` of the data becomes the options of that platform; all other members
/// become the data. Values that are not strings become their JSON text. Unless the options say otherwise, a repeated
/// message replaces the first on the device: its id is Android's tag and Apple's collapse id.
///
/// # Errors
/// The reason why the message cannot be sent, without any value of it.
pub(super) fn body(delivery: &Delivery) -> Result<String, String> {
    let mut message = Map::new();
    message.insert("token".into(), delivery.recipient.as_str().into());
    let mut notification = Map::new();
    if let Some(title) = &delivery.subject {
        notification.insert("title".into(), title.as_str().into());
    }
    notification.insert("body".into(), delivery.text.as_str().into());
    message.insert("notification".into(), notification.into());

    let mut data = match delivery.data.as_deref().map(serde_json::from_str) {
        None => Map::new(),
        Some(Ok(Value::Object(data))) => data,
        Some(_) => return Err("the data is not a JSON object".into()),
    };
    for platform in PLATFORMS {
        if data.get(platform).is_some_and(Value::is_object)
            && let Some(options) = data.remove(platform)
        {
            message.insert(platform.into(), options);
        }
    }
    if let Some(key) = data.keys().find(|key| is_reserved(key)) {
        return Err(match key.as_str() {
            "from" | "message_type" => format!("the data has the key `{key}`, which FCM reserves"),
            _ => "the data has a key that begins with `google.` or `gcm.`, which FCM reserves".into(),
        });
    }
    if !data.is_empty() {
        let texts: Map<String, Value> = data.into_iter().map(|(key, value)| (key, text(value))).collect();
        message.insert("data".into(), texts.into());
    }

    let id = delivery.id.to_string();
    unless_set(&mut message, ["android", "notification", "tag"], &id);
    unless_set(&mut message, ["apns", "headers", "apns-collapse-id"], &id);
    serde_json::to_string(&json!({ "message": message }))
        .map_err(|_| "the message cannot be encoded as JSON".into())
}

fn is_reserved(key: &str) -> bool {
    matches!(key, "from" | "message_type") || key.starts_with("google.") || key.starts_with("gcm.")
}

fn text(value: Value) -> Value {
    match value {
        Value::String(_) => value,
        other => Value::String(other.to_string()),
    }
}

fn unless_set(message: &mut Map<String, Value>, [platform, part, name]: [&str; 3], value: &str) {
    let platform = message.entry(platform).or_insert_with(|| json!({}));
    let Some(platform) = platform.as_object_mut() else { return };
    let part = platform.entry(part).or_insert_with(|| json!({}));
    // FCM refuses a value that is not an object
    if let Some(part) = part.as_object_mut() {
        part.entry(name).or_insert_with(|| value.into());
    }
}
