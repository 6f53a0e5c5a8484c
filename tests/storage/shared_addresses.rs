//! A mailing is sent to each address once, whichever leases its clients are in.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text};
use fanfare::clients::import;
use fanfare::clients::model::Client;
use fanfare::db::AnyConnection;
use fanfare::db::schema::{client, mailing, mailing_address};
use fanfare::db::types::{ClientId, LeaseId, MailingId, MessageId, NodeId};
use fanfare::delivery::repo::claim::LaneBatch;
use fanfare::delivery::repo::plan::{AudienceChunk, Plan, plan};
use fanfare::delivery::repo::record::{Entry, record};
use fanfare::delivery::repo::requeue::release;
use fanfare::delivery::repo::take_over::take_over;
use fanfare::delivery::repo::{NewLease, node};
use fanfare::kinds::{ChannelKind, MessageStatus, OutcomeKind, Priority};
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::repo;
use fanfare::mailings::repo::audience::ClientFields;
use fanfare::messages::repo::MessageRow;
use fanfare::preferences::model::RecipientPreferences;
use serde_json::json;

use crate::on_each_database;
use crate::storage::explain::{postgres_plan, sqlite_plan};
use crate::storage::stage::{Stage, at, mailing_at_work};
use crate::support::Database;

/// The lookup of shared addresses as diesel writes it, up to the list.
const SHARED: &str = "SELECT email_key FROM client WHERE email_key";
const SHARED_BY: &str = "GROUP BY email_key HAVING count(*) > 1";

type WishesOfPage = HashMap<ClientId, Arc<RecipientPreferences>>;

/// A mailing by e-mail to clients of these addresses, and the node that plans it.
struct Campaign {
    stage: Stage,
    clients: Vec<Client>,
    mailing: MailingId,
    node: NodeId,
}

impl Campaign {
    async fn to(kind: Database, addresses: &[&str]) -> Self {
        let stage = Stage::new(kind).await;
        let mut clients = Vec::new();
        for address in addresses {
            clients.push(stage.create(json!({"email": address})).await.unwrap());
        }
        let last = clients.last().unwrap().id;
        let node = NodeId::new();
        let begin = move |c: &mut AnyConnection| {
            let mailing = mailing_at_work(c, AudienceFilter::default(), last);
            diesel::update(mailing::table.find(mailing))
                .set(mailing::channel.eq(ChannelKind::Email.code()))
                .execute(c)?;
            node::register(c, node, "test", at(1_000))?;
            // the clients had their addresses long before the start
            diesel::update(client::table).set(client::updated_at.eq(at(100))).execute(c)?;
            Ok(mailing)
        };
        let mailing = stage.db.write(begin).await.unwrap();
        Self { stage, clients, mailing, node }
    }

    /// Plans a lease of `limit` clients.
    async fn plan(&self, limit: usize) -> (LeaseId, WishesOfPage) {
        let (id, stretch) = self.stretch(limit).await;
        (id, stretch.preferences)
    }

    async fn stretch(&self, limit: usize) -> (LeaseId, AudienceChunk) {
        let id = LeaseId::new();
        let (channel, priority) = (ChannelKind::Email, Priority::Normal);
        let page = NewLease { id, node: self.node, mailing: Some(self.mailing), channel, priority };
        let ranges = AudienceFilter::default().ranges().into();
        let what = Plan { mailing: self.mailing, ranges, limit, needs: ClientFields::of(channel) };
        let planned = self.stage.db.write(move |c| plan(c, &what, &page, at(1_001))).await.unwrap();
        let stretch = planned.expect("it runs");
        assert_eq!(stretch.planned.len(), limit);
        (id, stretch)
    }

    /// Records that this message was sent to a client of a lease at an address.
    async fn record(&self, page: LeaseId, message: MessageId, client: usize, recipient: &str) {
        let (id, node, recipient) = (self.clients[client].id, self.node, recipient.to_owned());
        let mailing = self.mailing;
        let note = move |c: &mut AnyConnection| {
            let row = MessageRow {
                id: message,
                client_id: Some(id),
                due_at: None,
                expires_at: None,
                finished_at: Some(at(1_001)),
                mailing_number: Some(repo::number(c, mailing)?),
                duration_ms: Some(1),
                status_code: None,
                channel: ChannelKind::Email.code(),
                priority: Priority::Normal.code(),
                status: MessageStatus::Sent.code(),
                attempts: 1,
                revision: 1,
                recipient,
                provider_id: None,
                error: None,
            };
            let entry = Entry {
                lease: page,
                mailing: Some(mailing),
                row,
                outcome: OutcomeKind::Delivered,
                at: at(1_001),
                tried: true,
                class: None,
                event: None,
                ran: None,
            };
            record(c, node, &[entry])
        };
        assert_eq!(self.stage.db.write(note).await.unwrap().messages.len(), 1);
    }

    /// Changes a client's address while the mailing runs.
    async fn move_to(&self, client: usize, address: &'static str) {
        let id = self.clients[client].id;
        let change = move |c: &mut AnyConnection| {
            diesel::update(client::table.find(id))
                .set((
                    client::email.eq(address),
                    client::email_key.eq(address),
                    client::updated_at.eq(at(1_001)),
                ))
                .execute(c)?;
            Ok(())
        };
        self.stage.db.write(change).await.unwrap();
    }

