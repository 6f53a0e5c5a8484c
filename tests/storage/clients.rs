//! Single clients: create, read, replace, patch, delete and list.

use fanfare::clients::views::ClientView;
use fanfare::clients::{ListFilter, repo};
use fanfare::db::migrations;
use fanfare::db::types::ClientId;
use fanfare::error::{Error, Result};
use serde_json::json;

use crate::on_each_database;
use crate::storage::stage::{Stage, at, changes, whole};

fn conflict<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome {
        Err(Error::Conflict(why)) => why,
        other => panic!("not a conflict: {other:?}"),
    }
}

fn is_not_found<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::NotFound { what: "client", .. }))
}

on_each_database! {
    async fn a_client_reads_back_as_it_was_made(kind: Database) {
        let stage = Stage::new(kind).await;
        let anna = stage.create(json!({
            "phone_number": "+79031234567", "tag": "vip", "timezone": "Europe/Moscow", "email": "anna@example.com",
            "locale": "PT-br", "push_token": "token", "external_id": "crm-1",
            "attributes": {"name": "Анна", "bonus": 1.5, "member": true, "gone": null, "odd": "\u{0}\"\\"},
        })).await.unwrap();
        assert_eq!(stage.clients.get(anna.id).await.unwrap(), anna);
        let shown = serde_json::to_value(ClientView::from(anna.clone())).unwrap();
        assert_eq!(shown["phone_number"], "79031234567");
        assert_eq!(shown["mobile_operator_code"], "903");
        assert_eq!(shown["locale"], "pt-BR");
        assert_eq!(shown["created_at"], "1970-01-01T00:16:40.000000Z");
        assert_eq!(shown["attributes"]["bonus"], 1.5);
        assert!(shown["attributes"].get("gone").is_none());
        let bare = stage.create(json!({"phone_number": "4915112345678"})).await.unwrap();
        assert_eq!(stage.clients.get(bare.id).await.unwrap(), bare);
        assert_eq!(bare.mobile_operator_code, None);
    }
}

on_each_database! {
    async fn a_number_and_an_external_id_belong_to_one_client(kind: Database) {
        let stage = Stage::new(kind).await;
        let anna = stage.create(json!({"phone_number": "79031234567", "external_id": "a"})).await.unwrap();
        let boris = stage.create(json!({"phone_number": "79031234568", "external_id": "b"})).await.unwrap();
        let number = "another client has this phone_number";
        let external = "another client has this external_id";
        assert_eq!(conflict(stage.create(json!({"phone_number": "79031234567"})).await), number);
        let taken = json!({"phone_number": "79031234569", "external_id": "a"});
        assert_eq!(conflict(stage.create(taken).await), external);
        let patch = whole(json!({"phone_number": "79031234567"}));
        assert_eq!(conflict(stage.clients.replace(boris.id, patch).await), number);
        assert_eq!(conflict(stage.clients.patch(boris.id, changes(json!({"external_id": "a"}))).await), external);
        assert_eq!(stage.all().await, [anna.clone(), boris.clone()]);

        assert!(stage.delete_client(anna.id).await);
        let heir = changes(json!({"phone_number": "79031234567", "external_id": "a"}));
        assert_eq!(stage.clients.patch(boris.id, heir).await.unwrap().phone_number, anna.phone_number);
    }
}

on_each_database! {
    async fn of_many_who_take_a_number_at_once_one_gets_it(kind: Database) {
        let stage = Stage::new(kind).await;
        let tries = (0..16).map(|_| stage.create(json!({"phone_number": "79031234567"})));
        let outcomes = futures_util::future::join_all(tries).await;
        let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (1, 15));
        refused.into_iter().for_each(|outcome| drop(conflict(outcome)));
    }
}

on_each_database! {
    async fn what_nobody_has_is_not_found(kind: Database) {
        let stage = Stage::new(kind).await;
        let nobody = ClientId::new();
        let patch = whole(json!({"phone_number": "79031234567"}));
        assert!(is_not_found(&stage.clients.get(nobody).await));
        assert!(is_not_found(&stage.clients.replace(nobody, patch).await));
        assert!(is_not_found(&stage.clients.patch(nobody, changes(json!({"tag": "x"}))).await));
        assert!(!stage.delete_client(nobody).await);
        assert_eq!(stage.all().await, []);
    }
}

on_each_database! {
    async fn a_patch_changes_what_it_names_and_nothing_else(kind: Database) {
        let stage = Stage::new(kind).await;
        let before = stage.create(json!({
            "phone_number": "79031234567", "tag": "vip", "email": "anna@example.com", "timezone": "Europe/Moscow", "locale": "de",
            "attributes": {"name": "Anna", "bonus": 1, "old": true},
        })).await.unwrap();
        stage.clock.set(at(2_000));
        let patch = changes(json!({"tag": "gold", "email": null, "attributes": {"bonus": 2, "old": null, "new": "x"}}));
        let after = stage.clients.patch(before.id, patch).await.unwrap();
        let expected = json!({
            "id": before.id, "phone_number": "79031234567", "mobile_operator_code": "903", "tag": "gold", "tags": ["gold"],
            "timezone": "Europe/Moscow", "locale": "de", "email": null, "push_token": null, "external_id": null,
            "attributes": {"name": "Anna", "bonus": 2, "new": "x"},
            "created_at": at(1_000), "updated_at": at(2_000),
        });
        assert_eq!(serde_json::to_value(ClientView::from(after.clone())).unwrap(), expected);
        assert_eq!(stage.clients.get(before.id).await.unwrap(), after);

        let moved = stage.clients.patch(before.id, changes(json!({"phone_number": "79161234567"}))).await.unwrap();
        assert_eq!(moved.mobile_operator_code.unwrap().as_str(), "916");
        let bare = stage.clients.patch(before.id, changes(json!({"attributes": null}))).await.unwrap();
        assert_eq!(bare.attributes.iter().count(), 0);
    }
}

