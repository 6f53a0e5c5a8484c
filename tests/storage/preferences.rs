//! Preferences and suppressions: their rows, and their lookup for a lease.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, Binary};
use fanfare::clients::import;
use fanfare::db::AnyConnection;
use fanfare::db::schema::opt_out_address;
use fanfare::db::types::{ClientId, Id};
use fanfare::kinds::ChannelKind;
use fanfare::preferences::model::Preferences;
use fanfare::preferences::quiet::QuietHours;
use fanfare::preferences::repo::{self, PreferenceLookup};
use fanfare::suppressions::model::{NewSuppression, SuppressionFilter, SuppressionReason};
use fanfare::suppressions::repo::{self as suppressions, Hasher};
use serde_json::json;

use crate::on_each_database;
use crate::storage::explain::{postgres_plan, sqlite_plan};
use crate::storage::stage::{Stage, at};

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
            let found = stage.db.read(move |c| Ok((repo::find(c, client)?, repo::client_preferences(c, &[client, ClientId::new()])?)));
            let (found, known) = found.await.unwrap();
            assert_eq!(found, Some((step.clone(), at(second))));
            assert_eq!(known.len(), 1);
            assert_eq!((&known[&client].preferences, known[&client].zone), (&step, Some(chrono_tz::Asia::Tokyo)));
        }
        assert!(stage.delete_client(client).await);
        let gone = stage.db.write(move |c| Ok((repo::find(c, client)?, repo::lock_client(c, client)?)));
        assert_eq!(gone.await.unwrap(), (None, false));
    }
}

fn ban(channel: ChannelKind, address: &str, group: Option<&str>) -> NewSuppression {
    NewSuppression {
        channel,
        address: address.to_owned(),
        group: group.map(str::to_owned),
        reason: SuppressionReason::Unsubscribed,
        source: "test".to_owned(),
        note: None,
        since: None,
    }
}

on_each_database! {
    async fn suppressions_are_of_a_channel_and_of_groups_or_of_everything(kind: Database) {
        let stage = Stage::new(kind).await;
        let (email, sms) = (ChannelKind::Email, ChannelKind::Sms);
        let known = |known: &PreferenceLookup, address: &str| {
            let groups = known.by(None, address)?.bans.iter().map(|ban| ban.group.clone().unwrap_or("all".into())).collect::<Vec<_>>();
            Some(groups.join(","))
        };
        let found = stage.db.write(move |c| {
            let addresses = ["ANNA@example.net", "bert@example.net", "79030000001"];
            let page = |c: &mut AnyConnection, channel| PreferenceLookup::load(c, channel, addresses.iter().map(|a| (None, Some(*a))));
            assert!(known(&page(c, email)?, "ANNA@example.net").is_none());
            for (channel, address, group) in [
                (email, "Anna@example.net", Some("news")), (email, "anna@example.net", Some("offers")),
                (email, "Bert@example.net", None), (sms, "+79030000001", None),
            ] {
                for is_new in [true, false] {
                    let stored = suppressions::store(c, &[ban(channel, address, group)], at(1_000))?;
                    assert_eq!(stored[0].1, is_new);
                }
            }
            assert_eq!(suppressions::lift(c, (email, "anna@EXAMPLE.net"), Some("offers"))?, 1);
            let (mails, texts) = (page(c, email)?, page(c, sms)?);
            Ok([
                known(&mails, "ANNA@example.net"), known(&mails, "bert@example.net"),
                known(&mails, "79030000001"), known(&texts, "79030000001"),
            ])
        });
        let found = found.await.unwrap();
        assert_eq!(found, [Some("news".to_owned()), Some("all".to_owned()), None, Some("all".to_owned())]);
    }
}

on_each_database! {
    async fn a_person_who_is_erased_leaves_a_hash_that_still_forbids(kind: Database) {
        let stage = Stage::new(kind).await;
        let left = stage.db.write(|c| {
            let email = ChannelKind::Email;
            suppressions::store(c, &[ban(email, "anna@example.net", None)], at(1_000))?;
            assert_eq!(suppressions::erase(c, &[(email, "ANNA@example.net".to_owned())])?, 1);
            let left = suppressions::list(c, &SuppressionFilter::default(), None, 10)?;
            let known = PreferenceLookup::load(c, email, [(None, Some("Anna@example.net"))].into_iter())?;
            assert!(known.by(None, "Anna@example.net").is_some());
            assert_eq!(suppressions::lift(c, (email, "anna@example.net"), None)?, 1, "its owner may come back");
            Ok(left)
        });
        assert_eq!(left.await.unwrap().iter().map(|one| one.address.clone()).collect::<Vec<_>>(), [None]);
    }
}

