//! Previews of mailings.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::wrong_fields;
use crate::on_each_database;
use crate::support::{Service, after};

on_each_database! {
    async fn a_preview_shows_if_the_mailing_fits_the_window(kind: Database) {
        let service = Service::start_with(kind, &[("channels.rate_per_second", "10")]).await;
        service.import(100, "all").await;
        let minute = Duration::from_secs(60);
        for (body, fits) in [
            (json!({}), Value::Null),
            (json!({"ends_at": after(minute)}), json!(true)),
            (json!({"ends_at": after(Duration::from_secs(5))}), json!(false)),
            (json!({"starts_at": after(minute), "ends_at": after(minute + Duration::from_secs(11))}), json!(true)),
            (json!({"starts_at": after(minute), "ends_at": after(minute + Duration::from_secs(9))}), json!(false)),
            // only the rest of an open window counts
            (json!({"starts_at": "2020-01-01T00:00:00Z", "ends_at": after(Duration::from_secs(5))}), json!(false)),
            (json!({"filter": "nobody", "ends_at": after(Duration::from_secs(5))}), json!(true)),
        ] {
            let preview = service.post("/mailings/preview", body.clone()).await;
            assert_eq!(preview["fits_window"], fits, "{body}: {preview}");
            assert_eq!(preview["rate_per_second"], 10.0);
            let recipients = preview["recipients"].as_f64().expect("a count");
            assert_eq!(preview["estimated_seconds"], json!(recipients / 10.0), "{preview}");
        }
        assert_eq!(service.get("/mailings/stats").await["mailings"]["total"], 0, "a preview creates no mailing");
        assert_eq!(service.sandbox.stats().requests, 0, "a preview sends nothing");
    }
}

on_each_database! {
    async fn without_a_limit_the_rate_is_known_after_responses_of_the_provider(kind: Database) {
        let service = Service::start(kind).await;
        service.import(20, "all").await;
        let body = json!({"ends_at": after(Duration::from_secs(60))});
        let preview = service.post("/mailings/preview", body.clone()).await;
        for field in ["rate_per_second", "estimated_seconds", "fits_window"] {
            assert_eq!(preview[field], Value::Null, "{preview}");
        }
        let id = service.mail("all", Duration::from_secs(60)).await;
        service.finished(&id).await;
        let preview = service.post("/mailings/preview", body).await;
        assert!(preview["rate_per_second"].as_f64() > Some(0.0), "{preview}");
        assert_eq!(preview["fits_window"], true, "{preview}");
    }
}

on_each_database! {
    async fn a_preview_shows_a_few_clients_with_their_texts(kind: Database) {
        let service = Service::start(kind).await;
        for n in 0..8 {
            let mut client = json!({"phone_number": format!("7903000000{n}"), "tag": "vip", "attributes": {"city": "Omsk"}});
            if n != 1 {
                client["attributes"]["name"] = json!(format!("name{n}"));
            }
            service.post("/clients", client).await;
        }
        let body = json!({"filter": "vip", "text": "Dear {{ name | upper }} of {{ city }}, {{ phone_number }}"});
        let preview = service.post("/mailings/preview", body).await;
        assert_eq!(preview["recipients"], 8);
        let sample = preview["sample"].as_array().expect("a sample");
        assert_eq!(sample.len(), 5);
        let client = service.get(&format!("/clients/{}", sample[0]["client_id"].as_str().expect("an id"))).await;
        assert_eq!((&sample[0]["recipient"], &sample[0]["error"]), (&client["phone_number"], &Value::Null));
        assert_eq!(sample[0]["text"], "Dear NAME0 of Omsk, 79030000000");
        assert_eq!(sample[1]["text"], Value::Null);
        assert!(sample[1]["error"].as_str().is_some_and(|error| error.contains("`name`")), "{}", sample[1]);
        let without_text = service.post("/mailings/preview", json!({"filter": "vip"})).await;
        assert!(without_text["sample"][0]["text"].is_null() && without_text["sample"][0]["error"].is_null());
        assert_eq!(service.post("/mailings/preview", json!({"filter": "nobody"})).await["sample"], json!([]));
    }
}

