//! Single clients: created, read, changed and deleted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::{all_pages, ask, fields, id_of, texts, wrong_fields};
use crate::on_each_database;
use crate::support::{Service, after};

async fn create(service: &Service, body: Value) -> Value {
    ask(service, "POST", "/clients", Some(body)).await.success(201)
}

on_each_database! {
    async fn a_client_is_created_read_replaced_patched_and_deleted(kind: Database) {
        let service = Service::start(kind).await;
        let whole = json!({
            "phone_number": "+79031234567", "mobile_operator_code": "999", "tag": "vip", "timezone": "Europe/Moscow", "locale": "pt-BR",
            "email": "anna@example.com", "push_token": "fcm:1", "external_id": "crm-1",
            "attributes": {"name": "Анна", "bonus": 250, "member": true, "gone": null},
        });
        let answer = ask(&service, "POST", "/clients", Some(whole.clone())).await;
        let created = answer.success(201);
        let path = format!("/clients/{}", id_of(&created));
        assert_eq!(answer.header("location"), format!("/api/v1{path}"));
        assert_eq!(created["phone_number"], "79031234567", "the plus is not part of the number");
        assert_eq!(created["attributes"], json!({"name": "Анна", "bonus": 250, "member": true}));
        for field in ["mobile_operator_code", "tag", "timezone", "locale", "email", "push_token", "external_id"] {
            assert_eq!(created[field], whole[field], "{field}");
        }
        assert_eq!(service.get(&path).await, created);

        let replaced =
            ask(&service, "PUT", &path, Some(json!({"phone_number": "79161234567"}))).await.success(200);
        assert_eq!(replaced["id"], created["id"]);
        assert_eq!(replaced["created_at"], created["created_at"]);
        assert!(replaced["updated_at"].as_str() > created["updated_at"].as_str());
        assert_eq!(replaced["mobile_operator_code"], "916", "derived from the new number");
        assert_eq!(replaced["attributes"], json!({}));
        for field in ["tag", "timezone", "locale", "email", "push_token", "external_id"] {
            assert_eq!(replaced[field], Value::Null, "{field} was absent, so it was cleared");
        }

        let patched = ask(&service, "PATCH", &path, Some(json!({"tag": "gold"}))).await.success(200);
        assert_eq!((&patched["tag"], &patched["phone_number"]), (&json!("gold"), &json!("79161234567")));
        assert_eq!(service.get(&path).await, patched);

        let deleted = ask(&service, "DELETE", &path, None).await;
        assert_eq!(deleted.success(200)["client_id"], created["id"]);
        for (method, body) in [
            ("GET", None),
            ("DELETE", None),
            ("PUT", Some(json!({"phone_number": "79161234567"}))),
            ("PATCH", Some(json!({"tag": "x"}))),
        ] {
            ask(&service, method, &path, body).await.problem(404);
        }
    }
}

on_each_database! {
    async fn phone_numbers_and_external_ids_are_unique(kind: Database) {
        let service = Service::start(kind).await;
        let taken = json!({"phone_number": "79031234567", "external_id": "crm-1"});
        let first = create(&service, taken.clone()).await;
        let second = create(&service, json!({"phone_number": "79031234568"})).await;
        let path = format!("/clients/{}", id_of(&second));
        for (method, path, body, named) in [
            ("POST", "/clients", json!({"phone_number": "79031234567"}), "phone_number"),
            ("POST", "/clients", json!({"phone_number": "79031234569", "external_id": "crm-1"}), "external_id"),
            ("PUT", &path, taken, "another client"),
            ("PATCH", &path, json!({"phone_number": "79031234567"}), "phone_number"),
            ("PATCH", &path, json!({"external_id": "crm-1"}), "external_id"),
        ] {
            let problem = ask(&service, method, path, Some(body)).await.problem(409);
            let detail = problem["detail"].as_str().expect("a detail");
            assert!(detail.contains(named), "{method}: {problem}");
            assert!(!detail.contains("crm-1") && !detail.contains("7903"), "the detail repeats the value: {detail}");
        }
        // a client does not conflict with itself
        let path = format!("/clients/{}", id_of(&first));
        ask(&service, "PATCH", &path, Some(json!({"external_id": "crm-1"}))).await.success(200);
    }
}

