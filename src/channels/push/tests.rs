use hyper::StatusCode;

use super::*;

const FIELD: &str = "push.service_account";

fn delivery(data: Option<&str>) -> Delivery {
    Delivery { data: data.map(Into::into), ..Delivery::to("planted-token", "planted text") }
}

#[test]
fn a_key_that_is_none_is_named_by_its_setting_and_not_shown() {
    let account = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut account = serde_json::json!({
            "type": "service_account", "project_id": "p", "private_key": "planted", "client_email": "planted",
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        change(&mut account);
        ServiceAccount::Json(account.to_string().into())
    };
    let cases = [
        (ServiceAccount::File("no/such/file.json".into()), "the file no/such/file.json cannot be read"),
        (ServiceAccount::Json("planted".into()), "must be the JSON of a service account"),
        (account(&|a| drop(a["client_email"].take())), "must be the JSON of a service account"),
        (account(&|a| a["type"] = "authorized_user".into()), "`type`"),
        (account(&|a| a["project_id"] = "planted/../x".into()), "`project_id`"),
        (account(&|a| a["project_id"] = "".into()), "`project_id`"),
        (account(&|_| ()), "`private_key`"),
    ];
    for (service_account, why) in cases {
        let settings = FcmSettings { service_account, base_url: FCM_URL.into() };
        assert!(!format!("{settings:?}").contains("planted"));
        let refused = Fcm::new(FIELD, &settings, Clock::System).err();
        let Some(Error::Invalid(fields)) = refused else { unreachable!("{why}: {refused:?}") };
        assert_eq!(fields[0].field, FIELD);
        assert!(fields[0].reason.contains(why) && !fields[0].reason.contains("planted"), "{fields:?}");
    }
}

#[test]
fn data_that_fcm_would_refuse_is_refused_before_it_goes_out() {
    for (data, why) in [
        (r#"{"from": 1}"#, "the key `from`"),
        (r#"{"message_type": "x"}"#, "the key `message_type`"),
        (r#"{"google.planted": "x"}"#, "begins with `google.` or `gcm.`"),
        (r#"{"gcm.planted": "x"}"#, "begins with `google.` or `gcm.`"),
        (r#"["planted"]"#, "not a JSON object"),
        ("planted", "not a JSON object"),
    ] {
        let refused = message::body(&delivery(Some(data))).unwrap_err();
        assert!(refused.contains(why) && !refused.contains("planted"), "{data}: {refused}");
    }
    for data in
        [r#"{"from_x": "1", "googly": "2", "collapse_key": "3"}"#, "{}", r#"{"apns": {"headers": 1}}"#]
    {
        assert!(message::body(&delivery(Some(data))).is_ok(), "{data}");
    }
}

#[test]
fn an_answer_of_another_form_is_read_by_its_status_and_repeats_nothing() {
    let read =
        |status: u16, body: &str| verdict::read(StatusCode::from_u16(status).unwrap(), None, body.as_bytes());
    let kind = |status, body: &str| format!("{:?}", read(status, body).verdict);
    for body in ["", "<html>planted</html>", "[]", r#"{"error": "planted"}"#, r#"{"error": {"details": 1}}"#]
    {
        for (status, word) in [
            (200, "Transient"),
            (400, "Permanent"),
            (401, "Transient"),
            (403, "Transient"),
            (404, "Transient"),
            (413, "Permanent"),
            (429, "Throttled"),
            (502, "Transient"),
        ] {
            let verdict = kind(status, body);
            assert!(verdict.starts_with(word) && !verdict.contains("planted"), "{status} {body}: {verdict}");
        }
    }
    let strange = r#"{"error": {"status": "planted +79031234567", "message": "planted"}}"#;
    assert!(!kind(400, strange).contains("planted"));
}
