//! The storage without the service around it: a database, a clock that stands still, and clients to play with.

use fanfare::clients::model::{Client, ClientPatch, PhoneNumber};
use fanfare::clients::{Clients, ListFilter};
use fanfare::clock::Clock;
use fanfare::db::types::Timestamp;
use fanfare::db::{Db, DbOptions};
use fanfare::error::Result;
use serde_json::Value;

use crate::support::{Database, TestDb};

/// What a storage test works on.
pub struct Stage {
    /// The handle.
    pub db: Db,
    /// Stands still until it is set.
    pub clock: Clock,
    /// The use cases of clients.
    pub clients: Clients,
    /// The database; last, so that it outlives the handle.
    _database: TestDb,
}

impl Stage {
    /// An empty database with its schema, at second 1,000 of the epoch.
    pub async fn new(kind: Database) -> Self {
        let database = TestDb::new(kind);
        let options = DbOptions::new(&database.url);
        let db = tokio::task::spawn_blocking(move || Db::open(options)).await.unwrap().unwrap();
        let clock = Clock::manual(at(1_000));
        let clients = Clients::new(db.clone(), clock.clone());
        Self { db, clock, clients, _database: database }
    }

    /// Creates a client as `POST /clients` does.
    pub async fn create(&self, body: Value) -> Result<Client> {
        let (number, patch) = whole(body);
        self.clients.create(number, patch).await
    }

    /// Every client, in the order of their making.
    pub async fn all(&self) -> Vec<Client> {
        let (clients, next) = self.clients.list(ListFilter::default(), None, 1_000_000).await.unwrap();
        assert_eq!(next, None);
        clients
    }

    /// The one client with this number.
    pub async fn by_number(&self, number: &str) -> Client {
        let number: PhoneNumber = number.parse().unwrap();
        let found: Vec<_> = self.all().await.into_iter().filter(|c| c.phone_number == number).collect();
        assert_eq!(found.len(), 1, "{number}");
        found[0].clone()
    }
}

/// This second of the epoch.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// The body of a POST or PUT, read.
pub fn whole(body: Value) -> (PhoneNumber, ClientPatch) {
    ClientPatch::from_whole_json(body.as_object().unwrap().clone()).unwrap()
}

/// The body of a PATCH, read.
pub fn changes(body: Value) -> ClientPatch {
    ClientPatch::from_json(body.as_object().unwrap().clone()).unwrap()
}