    /// Takes over a lease as another node.
    async fn take_over(&self, page: LeaseId) -> WishesOfPage {
        let (from, lot) = (
            self.node,
            LaneBatch {
                node: NodeId::new(),
                channel: ChannelKind::Email,
                priority: Priority::Normal,
                limit: 10,
            },
        );
        let take = move |c: &mut AnyConnection| {
            release(c, &[page], from, at(1_002))?;
            take_over(c, lot, (&[], None), at(1_003))
        };
        let taken = self.stage.db.write(take).await.unwrap();
        taken.into_iter().flat_map(|page| page.preferences).collect()
    }

    fn is_duplicate(&self, client: usize, preferences: &WishesOfPage) -> bool {
        preferences.get(&self.clients[client].id).is_some_and(|preferences| preferences.is_duplicate)
    }

    async fn noted(&self) -> i64 {
        self.stage.db.read(|c| Ok(mailing_address::table.count().get_result(c)?)).await.unwrap()
    }
}

on_each_database! {
    async fn addresses_that_nobody_shares_are_not_noted(kind: Database) {
        let campaign = Campaign::to(kind, &["a@example.com", "b@example.com", "c@example.com"]).await;
        let (_, preferences) = campaign.plan(3).await;
        assert!((0..3).all(|client| !campaign.is_duplicate(client, &preferences)));
        assert_eq!(campaign.noted().await, 0);
    }
}

on_each_database! {
    async fn the_first_client_of_an_address_has_the_message_in_whatever_page(kind: Database) {
        let addresses = ["pat@example.com", "b@example.com", "PAT@example.com", "Pat@Example.com", "c@example.com"];
        let campaign = Campaign::to(kind, &addresses).await;
        let (first, preferences) = campaign.plan(3).await;
        let duplicates: Vec<_> = (0..3).filter(|client| campaign.is_duplicate(*client, &preferences)).collect();
        assert_eq!(duplicates, [2]);
        let (_, preferences) = campaign.plan(2).await;
        assert!(campaign.is_duplicate(3, &preferences) && !campaign.is_duplicate(4, &preferences));
        assert_eq!(campaign.noted().await, 1);
        let preferences = campaign.take_over(first).await;
        let duplicates: Vec<_> = (0..3).filter(|client| campaign.is_duplicate(*client, &preferences)).collect();
        assert_eq!(duplicates, [2], "as it was planned");
    }
}

on_each_database! {
    async fn who_comes_to_the_address_of_somebody_planned_before_is_a_duplicate(kind: Database) {
        let campaign = Campaign::to(kind, &["a@example.com", "b@example.com", "c@example.com"]).await;
        let (first, preferences) = campaign.plan(1).await;
        assert!(!campaign.is_duplicate(0, &preferences));
        campaign.move_to(1, "a@example.com").await;
        let (_, preferences) = campaign.plan(2).await;
        assert!(campaign.is_duplicate(1, &preferences) && !campaign.is_duplicate(2, &preferences));
        assert!(!campaign.is_duplicate(0, &campaign.take_over(first).await), "the address is the first client's");
    }
}

on_each_database! {
    async fn who_shares_an_address_with_somebody_who_is_planned_later_keeps_it(kind: Database) {
        let campaign = Campaign::to(kind, &["a@example.com", "b@example.com"]).await;
        campaign.move_to(1, "a@example.com").await;
        let (first, preferences) = campaign.plan(1).await;
        assert!(!campaign.is_duplicate(0, &preferences));
        assert!(campaign.is_duplicate(1, &campaign.plan(1).await.1));
        assert!(!campaign.is_duplicate(0, &campaign.take_over(first).await));
    }
}

on_each_database! {
    async fn who_was_sent_to_and_comes_to_the_address_of_somebody_later_takes_it_from_nobody(kind: Database) {
        let campaign = Campaign::to(kind, &["a@example.com", "b@example.com", "A@example.com"]).await;
        let (page, stretch) = campaign.stretch(1).await;
        campaign.record(page, stretch.planned[0].0, 0, "A@Example.com").await;
        campaign.move_to(0, "b@example.com").await;
        let (_, preferences) = campaign.plan(1).await;
        assert!(!campaign.is_duplicate(1, &preferences), "the first client's message went to another address");
    }
}

on_each_database! {
    async fn shared_addresses_are_found_by_their_index_however_many_clients_there_are(kind: Database) {
        let stage = Stage::new(kind).await;
        let rows: String = (0..5_000).map(|n| format!("c{n}@example.com\n")).collect();
        let file = std::io::Cursor::new(format!("email\n{rows}"));
        import::import(&stage.db, &stage.clock, file, import::ImportOptions::default(), |_| ()).await.unwrap();
        let some: Vec<String> = (0..10).map(|n| format!("c{n}@example.com")).collect();
        let plan = stage.db.write(move |c| Ok(match c {
            AnyConnection::Postgres(c) => {
                c.batch_execute("ANALYZE")?;
                let sql = format!("EXPLAIN {SHARED} = ANY($1) {SHARED_BY}");
                postgres_plan(diesel::sql_query(sql).bind::<Array<Text>, _>(some).load(c)?)
            }
            AnyConnection::Sqlite(c) => {
                c.batch_execute("ANALYZE")?;
                let sql = format!("EXPLAIN QUERY PLAN {SHARED} IN (?, ?) {SHARED_BY}");
                sqlite_plan(diesel::sql_query(sql).bind::<Text, _>(&some[0]).bind::<Text, _>(&some[1]).load(c)?)
            }
        })).await.unwrap();
        assert!(plan.contains("client_by_email") && !plan.contains("Seq Scan") && !plan.contains("SCAN"), "{plan}");
    }
}