on_each_database! {
    async fn all_invalid_fields_are_named_at_once(kind: Database) {
        let service = Service::start(kind).await;
        let wrong = wrong_fields(&service, "/clients", json!({
            "phone_number": "123", "mobile_operator_code": "abc", "tag": "", "timezone": "Mars/Base", "locale": "de_DE", "email": 5,
            "push_token": "a\nb", "external_id": "x".repeat(201), "nickname": "x", "id": "1",
            "attributes": {"ok": 1, "bad name": 1, "nested": {}, "tag": "x"},
        })).await;
        assert_eq!(wrong, [
            "attributes.bad name", "attributes.nested", "attributes.tag", "email", "external_id", "id", "locale",
            "mobile_operator_code", "nickname", "phone_number", "push_token", "tag", "timezone",
        ]);
        assert_eq!(wrong_fields(&service, "/clients", json!({"tag": "", "phone_number": null})).await, ["tag"]);
        assert_eq!(wrong_fields(&service, "/clients", json!({"phone_number": 79031234567_u64})).await, ["phone_number"]);
        let anna = create(&service, json!({"phone_number": "79031234567"})).await;
        let path = format!("/clients/{}", id_of(&anna));
        for (method, body, named) in [
            ("PUT", json!({"tag": "x", "nope": 1}), vec!["nope"]),
            ("PATCH", json!({"phone_number": null}), vec!["phone_number"]),
            ("PATCH", json!({"created_at": "2026-01-01T00:00:00Z"}), vec!["created_at"]),
            ("PATCH", json!({"attributes": []}), vec!["attributes"]),
        ] {
            assert_eq!(fields(&ask(&service, method, &path, Some(body)).await.problem(422)), named);
        }
        assert_eq!(service.get(&path).await, anna, "refused changes changed nothing");
    }
}

on_each_database! {
    async fn attributes_are_merged_by_a_patch_and_null_clears(kind: Database) {
        let service = Service::start(kind).await;
        let anna = create(&service, json!({
            "phone_number": "79031234567", "tag": "vip", "attributes": {"name": "Anna", "city": "Omsk", "n": 1},
        })).await;
        let path = format!("/clients/{}", id_of(&anna));
        for (patch, attributes) in [
            (json!({"attributes": {"city": null, "n": 2, "new": "x"}}), json!({"name": "Anna", "n": 2, "new": "x"})),
            (json!({"attributes": {}}), json!({"name": "Anna", "n": 2, "new": "x"})),
            (json!({"tag": null}), json!({"name": "Anna", "n": 2, "new": "x"})),
            (json!({"attributes": null}), json!({})),
        ] {
            let now = ask(&service, "PATCH", &path, Some(patch.clone())).await.success(200);
            assert_eq!(now["attributes"], attributes, "after {patch}");
        }
        assert_eq!(service.get(&path).await["tag"], Value::Null);
        let many: serde_json::Map<_, _> = (0..501).map(|n| (format!("a{n}"), json!(n))).collect();
        let refused = ask(&service, "PATCH", &path, Some(json!({"attributes": many}))).await.problem(422);
        assert_eq!(fields(&refused), ["attributes"]);
    }
}

on_each_database! {
    async fn the_operators_code_comes_from_a_russian_number_unless_it_is_given(kind: Database) {
        let service = Service::start(kind).await;
        for (body, code) in [
            (json!({"phone_number": "79031234567"}), json!("903")),
            (json!({"phone_number": "79031234568", "mobile_operator_code": "916"}), json!("916")),
            (json!({"phone_number": "77011234567"}), Value::Null),
            (json!({"phone_number": "4915112345678"}), Value::Null),
            (json!({"phone_number": "4915112345679", "mobile_operator_code": "151"}), json!("151")),
        ] {
            let client = create(&service, body.clone()).await;
            assert_eq!(client["mobile_operator_code"], code, "{body}");
        }
    }
}

on_each_database! {
    async fn an_id_that_is_not_a_uuid_is_refused_and_an_unknown_one_is_not_found(kind: Database) {
        let service = Service::start(kind).await;
        for place in ["/clients/", "/mailings/", "/messages/"] {
            for id in ["1", "nope", "%00", "%F0%9F%98%80", "..%2F..%2Fhealth", "0198c2d0-0000-7000-8000-00000000000g"] {
                let problem = ask(&service, "GET", &format!("{place}{id}"), None).await.problem(422);
                assert_eq!(fields(&problem), ["id"], "{place}{id}");
            }
            ask(&service, "GET", &format!("{place}0198c2d0-0000-7000-8000-000000000001"), None).await.problem(404);
        }
        for path in ["/stats", "/messages"] {
            ask(&service, "GET", &format!("/mailings/nope{path}"), None).await.problem(422);
            ask(&service, "GET", &format!("/mailings/0198c2d0-0000-7000-8000-000000000001{path}"), None)
                .await
                .problem(404);
        }
        for verb in ["pause", "resume", "cancel"] {
            ask(&service, "POST", &format!("/mailings/nope/{verb}"), None).await.problem(422);
            ask(&service, "POST", &format!("/mailings/0198c2d0-0000-7000-8000-000000000001/{verb}"), None)
                .await
                .problem(404);
        }
    }
}

