use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::db::types::{BatchId, MailingId, Timestamp};
use crate::kinds::{ChannelKind, NotificationStatus};
use crate::live::hub::SubscriberId;
use crate::mailings::model::MailingStatus;
use crate::messages::model::Counts;

fn change(id: MessageId, status: NotificationStatus) -> Change {
    let at = Timestamp::from_micros(0);
    Change { id, batch: None, channel: ChannelKind::Sms, status, attempts: 1, at }
}

/// Returns a change with a number in its id.
fn numbered(number: u64) -> Change {
    change(MessageId(uuid::Uuid::from_u128(u128::from(number))), NotificationStatus::Sent)
}

fn number(event: &LiveEvent) -> u64 {
    match event {
        LiveEvent::Notification(change) => u64::try_from(change.id.0.as_u128()).unwrap(),
        _ => panic!("{event:?} is not a notification"),
    }
}

fn progress(mailing_id: MailingId, channel: ChannelKind) -> LiveEvent {
    let (status, counts) = (MailingStatus::Running, Counts::default());
    LiveEvent::Mailing(MailingProgress { mailing_id, channel, status, counts, settled: false })
}

#[tokio::test]
async fn a_waiting_caller_is_woken_only_by_the_final_state() {
    let live = Live::new(true);
    let (id, other) = (MessageId::new(), MessageId::new());
    let (first, second) = (live.wait_for(id), live.wait_for(id));
    live.publish(&change(id, NotificationStatus::Processing), false);
    live.publish(&change(other, NotificationStatus::Sent), false);
    assert!(first.ended().now_or_never().is_none());
    live.publish(&change(id, NotificationStatus::Sent), false);
    first.ended().await;
    second.ended().await;
}

#[test]
fn a_dropped_waiter_is_removed() {
    let live = Live::new(true);
    let id = MessageId::new();
    let (first, second) = (live.wait_for(id), live.wait_for(id));
    drop(first);
    assert_eq!(live.waiters().len(), 1);
    drop(second);
    assert_eq!((live.waiters().len(), live.0.waiting.load(Ordering::Acquire)), (0, 0));
}

#[test]
fn all_conditions_of_a_filter_must_hold() {
    let (mailing, batch) = (MailingId::new(), BatchId::new());
    let of_batch = LiveEvent::Notification(Change { batch: Some(batch), ..numbered(1) });
    let alone = LiveEvent::Notification(Change { channel: ChannelKind::Email, ..numbered(2) });
    let of_mailing = progress(mailing, ChannelKind::Sms);
    let told = |filter: EventFilter| [of_batch, alone, of_mailing].map(|event| filter.lets_through(&event));
    let all = EventFilter::default();
    let sms = Some(ChannelKind::Sms);
    assert_eq!(told(all), [true; 3]);
    assert_eq!(told(EventFilter { mailing: Some(mailing), ..all }), [false, false, true]);
    assert_eq!(told(EventFilter { mailing: Some(MailingId::new()), ..all }), [false; 3]);
    assert_eq!(told(EventFilter { batch: Some(batch), ..all }), [true, false, false]);
    assert_eq!(told(EventFilter { channel: sms, ..all }), [true, false, true]);
    assert_eq!(
        told(EventFilter { channel: Some(ChannelKind::Email), batch: Some(batch), ..all }),
        [false; 3]
    );
    assert_eq!(told(EventFilter { mailing: Some(mailing), batch: Some(batch), channel: sms }), [false; 3]);
}

