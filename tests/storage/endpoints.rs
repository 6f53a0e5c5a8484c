//! Webhook endpoints: their rows, and the cache of the webhook channel.

use std::sync::Arc;
use std::time::Duration;

use fanfare::channels::webhook::{EndpointDirectory, EndpointResult, Secret};
use fanfare::clock::Clock;
use fanfare::db::types::{EndpointId, Timestamp};
use fanfare::egress::guard::{self, Guard};
use fanfare::endpoints::usecase::{EndpointChanges, EndpointWithSecret};
use fanfare::endpoints::{EndpointCache, EndpointOptions, Endpoints, WebhookEndpoint};
use fanfare::error::Error;
use fanfare::idempotency::{Created, IdempotentResponse, Mode};
use fanfare::kinds::Disabled;
use fanfare::live::{EventFilter, Live, LiveEvent};

use crate::on_each_database;
use crate::storage::stage::Stage;

const URL: &str = "https://a.example/hook?token=planted";
const HOUR: Duration = Duration::from_secs(3600);

fn answer(_: &WebhookEndpoint, _: &Secret) -> Result<IdempotentResponse, Error> {
    IdempotentResponse::new(201, None, &())
}

fn new_one(made: Result<Created<EndpointWithSecret>, Error>) -> Result<EndpointWithSecret, Error> {
    match made? {
        Created::New(shown, _) => Ok(shown),
        Created::Before(_) => panic!("there is no key"),
    }
}

/// The endpoint cache and the use cases of a node.
struct Node {
    book: Arc<EndpointCache>,
    endpoints: Endpoints,
    live: Live,
    clock: Clock,
    default: Secret,
}

impl Node {
    fn new(stage: &Stage) -> Self {
        let default = Secret::generate().unwrap();
        let settings =
            EndpointOptions { failures: 3, defaults: vec![default.clone()], ..EndpointOptions::default() };
        let (db, clock, live) = (stage.db.clone(), stage.clock.clone(), Live::new(true));
        let book = Arc::new(EndpointCache::new(db.clone(), clock.clone(), live.clone(), settings));
        let guard = Arc::new(Guard::new(&guard::Settings::default()).unwrap());
        let endpoints = Endpoints::new(db, clock.clone(), guard, (Arc::clone(&book), Arc::default()));
        Self { book, endpoints, live, clock, default }
    }

    async fn made(&self, new: EndpointChanges) -> Result<EndpointWithSecret, Error> {
        new_one(self.endpoints.create(new, Mode::Commit(None), answer).await)
    }

    fn later(&self, by: Duration) -> Timestamp {
        self.clock.set(self.clock.now().plus(by));
        self.clock.now()
    }

    /// Records attempts with this result, and stores them.
    async fn came(&self, came: EndpointResult, times: usize) {
        (0..times).for_each(|_| self.book.note(URL, came));
        self.book.write().await.unwrap();
    }

    async fn all(&self) -> Vec<WebhookEndpoint> {
        self.endpoints.list(None, 100).await.unwrap().0
    }

    async fn disabled(&self) -> Option<Disabled> {
        self.book.find(URL).await.unwrap().disabled
    }

    async fn secrets(&self) -> Vec<Secret> {
        self.book.find(URL).await.unwrap().secrets
    }
}

fn new(url: &str) -> EndpointChanges {
    EndpointChanges { url: Some(url.into()), description: Some(Some("orders".into())), secret: None }
}

on_each_database! {
    async fn an_endpoint_reads_back_as_it_was_made_and_changed(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = Node::new(&stage);
        let (made, secret) = node.made(new(URL)).await.unwrap();
        assert_eq!(node.endpoints.get(made.id).await.unwrap(), made);
        assert_eq!((made.url.as_str(), made.description.as_deref(), made.is_enabled), (URL, Some("orders"), true));
        assert_eq!(node.secrets().await, [secret.clone(), node.default.clone()], "the default one signs on for a day");
        node.later(HOUR * 24);
        let changes = EndpointChanges { description: Some(None), url: Some("https://b.example/".into()), secret: None };
        let changed = node.endpoints.patch(made.id, changes).await.unwrap();
        assert_eq!((changed.url.as_str(), changed.description.as_ref()), ("https://b.example/", None));
        assert_eq!(node.endpoints.get(made.id).await.unwrap(), changed);
        assert_eq!(node.secrets().await, std::slice::from_ref(&node.default), "nobody is registered there any more");
        assert_eq!(node.book.find("https://b.example/").await.unwrap().secrets, [secret]);
        node.endpoints.delete(made.id).await.unwrap();
        assert!(matches!(node.endpoints.get(made.id).await, Err(Error::NotFound { .. })));
        assert!(matches!(node.endpoints.enable(EndpointId::new()).await, Err(Error::NotFound { .. })));
    }
}