on_each_database! {
    async fn a_client_needs_one_address_and_mailings_use_it(kind: Database) {
        let service = Service::start(kind).await;
        let whole = json!({"email": "Anna@example.com", "attributes": {"name": "Anna"}});
        let anna = ask(&service, "POST", "/clients", Some(whole)).await.success(201);
        assert_eq!((&anna["phone_number"], &anna["mobile_operator_code"]), (&Value::Null, &Value::Null));
        for body in [json!({"external_id": "crm-1"}), json!({"push_token": "fcm:1"}), json!({"phone_number": "79031234567", "email": "b@example.com"})] {
            ask(&service, "POST", "/clients", Some(body)).await.success(201);
        }
        let path = format!("/clients/{}", id_of(&anna));
        for (method, path, body) in [
            ("POST", "/clients", json!({"tag": "vip"})),
            ("PATCH", path.as_str(), json!({"email": null})),
            ("PUT", path.as_str(), json!({"attributes": {"name": "Anna"}})),
        ] {
            let problem = ask(&service, method, path, Some(body)).await.problem(422);
            assert_eq!(problem["errors"][0]["field"], "phone_number", "{problem}");
            assert!(problem["errors"][0]["reason"].as_str().is_some_and(|why| why.contains("external_id")), "{problem}");
        }
        let mailing = async |body: Value| {
            let mut whole = json!({"text": "x", "ends_at": after(Duration::from_secs(3600))});
            whole.as_object_mut().expect("an object").extend(body.as_object().cloned().expect("an object"));
            let id = id_of(&service.post("/mailings", whole).await);
            let ended = service.wait_for(&format!("/mailings/{id}"), |mailing| mailing["status"] == "finished").await;
            ["total", "sent", "failed"].map(|count| ended["counts"][count].as_i64().expect("a count"))
        };
        assert_eq!(mailing(json!({})).await, [4, 1, 3], "messages to clients without a phone number fail");
        assert_eq!(mailing(json!({"filter": {"has": ["sms"]}})).await, [1, 1, 0]);
        let by_mail = json!({"channel": "email", "subject": "x", "filter": {"has": ["email"]}});
        assert_eq!(mailing(by_mail).await, [2, 2, 0]);
        assert_eq!(mailing(json!({"filter": {"has": ["email", "sms"]}})).await, [1, 1, 0]);
        let filter = json!({"text": "x", "ends_at": after(Duration::from_secs(3600)), "filter": {"has": ["email", "fax"]}});
        let problem = ask(&service, "POST", "/mailings", Some(filter)).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], "filter.has[1]");
    }
}

on_each_database! {
    async fn a_client_has_several_tags_and_the_first_one_is_its_tag(kind: Database) {
        let service = Service::start(kind).await;
        let tags = |client: &Value| (client["tag"].clone(), client["tags"].clone());
        let body = json!({"phone_number": "79031234567", "tags": [" VIP ", "New customer", "vip", "Zoe\u{308}"]});
        let anna = create(&service, body).await;
        assert_eq!(tags(&anna), (json!("VIP"), json!(["VIP", "New customer", "Zoë"])));
        let path = format!("/clients/{}", id_of(&anna));
        assert_eq!(tags(&service.get(&path).await), tags(&anna));
        let other = create(&service, json!({"phone_number": "79031234568", "tag": "zoë"})).await;
        for (words, expected) in [
            ("vip", vec![&anna]),
            ("new%20CUSTOMER", vec![&anna]),
            ("ZO%C3%8B", vec![&anna, &other]),
            ("zoe%CC%88&mobile_operator_code=903", vec![&anna, &other]),
            ("vip&mobile_operator_code=916", vec![]),
            ("gold", vec![]),
        ] {
            let ids: Vec<String> = expected.into_iter().map(id_of).collect();
            for limit in [1, 50] {
                let found = all_pages(&service, &format!("/clients?tag={words}"), limit).await;
                assert_eq!(texts(&found, "id"), ids, "{words}");
            }
        }
        for (change, expected) in [
            (json!({"email": "anna@example.com"}), tags(&anna)),
            (json!({"tags": ["gold", "vip"]}), (json!("gold"), json!(["gold", "vip"]))),
            (json!({"mobile_operator_code": "916"}), (json!("gold"), json!(["gold", "vip"]))),
            (json!({"tag": "silver"}), (json!("silver"), json!(["silver"]))),
            (json!({"tags": []}), (Value::Null, json!([]))),
        ] {
            let changed = ask(&service, "PATCH", &path, Some(change.clone())).await.success(200);
            assert_eq!(tags(&changed), expected, "{change}");
            let of_tag = |tag| format!("/clients?tag={tag}&mobile_operator_code=916");
            let is_vip_of_916 = change == json!({"mobile_operator_code": "916"});
            assert_eq!(all_pages(&service, &of_tag("vip"), 50).await.len(), usize::from(is_vip_of_916), "{change}");
        }
        for (wrong, field) in [
            (json!({"tags": "vip"}), "tags"),
            (json!({"tags": ["vip", ""]}), "tags[1]"),
            (json!({"tags": ["vip", null]}), "tags[1]"),
            (json!({"tag": "new", "tags": ["vip", "new"]}), "tag"),
            (json!({"tags": (0..51).collect::<Vec<i32>>().iter().map(ToString::to_string).collect::<Vec<_>>()}), "tags"),
            (json!({"attributes": {"tags": "x"}}), "attributes.tags"),
        ] {
            let problem = ask(&service, "PATCH", &path, Some(wrong.clone())).await.problem(422);
            assert_eq!(fields(&problem), [field], "{wrong}");
        }
    }
}
