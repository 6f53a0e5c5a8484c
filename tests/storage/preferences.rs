//! Preferences and addresses that opted out, as they are stored and looked up for a page.

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text};
use fanfare::db::AnyConnection;
use fanfare::db::types::{ClientId, Id};
use fanfare::kinds::ChannelKind;
use fanfare::preferences::model::Preferences;
use fanfare::preferences::quiet::QuietHours;
use fanfare::preferences::repo::{self, Known};
use serde_json::json;

use crate::explain::{postgres_plan, sqlite_plan};
use crate::on_each_database;
use crate::stage::{Stage, at};

fn wants(channels: &[ChannelKind], groups: &[&str], quiet: Option<(&str, &str)>) -> Preferences {
    Preferences {
        channels: channels.iter().copied().collect(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        quiet: quiet.and_then(|(from, until)| QuietHours::new(from.parse().unwrap(), until.parse().unwrap())),
    }
}

on_each_database! {
    async fn preferences_read_back_as_they_were_stored_and_go_with_their_client(kind: Database) {
        let stage = Stage::new(kind).await;
        let client = stage.create(json!({"phone_number": "79030000001", "timezone": "Asia/Tokyo"})).await.unwrap().id;
        let steps = [
            wants(ChannelKind::TO_PEOPLE, &["a", "b.c_d-1"], Some(("22:00", "08:00"))),
            wants(&[ChannelKind::InApp], &[], Some(("00:00", "23:59"))),
            Preferences::default(),
        ];
        for (second, step) in (1_000..).zip(steps) {
            let stored = step.clone();
            stage.db.write(move |c| {
                assert!(repo::lock_client(c, client)?);
                repo::store(c, client, &stored, at(second))
            }).await.unwrap();
            let found = stage.db.read(move |c| Ok((repo::find(c, client)?, repo::of_clients(c, &[client, ClientId::new()])?)));
            let (found, known) = found.await.unwrap();
            assert_eq!(found, Some((step.clone(), at(second))));
            assert_eq!(known.len(), 1);
            assert_eq!((&known[&client].preferences, known[&client].zone), (&step, Some(chrono_tz::Asia::Tokyo)));
        }
        stage.clients.delete(client).await.unwrap();
        let gone = stage.db.write(move |c| Ok((repo::find(c, client)?, repo::lock_client(c, client)?)));
        assert_eq!(gone.await.unwrap(), (None, false));
    }
}

on_each_database! {
    async fn addresses_opt_out_of_groups_or_of_everything_each_on_its_channel(kind: Database) {
        let stage = Stage::new(kind).await;
        let known = |known: &Known, channel, address: &str| {
            let wishes = known.by(channel, None, address)?;
            let groups: Vec<String> = wishes.preferences.groups.iter().cloned().collect();
            Some((wishes.preferences.channels.clone(), groups.join(",")))
        };
        let (email, sms) = (ChannelKind::Email, ChannelKind::Sms);
        let found = stage.db.write(move |c| {
            let addresses = ["anna@example.net", "BERT@example.net", "79030000001"];
            let page = |c: &mut AnyConnection, channel| Known::of(c, channel, addresses.iter().map(|a| (None, *a)));
            assert!(known(&page(c, email)?, email, "anna@example.net").is_none());
            for (channel, address, group) in [
                (email, "Anna@example.net", Some("news")), (email, "anna@example.net", Some("offers")),
                (email, "bert@example.net", None), (sms, "79030000001", None),
            ] {
                for _ in 0..2 {
                    repo::store_address(c, (channel, address), group, false, at(1_000))?;
                }
            }
            repo::store_address(c, (email, "anna@example.net"), Some("offers"), true, at(1_001))?;
            let (mails, texts) = (page(c, email)?, page(c, sms)?);
            Ok([
                known(&mails, email, "ANNA@example.net"), known(&mails, email, "bert@example.net"),
                known(&mails, email, "79030000001"), known(&texts, sms, "79030000001"),
            ])
        });
        let [anna, bert, other, phone] = found.await.unwrap();
        assert_eq!(anna, Some((BTreeSet::new(), "news".to_owned())));
        assert_eq!(bert, Some((BTreeSet::from([email]), String::new())));
        assert_eq!(other, None);
        assert_eq!(phone, Some((BTreeSet::from([sms]), String::new())));
    }
}

/// As diesel writes them, for a page.
const OF_CLIENTS: &str = "SELECT p.client_id, c.timezone, p.channels FROM preference p \
    JOIN client c ON c.id = p.client_id WHERE p.client_id";
const OF_ADDRESSES: &str =
    "SELECT recipient, message_group FROM opt_out_address WHERE channel = 2 AND recipient";

on_each_database! {
    async fn the_wishes_of_a_page_are_found_by_keys_however_many_have_said_something(kind: Database) {
        let stage = Stage::new(kind).await;
        let rows: String = (0..5_000).map(|n| format!("{}\n", 79_030_000_000_u64 + n)).collect();
        let file = std::io::Cursor::new(format!("phone_number\n{rows}"));
        fanfare::clients::import::import(&stage.db, &stage.clock, file, |_| ()).await.unwrap();
        let ids: Vec<ClientId> = stage.all().await.into_iter().map(|client| client.id).collect();
        let plans = stage.db.write(move |c| {
            for (number, id) in ids.iter().enumerate() {
                repo::store(c, *id, &wants(&[ChannelKind::Email], &[], None), at(1_000))?;
                let address = format!("c{number}@example.net");
                repo::store_address(c, (ChannelKind::Email, &address), None, false, at(1_000))?;
            }
            let some: Vec<ClientId> = ids.iter().copied().step_by(500).collect();
            let addresses: Vec<String> = (0..10).map(|n| format!("c{n}@example.net")).collect();
            Ok(match c {
                AnyConnection::Postgres(c) => {
                    c.batch_execute("ANALYZE")?;
                    let explain = |sql| format!("EXPLAIN {sql} = ANY($1)");
                    let clients = diesel::sql_query(explain(OF_CLIENTS)).bind::<Array<Id>, _>(some).load(c)?;
                    let addresses = diesel::sql_query(explain(OF_ADDRESSES)).bind::<Array<Text>, _>(addresses).load(c)?;
                    [postgres_plan(clients), postgres_plan(addresses)]
                }
                AnyConnection::Sqlite(c) => {
                    c.batch_execute("ANALYZE")?;
                    let explain = |sql| diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql} IN (?, ?)"));
                    let clients = explain(OF_CLIENTS).bind::<Id, _>(some[0]).bind::<Id, _>(some[1]).load(c)?;
                    let addresses = explain(OF_ADDRESSES).bind::<Text, _>("a").bind::<Text, _>("b").load(c)?;
                    [sqlite_plan(clients), sqlite_plan(addresses)]
                }
            })
        });
        for plan in plans.await.unwrap() {
            assert!(!plan.contains("Seq Scan") && !plan.contains("SCAN"), "{plan}");
        }
    }
}
