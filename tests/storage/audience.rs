//! Reading an audience: filters of many ranges, and clients that move between them meanwhile.

use diesel::prelude::*;
use fanfare::clients::import;
use fanfare::db::AnyConnection;
use fanfare::db::schema::{client_move, mailing};
use fanfare::db::types::ClientId;
use fanfare::kinds::ChannelKind;
use fanfare::mailings::filter::{AudienceFilter, Range};
use fanfare::mailings::repo::audience::{self, AudienceCursor, AudienceRead, ClientFields};
use serde_json::json;

use crate::on_each_database;
use crate::storage::stage::{Stage, at, changes, mailing_at_work};

fn everyone() -> AudienceRead {
    AudienceRead { upper_bound: None, limit: 100, needs: ClientFields::of(ChannelKind::Sms) }
}

fn filter(codes: std::ops::Range<u16>, tags: &[&str]) -> AudienceFilter {
    AudienceFilter {
        mobile_operator_code: codes.map(|code| code.to_string()).collect(),
        tag: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        has: Vec::new(),
    }
}

async fn moves(stage: &Stage) -> Vec<ClientId> {
    let read = stage.db.read(|c| Ok(client_move::table.select(client_move::client_id).load(c)?));
    read.await.unwrap()
}

on_each_database! {
    async fn a_filter_of_many_ranges_is_counted_at_once_and_walked_in_bounded_steps(kind: Database) {
        let stage = Stage::new(kind).await;
        let client = stage.create(json!({"phone_number": "79990000000", "tag": "z"})).await.unwrap();
        let filter = filter(100..1000, &["a", "z"]);
        let walked = stage.db.write(move |c| {
            let counted = audience::measure(c, &filter)?;
            assert_eq!((counted.total, counted.upper_bound), (1, Some(client.id)));
            let (ranges, mut cursor, mut steps, mut found) = (filter.ranges(), AudienceCursor::default(), 0, Vec::new());
            while cursor.range < ranges.len() {
                let before = cursor.range;
                let (some, next) = audience::read(c, &ranges, cursor, everyone())?;
                assert!(next.range > before && next.range - before <= 100, "{before} to {}", next.range);
                (cursor, steps) = (next, steps + 1);
                found.extend(some.into_iter().map(|recipient| recipient.client_id));
            }
            Ok((steps, found, client.id))
        });
        let (steps, found, id) = walked.await.unwrap();
        assert_eq!((steps, found), (36, vec![id]));
    }
}

/// Returns the count of an audience, and its clients as they are read two at a time.
async fn walked(stage: &Stage, filter: AudienceFilter) -> (i64, Vec<ClientId>) {
    let walk = stage.db.write(move |c| {
        let (ranges, mut cursor, mut found) = (filter.ranges(), AudienceCursor::default(), Vec::new());
        while cursor.range < ranges.len() {
            let (some, next) = audience::read(c, &ranges, cursor, AudienceRead { limit: 2, ..everyone() })?;
            found.extend(some.into_iter().map(|recipient| recipient.client_id));
            cursor = next;
        }
        found.sort();
        Ok((audience::measure(c, &filter)?.total, found))
    });
    walk.await.unwrap()
}

on_each_database! {
    async fn a_client_with_several_tags_is_met_once_whichever_the_filter_names(kind: Database) {
        let stage = Stage::new(kind).await;
        let sets: [&[&str]; 8] = [&["A"], &["b", "a"], &["c", "B", "a"], &["c"], &[], &["d", "c", "b", "A"], &["d"], &["ä", "b"]];
        let mut made = Vec::new();
        for (n, tags) in sets.iter().enumerate() {
            let body = json!({"phone_number": format!("79{}000000{n}", ["03", "16"][n % 2]), "tags": tags});
            made.push(stage.create(body).await.unwrap());
        }
        for wanted in [&["a"][..], &["b"], &["a", "b"], &["b", "A", "c", "d"], &["Ä"], &["e"], &["e", "d"]] {
            for codes in [903..903, 903..904, 903..917] {
                let (total, found) = walked(&stage, filter(codes.clone(), wanted)).await;
                let has = |tags: &&[&str]| wanted.iter().any(|w| tags.iter().any(|t| t.to_lowercase() == w.to_lowercase()));
                let is_of = |n: usize| codes.is_empty() || codes.contains(&[903, 916][n % 2]);
                let expected: Vec<ClientId> =
                    sets.iter().enumerate().filter(|(n, tags)| has(tags) && is_of(*n)).map(|(n, _)| made[n].id).collect();
                assert_eq!((total, &found), (i64::try_from(expected.len()).unwrap(), &expected), "{wanted:?} {codes:?}");
            }
        }

        // the rows of further tags follow every change of their client
        stage.clients.patch(made[1].id, changes(json!({"tags": ["b", "e"]}))).await.unwrap();
        stage.clients.patch(made[2].id, changes(json!({"mobile_operator_code": "999"}))).await.unwrap();
        assert!(stage.delete_client(made[5].id).await);
        assert_eq!(walked(&stage, filter(903..903, &["a", "e"])).await, (3, vec![made[0].id, made[1].id, made[2].id]));
        assert_eq!(walked(&stage, filter(999..1000, &["a"])).await, (1, vec![made[2].id]));
        let file = "phone_number,tags\n79030000000,A;e\n79160000001,\n";
        import::import(&stage.db, &stage.clock, std::io::Cursor::new(file), import::ImportOptions::default(), |_| ()).await.unwrap();
        assert_eq!(walked(&stage, filter(903..903, &["e"])).await, (1, vec![made[0].id]));
        assert_eq!(walked(&stage, filter(903..903, &["b"])).await, (2, vec![made[2].id, made[7].id]));
    }
}

