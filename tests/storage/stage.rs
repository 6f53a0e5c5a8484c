//! The storage without the service around it: a database, a clock that stands still, and clients to play with.

use fanfare::clients::model::{Client, ClientPatch, PhoneNumber};
use fanfare::clients::{Clients, ListFilter};
use fanfare::clock::Clock;
use fanfare::db::types::{ClientId, MailingId, Timestamp};
use fanfare::db::{AnyConnection, Db, DbOptions};
use fanfare::error::{Error, Result};
use fanfare::idempotency::{Answer, Made, Mode};
use fanfare::kinds::{ChannelKind, Priority};
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::{Audience, Mailing, MailingStatus};
use fanfare::mailings::repo;
use fanfare::messages::model::Counts;
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
        match self.clients.create(whole(body), Mode::Commit(None), |_| Answer::new(201, None, &())).await? {
            Made::New(client, _) => Ok(client),
            Made::Before(_) => Err(Error::internal("there was no key")),
        }
    }

    /// Deletes a client's row, and says whether there was one.
    pub async fn delete_client(&self, id: ClientId) -> bool {
        self.db.write(move |c| fanfare::clients::repo::delete(c, id)).await.unwrap()
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
        let found: Vec<_> = self.all().await.into_iter().filter(|c| c.phone_number == Some(number)).collect();
        assert_eq!(found.len(), 1, "{number}");
        found[0].clone()
    }
}

/// This second of the epoch.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// The body of a POST or PUT, read.
pub fn whole(body: Value) -> ClientPatch {
    ClientPatch::from_json(body.as_object().unwrap().clone()).unwrap()
}

/// The body of a PATCH, read.
pub fn changes(body: Value) -> ClientPatch {
    ClientPatch::from_json(body.as_object().unwrap().clone()).unwrap()
}

/// A mailing that runs from second 1,000 to second 2,000, for four clients up to `last`.
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