on_each_database! {
    async fn a_text_can_use_all_tags_of_a_client(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79030000001", "tags": ["VIP", "new"]})).await;
        service.post("/clients", json!({"phone_number": "79030000002"})).await;
        let text = "{% for one in tags %}<{{ one }}>{% endfor %}{% if \"new\" in tags %}, welcome{% endif %}!";
        let preview = service.post("/mailings/preview", json!({"text": text})).await;
        let texts = [&preview["sample"][0]["text"], &preview["sample"][1]["text"]];
        assert_eq!(texts, ["<VIP><new>, welcome!", "!"], "{preview}");
    }
}

on_each_database! {
    async fn a_preview_counts_sms_segments_and_renders_subject_and_html_of_emails(kind: Database) {
        let service = Service::start(kind).await;
        let client = json!({"phone_number": "79030000001", "email": "ann@example.com", "attributes": {"name": "<Ann>"}});
        service.post("/clients", client).await;
        service.post("/clients", json!({"phone_number": "79030000002", "attributes": {"name": "Bob"}})).await;
        for (text, encoding, segments) in [("x".repeat(161), "gsm7", 2), (format!("{}ы", "x".repeat(69)), "ucs2", 1)] {
            let preview = service.post("/mailings/preview", json!({"text": text})).await;
            let counted = &preview["sample"][0]["segments"];
            assert_eq!((&counted["encoding"], &counted["segments"]), (&json!(encoding), &json!(segments)), "{counted}");
        }
        let body = json!({"channel": "email", "subject": "Dear {{ name }}", "text": "{{ name }}", "html": "<p>{{ name }}</p>"});
        let preview = service.post("/mailings/preview", body).await;
        let [ann, bob] = [&preview["sample"][0], &preview["sample"][1]];
        assert_eq!((&ann["recipient"], &ann["subject"], &ann["html"]), (&json!("ann@example.com"), &json!("Dear <Ann>"), &json!("<p>&lt;Ann&gt;</p>")));
        assert_eq!((&ann["segments"], &ann["error"]), (&Value::Null, &Value::Null));
        assert_eq!(bob["error"], "the client has no e-mail address, which `email` needs");
    }
}

on_each_database! {
    async fn a_preview_is_refused_like_a_mailing(kind: Database) {
        let service = Service::start(kind).await;
        for (body, named) in [
            (json!({"text": "{{ nobody_has_this }}"}), "text"),
            (json!({"text": "{{"}), "text"),
            (json!({"text": "x".repeat(1001)}), "text"),
            (json!({"channel": "fax"}), "channel"),
            (json!({"channel": "webhook"}), "channel"),
            (json!({"subject": "alone"}), "subject"),
            (json!({"channel": "email", "text": "x"}), "subject"),
            (json!({"priority": "high"}), "priority"),
            (json!({"filter": {"labels": []}}), "filter.labels"),
            (json!({"starts_at": "soon"}), "starts_at"),
        ] {
            assert_eq!(wrong_fields(&service, "/mailings/preview", body.clone()).await, [named], "{body}");
        }
    }
}

on_each_database! {
    async fn a_tag_without_clients_is_reported(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79031234567", "tag": "vip"})).await;
        let body = json!({"text": "x", "filter": {"tag": ["vip", "vpi"]}, "ends_at": after(Duration::from_secs(600))});
        let expected = json!([{"field": "filter.tag", "reason": "no client has the tag `vpi`"}]);
        let made = service.post("/mailings", body.clone()).await;
        assert_eq!((&made["warnings"], &made["counts"]["total"]), (&expected, &json!(1)));
        let id = made["id"].as_str().expect("an id");
        assert_eq!(service.get(&format!("/mailings/{id}")).await["warnings"], Value::Null, "it is returned once");
        assert_eq!(service.post("/mailings/preview", body).await["warnings"], expected);
        let body = json!({"text": "x", "filter": "vip", "ends_at": after(Duration::from_secs(600))});
        assert_eq!(service.post("/mailings", body).await["warnings"], Value::Null);
    }
}