on_each_database! {
    async fn a_replaced_client_keeps_its_id_and_its_time_of_making_alone(kind: Database) {
        let stage = Stage::new(kind).await;
        let before = stage.create(json!({
            "phone_number": "79031234567", "tag": "vip", "external_id": "a", "attributes": {"name": "Anna"},
        })).await.unwrap();
        stage.clock.set(at(2_000));
        let patch = whole(json!({"phone_number": "79161234567", "email": "a@example.com"}));
        let after = stage.clients.replace(before.id, patch).await.unwrap();
        assert_eq!((after.id, after.created_at, after.updated_at), (before.id, at(1_000), at(2_000)));
        assert_eq!((&after.tag, &after.external_id), (&None, &None));
        assert_eq!(after.mobile_operator_code.as_ref().unwrap().as_str(), "916");
        assert_eq!(after.attributes.iter().count(), 0);
        assert_eq!(stage.clients.get(before.id).await.unwrap(), after);
    }
}

on_each_database! {
    async fn patches_at_once_are_all_kept(kind: Database) {
        let stage = Stage::new(kind).await;
        let anna = stage.create(json!({"phone_number": "79031234567"})).await.unwrap();
        let patches = (0..12).map(|n| {
            let name = format!("a{n}");
            stage.clients.patch(anna.id, changes(json!({"attributes": {name: n}})))
        });
        for outcome in futures_util::future::join_all(patches).await {
            outcome.unwrap();
        }
        let after = stage.clients.get(anna.id).await.unwrap();
        assert_eq!(after.attributes.iter().count(), 12);
    }
}

/// Reads a list to its end and returns its pages.
async fn pages(stage: &Stage, filter: &ListFilter, limit: i64) -> Vec<Vec<ClientView>> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let (items, next) =
            stage.clients.list(filter.clone(), cursor, limit, ClientView::from).await.unwrap();
        pages.push(items);
        match next {
            Some(_) => cursor = next,
            None => return pages,
        }
    }
}

on_each_database! {
    async fn pages_show_every_match_once_and_in_order(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut made = Vec::new();
        for n in 0..24 {
            let (code, tag) = (["903", "916"][n % 2], ["vip", "new", "old"][n % 3]);
            let tags = if n % 4 == 0 { vec!["all", tag] } else { vec![tag] };
            let body = json!({"phone_number": format!("7{code}{n:07}"), "tags": tags});
            made.push(stage.create(body).await.unwrap());
        }
        for code in [None, Some("903"), Some("999")] {
            for tag in [None, Some("vip"), Some("all"), Some("none")] {
                let filter = ListFilter {
                    mobile_operator_code: code.map(|text| text.parse().unwrap()),
                    tag: tag.map(|text| text.parse().unwrap()),
                };
                let expected: Vec<_> = made
                    .iter()
                    .filter(|c| code.is_none() || c.mobile_operator_code == filter.mobile_operator_code)
                    .filter(|c| filter.tag.as_ref().is_none_or(|tag| c.tags.contains(tag)))
                    .cloned()
                    .map(ClientView::from)
                    .collect();
                for limit in [1, 4, 5, 1000] {
                    let pages = pages(&stage, &filter, limit).await;
                    let size = usize::try_from(limit).unwrap();
                    assert_eq!(pages.len(), expected.len().div_ceil(size).max(1), "{code:?} {tag:?} {limit}");
                    assert_eq!(pages.concat(), expected, "{code:?} {tag:?} {limit}");
                }
            }
        }
    }
}

on_each_database! {
    async fn names_of_attributes_are_remembered_with_the_write_that_brings_them(kind: Database) {
        let stage = Stage::new(kind).await;
        let body = json!({"phone_number": "79031234567", "attributes": {"name": "Anna", "bonus": 1}});
        let anna = stage.create(body).await.unwrap();
        let taken = json!({"phone_number": "79031234567", "attributes": {"never": 1}});
        conflict(stage.create(taken).await);
        stage.clients.patch(anna.id, changes(json!({"attributes": {"city": "Omsk", "name": "A"}}))).await.unwrap();
        assert!(stage.delete_client(anna.id).await);
        let names = stage.db.read(repo::attribute_names).await.unwrap();
        assert_eq!(names, ["bonus", "city", "name"]);
    }
}

on_each_database! {
    async fn tags_of_an_earlier_version_are_found_in_any_case(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut made = Vec::new();
        for (n, tags) in [vec!["VIP", "new"], vec!["Élan"], vec![]].into_iter().enumerate() {
            let body = json!({"phone_number": format!("7903000000{n}"), "tags": tags});
            made.push(stage.create(body).await.unwrap());
        }
        stage.db.read(|c| {
            let before: migrations::Target = "2026-12-03-000210".parse().map_err(Error::internal)?;
            migrations::revert(c, &before)?;
            migrations::run(c)
        }).await.unwrap();
        stage.clients.adopt().await.unwrap();
        for (tag, expected) in [("vip", Some(0)), ("new", None), ("ÉLAN", Some(1))] {
            let filter = ListFilter { tag: Some(tag.parse().unwrap()), ..ListFilter::default() };
            let found = stage.db.read(move |c| repo::list(c, &filter, None, 10)).await.unwrap();
            let ids: Vec<_> = found.iter().map(|client| client.id).collect();
            assert_eq!(ids, expected.map(|place: usize| made[place].id).into_iter().collect::<Vec<_>>(), "{tag}");
        }
        assert_eq!(stage.clients.get(made[2].id).await.unwrap(), made[2]);
    }
}