on_each_database! {
    async fn what_cannot_be_an_endpoint_is_refused_field_by_field(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = Node::new(&stage);
        let wrong = EndpointChanges {
            url: Some("http://10.0.0.1/planted".into()),
            description: Some(Some("a\nb".into())),
            secret: Some("whsec_short".into()),
        };
        let Err(Error::Invalid(fields)) = node.made(wrong).await else { panic!() };
        let names: Vec<_> = fields.iter().map(|field| field.field.as_str()).collect();
        assert_eq!(names, ["url", "description", "secret"]);
        assert!(!format!("{fields:?}").contains("planted"));
        let (made, _) = node.made(new(URL)).await.unwrap();
        assert!(matches!(node.made(new(URL)).await, Err(Error::Conflict(_))));
        let (other, _) = node.made(new("https://b.example/")).await.unwrap();
        let taken = EndpointChanges { url: Some(URL.into()), ..EndpointChanges::default() };
        assert!(matches!(node.endpoints.patch(other.id, taken).await, Err(Error::Conflict(_))));
        let (first, next) = node.endpoints.list(None, 1).await.unwrap();
        assert_eq!((first, next), (vec![made.clone()], Some(made.id)));
        assert_eq!(node.endpoints.list(next, 1).await.unwrap(), (vec![other], None));
    }
}

on_each_database! {
    async fn while_a_secret_is_replaced_both_sign_and_then_the_new_one_alone(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = Node::new(&stage);
        let given = Secret::generate().unwrap();
        let changes = EndpointChanges { secret: Some(given.expose().into()), ..new(URL) };
        let (made, shown) = node.made(changes).await.unwrap();
        assert_eq!(shown, given);
        node.later(HOUR);
        let (rotated, fresh) = new_one(node.endpoints.rotate_secret(made.id, Mode::Commit(None), answer).await).unwrap();
        assert_eq!(node.secrets().await, [fresh.clone(), given]);
        assert_eq!(rotated.old_secret_until, Some(node.clock.now().plus(HOUR * 24)));
        node.later(HOUR * 24);
        let other = Node::new(&stage);
        assert_eq!(other.secrets().await, [fresh]);
    }
}

on_each_database! {
    async fn who_fails_for_long_is_disabled_with_an_event_and_can_be_enabled(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = Node::new(&stage);
        let mut watch = node.live.watch(EventFilter::default(), None).unwrap();
        node.came(EndpointResult::Failed, 2).await;
        let known = node.all().await;
        assert_eq!((known.len(), known[0].is_registered, known[0].failures), (1, false, 2), "nobody registered it");
        node.later(HOUR * 119);
        node.came(EndpointResult::Failed, 5).await;
        assert_eq!(node.disabled().await, None, "not for five days");
        let at = node.later(HOUR);
        node.came(EndpointResult::Failed, 1).await;
        assert_eq!(node.disabled().await, Some(Disabled::Failing));
        let id = node.all().await[0].id;
        let events = watch.next().await.unwrap();
        let LiveEvent::Endpoint(change) = events[0].1 else { panic!("{events:?}") };
        assert_eq!((change.id, change.is_enabled, change.reason, change.at), (id, false, Some(Disabled::Failing), at));

        let enabled = node.endpoints.enable(id).await.unwrap();
        assert_eq!((enabled.is_enabled, enabled.failures, enabled.failing_since), (true, 0, None));
        assert_eq!(node.disabled().await, None);
        let LiveEvent::Endpoint(change) = watch.next().await.unwrap()[0].1 else { panic!() };
        assert!(change.is_enabled);
        node.came(EndpointResult::Failed, 9).await;
        assert_eq!(node.disabled().await, None, "it starts anew");
        node.endpoints.disable(id).await.unwrap();
        assert_eq!(node.disabled().await, Some(Disabled::ByHand));
    }
}

on_each_database! {
    async fn one_success_ends_the_count_at_whichever_node_it_comes(kind: Database) {
        let stage = Stage::new(kind).await;
        let (node, other) = (Node::new(&stage), Node::new(&stage));
        node.came(EndpointResult::Failed, 9).await;
        // the other node has read the failures
        other.book.find(URL).await.unwrap();
        other.came(EndpointResult::Taken, 1).await;
        assert_eq!(node.all().await, [], "nobody registered it, and all is well");
        let (made, _) = node.made(new(URL)).await.unwrap();
        node.came(EndpointResult::Failed, 2).await;
        node.book.note(URL, EndpointResult::Taken);
        node.came(EndpointResult::Failed, 1).await;
        let after = node.endpoints.get(made.id).await.unwrap();
        assert_eq!((after.failures, after.failing_since), (1, Some(node.clock.now())));
        node.later(HOUR * 200);
        node.came(EndpointResult::Taken, 1).await;
        node.came(EndpointResult::Failed, 9).await;
        assert_eq!(node.disabled().await, None);
        node.came(EndpointResult::Gone, 1).await;
        assert_eq!(node.disabled().await, Some(Disabled::Gone), "it said so itself");
    }
}

on_each_database! {
    async fn however_many_fail_at_once_each_is_written_down(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = Node::new(&stage);
        for number in 0..1200 {
            let url = format!("https://a.example/{number}");
            node.book.note(&url, EndpointResult::Failed);
            node.book.note(&url, EndpointResult::Gone);
        }
        node.book.write().await.unwrap();
        let (all, _) = node.endpoints.list(None, 2000).await.unwrap();
        assert_eq!(all.len(), 1200);
        assert!(all.iter().all(|endpoint| endpoint.disabled_reason == Some(Disabled::Gone) && endpoint.failures == 2));
        (0..1200).for_each(|number| node.book.note(&format!("https://a.example/{number}"), EndpointResult::Taken));
        node.book.write().await.unwrap();
        let (all, _) = node.endpoints.list(None, 2000).await.unwrap();
        assert!(all.iter().all(|endpoint| !endpoint.is_enabled && endpoint.failures == 0), "enabled by hand alone");
    }
}