on_each_database! {
    async fn every_way_of_moving_a_client_is_noted_and_nothing_else_is(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut ids = Vec::new();
        for number in 0..5 {
            let body = json!({"phone_number": format!("7903000000{number}"), "tag": "a"});
            ids.push(stage.create(body).await.unwrap().id);
        }
        stage.clients.patch(ids[0], changes(json!({"tag": "b"}))).await.unwrap();
        stage.clients.patch(ids[1], changes(json!({"mobile_operator_code": null}))).await.unwrap();
        stage.clients.patch(ids[2], changes(json!({"tag": "A", "email": "x@example.com"}))).await.unwrap();
        stage.clients.patch(ids[4], changes(json!({"tags": ["a", "b"]}))).await.unwrap();
        let file = "phone_number,tag\n79030000003,b\n79030000002,a\n79030000009,b\n";
        import::import(&stage.db, &stage.clock, std::io::Cursor::new(file), import::ImportOptions::default(), |_| ()).await.unwrap();
        let mut noted = moves(&stage).await;
        noted.sort();
        assert_eq!(noted, [ids[0], ids[1], ids[3], ids[4]]);
    }
}

on_each_database! {
    async fn who_moved_is_found_where_he_is_now_and_only_since_the_start(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut ids = Vec::new();
        for number in 0..4 {
            let body = json!({"phone_number": format!("7903000000{number}"), "tag": "c"});
            ids.push(stage.create(body).await.unwrap().id);
        }
        stage.clients.patch(ids[0], changes(json!({"tag": "a"}))).await.unwrap();
        stage.clock.set(at(2_000));
        for (id, tag) in [(ids[1], "a"), (ids[2], "b"), (ids[3], "nobody")] {
            stage.clients.patch(id, changes(json!({"tag": tag}))).await.unwrap();
        }
        let found = stage.db.write(|c| {
            let ranges = [Range::Tag("a".into()), Range::Tag("b".into())];
            let what = AudienceRead { limit: 3, ..everyone() };
            let first = AudienceCursor { range: 2, after: None };
            let (some, cursor) = audience::moved(c, &ranges, first, Some(at(1_500)), what)?;
            let (rest, end) = audience::moved(c, &ranges, cursor, Some(at(1_500)), what)?;
            Ok((some, rest, cursor.range, end.range))
        });
        let (some, rest, middle, end) = found.await.unwrap();
        let some: Vec<_> = some.into_iter().map(|recipient| recipient.client_id).collect();
        assert_eq!((some.as_slice(), rest.len(), middle, end), (&ids[1..3], 0, 2, 3));
    }
}

on_each_database! {
    async fn moves_are_kept_while_a_mailing_is_at_work_and_no_longer(kind: Database) {
        let stage = Stage::new(kind).await;
        let client = stage.create(json!({"phone_number": "79030000000", "tag": "a"})).await.unwrap();
        stage.clients.patch(client.id, changes(json!({"tag": "b"}))).await.unwrap();
        let id = stage.db.write(move |c| Ok(mailing_at_work(c, AudienceFilter::default(), client.id))).await.unwrap();
        let forget = |c: &mut AnyConnection| audience::delete_moves(c, 10);
        assert_eq!(stage.db.write(forget).await.unwrap(), 0);
        assert_eq!(moves(&stage).await, [client.id]);
        let settle = move |c: &mut AnyConnection| {
            diesel::update(mailing::table.find(id)).set(mailing::settled.eq(true)).execute(c)?;
            audience::delete_moves(c, 10)
        };
        assert_eq!(stage.db.write(settle).await.unwrap(), 1);
        assert!(moves(&stage).await.is_empty());
    }
}