on_each_database! {
    async fn opt_outs_of_an_earlier_version_become_suppressions_once(kind: Database) {
        let stage = Stage::new(kind).await;
        let adopted = stage.db.write(|c| {
            for (channel, address, group) in [(2_i16, "Anna@example.net", ""), (2, "bert@example.net", "news"), (1, "79030000001", "")] {
                let row = (
                    opt_out_address::channel.eq(channel), opt_out_address::recipient.eq(address),
                    opt_out_address::message_group.eq(group), opt_out_address::created_at.eq(at(1_000)),
                );
                diesel::insert_into(opt_out_address::table).values(row).execute(c)?;
            }
            let counts = [suppressions::adopt(c, 2, at(2_000))?, suppressions::adopt(c, 2, at(2_000))?, suppressions::adopt(c, 2, at(2_000))?];
            let all = suppressions::list(c, &SuppressionFilter::default(), None, 10)?;
            Ok((counts, all))
        });
        let (counts, all) = adopted.await.unwrap();
        assert_eq!(counts, [2, 1, 0]);
        let mut shown: Vec<_> = all.into_iter().map(|one| (one.address.unwrap(), one.group, one.reason, one.since)).collect();
        shown.sort();
        let unsubscribed = SuppressionReason::Unsubscribed;
        assert_eq!(shown, [
            ("79030000001".to_owned(), None, unsubscribed, at(1_000)),
            ("anna@example.net".to_owned(), None, unsubscribed, at(1_000)),
            ("bert@example.net".to_owned(), Some("news".to_owned()), unsubscribed, at(1_000)),
        ]);
    }
}

/// The lookups for a lease, as diesel writes them.
const OF_CLIENTS: &str = "SELECT p.client_id, c.timezone, p.channels FROM preference p \
    JOIN client c ON c.id = p.client_id WHERE p.client_id";
const OF_ADDRESSES: &str = "SELECT address_key, message_group, reason FROM suppression WHERE address_key";

on_each_database! {
    async fn the_wishes_of_a_page_are_found_by_keys_however_many_have_said_something(kind: Database) {
        let stage = Stage::new(kind).await;
        let rows: String = (0..5_000).map(|n| format!("{}\n", 79_030_000_000_u64 + n)).collect();
        let file = std::io::Cursor::new(format!("phone_number\n{rows}"));
        import::import(&stage.db, &stage.clock, file, import::ImportOptions::default(), |_| ()).await.unwrap();
        let ids: Vec<ClientId> = stage.all().await.into_iter().map(|client| client.id).collect();
        let plans = stage.db.write(move |c| {
            for (number, id) in ids.iter().enumerate() {
                repo::store(c, *id, &wants(&[ChannelKind::Email], &[], None), at(1_000))?;
                let address = format!("c{number}@example.net");
                suppressions::store(c, &[ban(ChannelKind::Email, &address, None)], at(1_000))?;
            }
            let some: Vec<ClientId> = ids.iter().copied().step_by(500).collect();
            let hasher = Hasher::of(c, at(1_000))?;
            let addresses: Vec<Vec<u8>> = (0..10).map(|n| hasher.key(ChannelKind::Email, &format!("c{n}@example.net"))).collect();
            Ok(match c {
                AnyConnection::Postgres(c) => {
                    c.batch_execute("ANALYZE")?;
                    let explain = |sql| format!("EXPLAIN {sql} = ANY($1)");
                    let clients = diesel::sql_query(explain(OF_CLIENTS)).bind::<Array<Id>, _>(some).load(c)?;
                    let addresses = diesel::sql_query(explain(OF_ADDRESSES)).bind::<Array<Binary>, _>(addresses).load(c)?;
                    [postgres_plan(clients), postgres_plan(addresses)]
                }
                AnyConnection::Sqlite(c) => {
                    c.batch_execute("ANALYZE")?;
                    let explain = |sql| diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql} IN (?, ?)"));
                    let clients = explain(OF_CLIENTS).bind::<Id, _>(some[0]).bind::<Id, _>(some[1]).load(c)?;
                    let addresses = explain(OF_ADDRESSES).bind::<Binary, _>(&addresses[0]).bind::<Binary, _>(&addresses[1]).load(c)?;
                    [sqlite_plan(clients), sqlite_plan(addresses)]
                }
            })
        });
        for plan in plans.await.unwrap() {
            assert!(!plan.contains("Seq Scan") && !plan.contains("SCAN"), "{plan}");
        }
    }
}
