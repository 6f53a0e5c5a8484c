//! The fixture of the storage tests: a database, a manual clock, and the use cases of clients, without the service.

use fanfare::clients::model::{Client, ClientPatch, PhoneNumber};
use fanfare::clients::{Clients, ListFilter};
use fanfare::clock::Clock;
use fanfare::db::types::{ClientId, MailingId, Timestamp};
use fanfare::db::{AnyConnection, Db, DbOptions};
use fanfare::error::{Error, Result};
use fanfare::idempotency::{Created, IdempotentResponse, Mode};
use fanfare::kinds::{ChannelKind, Priority};
use fanfare::live::Live;
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::{Audience, Mailing, MailingStatus};
use fanfare::mailings::repo;
use fanfare::messages::model::Counts;
use fanfare::metrics::Metrics;
use fanfare::runtime::Runtime;
use serde_json::Value;

use crate::support::{Database, TestDb};

/// The fixture of a storage test.
pub struct Stage {
    /// The handle.
    pub db: Db,
    /// The manual clock.
    pub clock: Clock,
    /// The use cases of clients.
    pub clients: Clients,
    /// The database. It is the last field, so that it outlives the handle.
    _database: TestDb,
}

impl Stage {
    /// Creates an empty database with its schema, at second 1,000 of the epoch.
    pub async fn new(kind: Database) -> Self {
        let database = TestDb::new(kind);
        let options = DbOptions::new(&database.url);
        let db = tokio::task::spawn_blocking(move || Db::open(options)).await.unwrap().unwrap();
        let clock = Clock::manual(at(1_000));
        let clients = Clients::new(db.clone(), clock.clone());
        Self { db, clock, clients, _database: database }
    }

    /// Returns the handles that services share, with metrics of their own.
    pub fn runtime(&self) -> Runtime {
        let (metrics, live) = (Metrics::new().unwrap(), Live::new(true));
        Runtime { db: self.db.clone(), clock: self.clock.clone(), metrics, live }
    }

    /// Creates a client as `POST /clients` does.
    pub async fn create(&self, body: Value) -> Result<Client> {
        match self
            .clients
            .create(whole(body), Mode::Commit(None), |_| IdempotentResponse::new(201, None, &()))
            .await?
        {
            Created::New(client, _) => Ok(client),
            Created::Before(_) => Err(Error::internal("there was no key")),
        }
    }

    /// Deletes a client's row. Returns false if it did not exist.
    pub async fn delete_client(&self, id: ClientId) -> bool {
        self.db.write(move |c| fanfare::clients::repo::delete(c, id)).await.unwrap()
    }

    /// Returns every client, in the order of creation.
    pub async fn all(&self) -> Vec<Client> {
        let filter = ListFilter::default();
        let read = move |c: &mut AnyConnection| fanfare::clients::repo::list(c, &filter, None, 1_000_000);
        self.db.read(read).await.unwrap()
    }

    /// Returns the client with this number.
    pub async fn by_number(&self, number: &str) -> Client {
        let number: PhoneNumber = number.parse().unwrap();
        let found: Vec<_> = self.all().await.into_iter().filter(|c| c.phone_number == Some(number)).collect();
        assert_eq!(found.len(), 1, "{number}");
        found[0].clone()
    }
}

/// Returns this second of the epoch.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// Parses the body of a POST or PUT.
pub fn whole(body: Value) -> ClientPatch {
    ClientPatch::from_json(body.as_object().unwrap().clone()).unwrap()
}

/// Parses the body of a PATCH.
pub fn changes(body: Value) -> ClientPatch {
    ClientPatch::from_json(body.as_object().unwrap().clone()).unwrap()
}

/// Creates a running mailing with the window from second 1,000 to second 2,000, for four clients up to `last`.
pub fn mailing_at_work(c: &mut AnyConnection, filter: AudienceFilter, last: ClientId) -> MailingId {
    let new = Mailing {
        id: MailingId::new(),
        text: "hello".into(),
        subject: None,
        html: None,
        template: None,
        template_version: None,
        variants: Vec::new(),
        filter,
        channel: ChannelKind::Sms,
        priority: Priority::Normal,
        status: MailingStatus::Running,
        starts_at: at(1_000),
        ends_at: at(2_000),
        created_at: at(1_000),
        updated_at: at(1_000),
        started_at: Some(at(1_000)),
        finished_at: None,
        rate_per_second: None,
        group: None,
        transactional: false,
        counts: Counts::default(),
    };
    repo::insert(c, &new, Some(Audience { total: 4, upper_bound: Some(last) })).unwrap();
    new.id
}
