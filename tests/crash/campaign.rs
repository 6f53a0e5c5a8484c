//! One mailing of one tag, through the real binary, and its books at the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use fanfare::db::schema::{dead_letter, message};
use fanfare::db::types::{ClientId, MailingId, MessageId};
use fanfare::db::{AnyConnection, Db, DbOptions};
use fanfare::kinds::MessageStatus;
use serde_json::{Value, json};

use crate::process::{Launch, Provider, Request, Server};
use crate::support::{Database, TestDb, after, balance};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");

/// What one kill may repeat: the requests in flight, the outcomes that wait for the recorder, and those in its hands.
pub const AT_STAKE: usize = 64 + 2 * 500;

/// A database, a provider that outlives the service, and the service's settings.
pub struct Campaign {
    pub provider: Provider,
    settings: Vec<(String, String)>,
    starts: usize,
    pub db: TestDb,
}

/// A message as its row tells.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub client: Option<ClientId>,
    pub status: MessageStatus,
}

impl Campaign {
    /// With these faults and settings; the lease is short, so that a dead node's pages are soon taken over.
    pub async fn new(kind: Database, faults: &[&str], settings: &[(&str, &str)]) -> Self {
        let db = TestDb::new(kind);
        let provider = Provider::start(BINARY, db.dir(), faults).await;
        let common = [
            ("DATABASE_URL", db.url.as_str()),
            ("PROVIDER_BASE_URL", provider.base.as_str()),
            ("RATE_LIMIT_PER_CHANNEL", "0"),
            ("DELIVERY_LEASE", "1s"),
            ("DELIVERY_POLL", "100ms"),
        ];
        let all = common.iter().chain(settings).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { provider, settings: all, starts: 0, db }
    }

    /// Starts the service; a second one at the same time is another node.
    pub async fn serve(&mut self) -> Server {
        self.serve_limited(None).await
    }

    /// Starts the service with a limit for its files, in KiB.
    pub async fn serve_limited(&mut self, file_limit: Option<u64>) -> Server {
        self.starts += 1;
        let name = format!("serve-{}", self.starts);
        let env = self.env();
        Server::start(&Launch { binary: BINARY, dir: self.db.dir(), name: &name, env: &env, file_limit })
            .await
    }

    /// The service's settings.
    pub fn env(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    /// Reads from the tables.
    pub async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut AnyConnection) -> fanfare::error::Result<T> + Send + 'static,
    ) -> T {
        let options = DbOptions { pool_size: 1, ..DbOptions::new(self.db.url.clone()) };
        let db =
            tokio::task::spawn_blocking(|| Db::open(options)).await.expect("a thread").expect("a database");
        db.read(f).await.expect("an answer")
    }

    /// The rows of a mailing.
    pub async fn rows(&self, mailing: &str) -> Vec<Row> {
        let mailing: MailingId = mailing.parse().expect("an id");
        let rows = self.read(move |c| {
            Ok(message::table
                .filter(message::mailing_id.eq(mailing))
                .select((message::id, message::client_id, message::status))
                .load::<(MessageId, Option<ClientId>, i16)>(c)?)
        });
        let rows = rows.await.into_iter().map(|(id, client, status)| Row {
            id: id.to_string(),
            client,
            status: MessageStatus::from_code(status).expect("a status"),
        });
        rows.collect()
    }

    /// Checks a mailing whose books are closed: the books are the rows, each client has one message, each id has one
    /// recipient, what is sent was received, and at most `repeats` were received again.
    pub async fn check(&self, mailing: &str, counts: &Value, clients: usize, repeats: usize) -> Vec<Request> {
        let rows = self.rows(mailing).await;
        let mut by_status: BTreeMap<MessageStatus, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *by_status.entry(row.status).or_default() += 1);
        for status in MessageStatus::ALL {
            let count = by_status.get(status).copied().unwrap_or_default();
            assert_eq!(counts[status.as_str()], count, "{status}: {counts}");
        }
        assert_eq!(counts["total"], clients, "nobody is missed: {counts}");
        let distinct: HashSet<_> = rows.iter().map(|row| row.client).collect();
        assert_eq!((rows.len(), distinct.len()), (clients, clients), "each client has one message");
        let id: MailingId = mailing.parse().expect("an id");
        let dead = self.read(move |c| {
            Ok(dead_letter::table.filter(dead_letter::mailing_id.eq(id)).count().get_result::<i64>(c)?)
        });
        assert_eq!(counts["failed"], dead.await, "each that failed is a dead letter");

        let requests = self.provider.requests();
        let known: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let mut phones: HashMap<&str, Option<u64>> = HashMap::new();
        let mut received: HashMap<&str, usize> = HashMap::new();
        for request in &requests {
            assert!(known.contains(request.id.as_str()), "an id that is no message's: {request:?}");
            assert_eq!(request.key.as_ref(), Some(&request.id), "the key is the id");
            assert_eq!(
                *phones.entry(&request.id).or_insert(request.phone),
                request.phone,
                "one id, one recipient"
            );
            *received.entry(&request.id).or_default() += usize::from(request.outcome == "received");
        }
        let recipients: HashSet<_> = phones.values().collect();
        assert_eq!(recipients.len(), phones.len(), "one recipient, one id");
        for row in rows.iter().filter(|row| row.status == MessageStatus::Sent) {
            assert!(received.get(row.id.as_str()) >= Some(&1), "{row:?} was never received");
        }
        let again: usize = received.values().map(|times| times.saturating_sub(1)).sum();
        assert!(again <= repeats, "{again} repeats, where {repeats} could be in flight");
        requests
    }
}

/// Creates clients from 79030000000 on, and a mailing to them; answers its id.
pub async fn mail(server: &Server, clients: usize, window: Duration) -> String {
    import(server, clients).await;
    let body = json!({"text": "hello", "filter": "vip", "ends_at": after(window)});
    server.post("/mailings", body).await["id"].as_str().expect("an id").to_owned()
}

/// Creates clients from 79030000000 on.
pub async fn import(server: &Server, clients: usize) {
    let report = server.import_csv(csv(clients)).await.expect("a report");
    assert_eq!(report["created"], clients, "{report}");
}

/// Clients from 79030000000 on.
pub fn csv(clients: usize) -> String {
    let rows = (0..clients).map(|i| format!("{},vip\n", 79_030_000_000 + i));
    format!("phone_number,tag\n{}", rows.collect::<String>())
}

/// Looks at a mailing: its books balance, and nothing final is taken back since the last look.
pub async fn look(server: &Server, mailing: &str, last: &mut i64) {
    let stats = server.get(&format!("/mailings/{mailing}/stats")).await;
    *last = checked(&stats["counts"], *last);
}

/// Waits until its books are closed, looking at each step; answers its counts.
pub async fn closed(server: &Server, mailing: &str, last: i64) -> Value {
    let last = std::cell::Cell::new(last);
    let over = |mailing: &Value| {
        last.set(checked(&mailing["counts"], last.get()));
        !mailing["finished_at"].is_null()
    };
    server.wait_for(&format!("/mailings/{mailing}"), over).await["counts"].clone()
}

fn checked(counts: &Value, last: i64) -> i64 {
    assert!(balance(counts), "{counts}");
    let finals =
        ["sent", "failed", "expired", "cancelled"].map(|name| counts[name].as_i64().expect("a count"));
    let finals = finals.iter().sum();
    assert!(finals >= last, "{finals} are final, and {last} were: {counts}");
    finals
}