#[tokio::test]
async fn after_an_unknown_or_old_id_events_are_missed_and_the_subscription_starts_now() {
    let live = Live::with(EventRing::new(3, 10), None);
    live.looked();
    let first = live.watch(EventFilter::default(), None).unwrap();
    let oldest = first.last_id().unwrap();
    drop(first);
    (1..=4).for_each(|number| live.publish(&numbered(number), false));
    let newest = live.watch(EventFilter::default(), None).unwrap().last_id().unwrap();
    let (boot, _) = newest.split_once('-').unwrap();
    let other = Live::new(true).watch(EventFilter::default(), None).unwrap().last_id().unwrap();
    let (other_boot, _) = other.split_once('-').unwrap();
    let (ahead, other) = (format!("{boot}-5"), format!("{other_boot}-4"));
    for last in [oldest.as_str(), &ahead, &other, "", "4", "-", boot] {
        let mut watch = live.watch(EventFilter::default(), Some(last)).unwrap();
        assert!(watch.missed(), "{last}");
        assert_eq!(watch.last_id().as_ref(), Some(&newest), "{last}");
        assert!(watch.next().now_or_never().is_none(), "{last}");
    }
    for (known, left) in [(1, vec![2, 3, 4]), (3, vec![4]), (4, vec![])] {
        let mut watch = live.watch(EventFilter::default(), Some(&format!("{boot}-{known}"))).unwrap();
        assert!(!watch.missed(), "{known}");
        let events = watch.next().now_or_never().flatten().unwrap_or_default();
        assert_eq!(events.iter().map(|(_, event)| number(event)).collect::<Vec<_>>(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_mailings_are_missed_without_a_recent_poll() {
    let live = Live::new(true);
    let batch = EventFilter { batch: Some(BatchId::new()), ..EventFilter::default() };
    let last = live.watch(batch, None).unwrap().last_id().unwrap();
    let is_missed = |filter| live.watch(filter, Some(&last)).unwrap().missed();
    assert!(is_missed(EventFilter::default()), "there was no poll yet");
    live.looked();
    assert!(!is_missed(EventFilter::default()));
    tokio::time::advance(UNOBSERVED * 2).await;
    assert!(is_missed(EventFilter::default()));
    assert!(!is_missed(batch), "notifications need no poll");
}

#[tokio::test]
async fn mailings_are_polled_only_while_they_have_subscribers() {
    let live = Live::new(true);
    let batch = EventFilter { batch: Some(BatchId::new()), ..EventFilter::default() };
    let _other = live.watch(batch, None).unwrap();
    assert!(live.mailings_are_watched().now_or_never().is_none());
    let waiting = tokio::spawn({
        let live = live.clone();
        async move { live.mailings_are_watched().await }
    });
    let watch = live.watch(EventFilter::default(), None).unwrap();
    waiting.await.unwrap();
    drop(watch);
    assert!(live.mailings_are_watched().now_or_never().is_none());
}

#[tokio::test]
async fn only_a_slow_subscriber_loses_its_place() {
    let live = Live::with(EventRing::new(3, 2), None);
    let mut slow = live.watch(EventFilter::default(), None).unwrap();
    let mut quick = live.watch(EventFilter::default(), None).unwrap();
    assert!(live.watch(EventFilter::default(), None).is_none(), "both places are taken");
    let (too_slow, in_time) = (slow.overtaken().unwrap(), quick.overtaken().unwrap());
    for number in 1..=4 {
        live.publish(&numbered(number), false);
        assert_eq!(quick.next().await.unwrap().len(), 1);
    }
    assert!(too_slow.wait().await);
    assert!(slow.next().await.is_none() && slow.last_id().is_none());
    let next = live.watch(EventFilter::default(), None);
    assert!(next.is_some(), "its place is free again");
    drop(quick);
    assert!(!in_time.wait().await, "it left by itself");
}

/// Runs publishers on their own threads, and subscribers that disconnect in the middle and reconnect with the last id:
/// each gets all events since its first subscription, once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subscriber_that_reconnects_gets_each_event_exactly_once() {
    const EACH: u64 = 3000;
    const PUBLISHERS: u64 = 3;
    let live = Live::with(EventRing::new(usize::try_from(EACH * PUBLISHERS).unwrap(), 10), None);
    live.looked();
    let watchers: Vec<_> = (0..4)
        .map(|seed| {
            let (live, first) = (live.clone(), live.watch(EventFilter::default(), None).unwrap());
            tokio::spawn(come_and_go(live, first, seed, EACH * PUBLISHERS))
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let live = live.clone();
            std::thread::spawn(move || {
                (0..EACH).for_each(|n| live.publish(&numbered(publisher * EACH + n), false));
            })
        })
        .collect();
    let mut told = Vec::new();
    for watcher in watchers {
        told.push(watcher.await.unwrap());
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    assert_eq!(told[0].iter().collect::<BTreeSet<_>>().len() as u64, EACH * PUBLISHERS, "each once");
    for publisher in 0..PUBLISHERS {
        let of_one = told[0].iter().filter(|n| **n / EACH == publisher);
        assert!(of_one.is_sorted(), "in the order of its publisher");
    }
    assert!(told.iter().all(|other| *other == told[0]), "all subscribers get the same events");
}

async fn come_and_go(live: Live, first: Watch, seed: u64, all: u64) -> Vec<u64> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let (mut watch, mut told) = (first, Vec::new());
    let mut last = watch.last_id().unwrap();
    while (told.len() as u64) < all {
        if chance.u8(0..4) == 0 {
            drop(watch);
            tokio::task::yield_now().await;
            watch = live.watch(EventFilter::default(), Some(&last)).unwrap();
            assert!(!watch.missed());
        }
        let mut events = watch.next().await.unwrap();
        // the subscriber may disconnect in the middle of the events that it has read
        if chance.bool() {
            events.truncate(chance.usize(1..=events.len()));
            drop(watch);
            watch = live.watch(EventFilter::default(), Some(&events.last().unwrap().0)).unwrap();
        }
        told.extend(events.iter().map(|(_, event)| number(event)));
        last = events.pop().unwrap().0;
    }
    assert!(watch.next().now_or_never().is_none(), "that was all");
    told
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    SitDown(Option<u64>),
    Read(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..80).prop_map(Step::Push),
        2 => proptest::option::of(0u64..2000).prop_map(Step::SitDown),
        4 => any::<usize>().prop_map(Step::Read),
        1 => any::<usize>().prop_map(Step::Leave),
    ]
}

proptest! {
    /// Compares the hub with a list of all events and a position for each subscriber.
    #[test]
    fn each_subscriber_gets_all_events_after_its_position_until_it_is_overtaken(
        steps in proptest::collection::vec(step(), 1..120), kept in 1u64..300,
    ) {
        let mut hub = EventRing::new(usize::try_from(kept).unwrap(), 5);
        let (mut head, mut places) = (0, BTreeMap::<SubscriberId, (u64, oneshot::Receiver<()>)>::new());
        for step in steps {
            let nth = |n: usize| places.keys().nth(n % places.len().max(1)).copied();
            match step {
                Step::Push(count) => {
                    for _ in 0..count {
                        head += 1;
                        hub.push(LiveEvent::Notification(numbered(head)));
                    }
                    let tail = head - head.min(kept);
                    let overtaken = places.extract_if(.., |_, (position, _)| *position < tail);
                    for (seat, (_, mut told)) in overtaken {
                        prop_assert_eq!(told.try_recv(), Ok(()));
                        prop_assert!(hub.read(seat, |_| true).is_none());
                    }
                }
                Step::SitDown(last) => {
                    let is_full = places.len() == 5;
                    let seat = hub.sit_down((false, true), last);
                    prop_assert_eq!(seat.is_none(), is_full);
                    if let Some((seat, known, told)) = seat {
                        let here = last.filter(|last| (head - head.min(kept)..=head).contains(last));
                        prop_assert_eq!(known, here.is_some());
                        places.insert(seat, (here.unwrap_or(head), told));
                    }
                }
                Step::Read(n) => if let Some(seat) = nth(n) {
                    let (position, _) = places.get_mut(&seat).unwrap();
                    // every second event, as with a filter
                    let read = hub.read(seat, |event| number(event).is_multiple_of(2)).unwrap();
                    for (at, event, _) in &read.events {
                        prop_assert_eq!(*at, number(event));
                        prop_assert!(*at > *position && *at <= head && (*at - *position) <= 2);
                        *position = *at;
                    }
                    prop_assert!(!read.more || !read.events.is_empty());
                    *position = hub.position(seat).unwrap();
                    prop_assert_eq!(read.more, *position < head);
                },
                Step::Leave(n) => if let Some(seat) = nth(n) {
                    places.remove(&seat);
                    hub.leave(seat);
                    prop_assert!(hub.position(seat).is_none());
                },
            }
        }
    }
}
