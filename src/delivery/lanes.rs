//! The lanes: what waits in memory, by channel and priority, fair between mailings.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::model::{Item, Run};
use super::sync::{Mutex, MutexGuard};
use crate::db::types::{MailingId, MessageId};
use crate::kinds::{ChannelKind, Priority};
use crate::metrics::Metrics;

/// The lanes as they stand in memory: what [`lane_of`] tells the place of.
const HIGHEST_FIRST: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
/// Of so many messages taken, one comes from the lowest lane that has any: low keeps its 5 %.
const LOW_TURN: u32 = 20;
/// Messages that a mailing may always have waiting.
const FEW: usize = 8;
/// What a mailing with a rate of its own sends in this time is enough to have waiting.
const SOON: Duration = Duration::from_secs(2);

/// What belongs to one mailing, or to none.
#[derive(Default)]
struct Source {
    key: Option<MailingId>,
    items: VecDeque<Item>,
}

impl Source {
    /// When its mailing's own rate lets the next one go, if that is after `now`.
    fn later_than(&self, now: Instant) -> Option<Instant> {
        self.items.front().and_then(|item| item.origin.later_than(now))
    }
}

#[derive(Default)]
struct Lane {
    /// The one at the front is next; a taken source goes to the back, so mailings take turns.
    ready: VecDeque<Source>,
    /// Those whose own rate lets nothing go before `wake`: they hold up no other.
    resting: Vec<Source>,
    wake: Option<Instant>,
    depth: usize,
}

impl Lane {
    fn take(&mut self, now: Instant) -> Option<Item> {
        self.rouse(now);
        let mut source = self.ready.pop_front()?;
        let item = source.items.pop_front();
        if let Some(item) = &item {
            item.origin.advance(now);
            self.depth -= 1;
        }
        self.add(source, now);
        item
    }

    /// Puts a source where it belongs; one without messages goes.
    fn add(&mut self, source: Source, now: Instant) {
        if source.items.is_empty() {
            return;
        }
        match source.later_than(now) {
            Some(later) => {
                self.wake = Some(self.wake.map_or(later, |wake| wake.min(later)));
                self.resting.push(source);
            }
            None => self.ready.push_back(source),
        }
    }

    /// Moves those whose time has come to the ready ones.
    fn rouse(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            for source in std::mem::take(&mut self.resting) {
                self.add(source, now);
            }
        }
    }

    fn has_ready(&self, now: Instant) -> bool {
        !self.ready.is_empty() || self.wake.is_some_and(|wake| wake <= now)
    }

    fn find(&mut self, key: Option<MailingId>) -> Option<&mut Source> {
        self.ready.iter_mut().chain(&mut self.resting).find(|source| source.key == key)
    }

    fn remove(&mut self, key: Option<MailingId>) -> Option<Source> {
        let place = |source: &Source| source.key == key;
        if let Some(at) = self.ready.iter().position(place) {
            return self.ready.remove(at);
        }
        self.resting.iter().position(place).map(|at| self.resting.swap_remove(at))
    }

    /// Takes out those of these messages that are of no mailing.
    fn withdraw(&mut self, cancelled: &HashMap<MessageId, bool>) -> Vec<Item> {
        let Some(mut source) = self.remove(None) else { return Vec::new() };
        let waiting = std::mem::take(&mut source.items);
        let (taken, left): (Vec<Item>, Vec<Item>) =
            waiting.into_iter().partition(|item| cancelled.contains_key(&item.id));
        source.items = left.into();
        self.depth -= taken.len();
        // at the back: as if it had had its turn
        self.add(source, Instant::now());
        taken
    }

    fn depth_of(&self, key: Option<MailingId>) -> usize {
        let mut sources = self.ready.iter().chain(&self.resting);
        sources.find(|source| source.key == key).map_or(0, |source| source.items.len())
    }

    fn resting_depth(&self) -> usize {
        self.resting.iter().map(|source| source.items.len()).sum()
    }
}

/// A message that was taken.
struct InFlight {
    /// Tells it from the same one taken again, after its outcome.
    revision: i16,
    /// It does not come back into its lane.
    is_withdrawn: bool,
}

#[derive(Default)]
struct Inner {
    lanes: [Lane; 3],
    turn: u32,
    /// The messages of no mailing that were taken and whose outcome is not on disk yet.
    in_flight: HashMap<MessageId, InFlight>,
}

impl Inner {
    fn forget(&mut self, item: &Item) {
        if self.in_flight.get(&item.id).is_some_and(|taken| taken.revision == item.revision) {
            self.in_flight.remove(&item.id);
        }
    }
}

/// The three lanes of one channel.
pub struct Lanes {
    capacity: usize,
    /// How many messages of no mailing are enough to have waiting.
    soon: usize,
    inner: Mutex<Inner>,
    filled: Notify,
    drained: std::sync::Arc<Notify>,
    /// `fanfare_lane_depth`, found once: it is set with every message.
    depths: [IntGauge; 3],
}

impl Lanes {
    /// Lanes that hold about `capacity` messages each, and tell `drained` when there is room again.
    pub fn new(
        channel: ChannelKind,
        capacity: usize,
        drained: std::sync::Arc<Notify>,
        metrics: &Metrics,
    ) -> Self {
        let depths = HIGHEST_FIRST
            .map(|priority| metrics.lane_depth.with_label_values(&[channel.as_str(), priority.as_str()]));
        Self { capacity, soon: capacity, inner: Mutex::default(), filled: Notify::new(), drained, depths }
    }

    /// For a channel of this rate: of the messages of no mailing no more are held than it sends soon, since what is held
    /// cannot be cancelled any more.
    pub fn with_rate(mut self, rate: Option<f64>) -> Self {
        if let Some(rate) = rate {
            self.soon = self.capacity.min((rate * SOON.as_secs_f64()) as usize).max(FEW);
        }
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, priority: Priority, depth: usize) {
        if let Some(gauge) = self.depths.get(lane_of(priority)) {
            gauge.set(i64::try_from(depth).unwrap_or(i64::MAX));
        }
    }

    /// Puts messages of one mailing at the end of its queue.
    pub fn push(&self, priority: Priority, key: Option<MailingId>, items: Vec<Item>) {
        if !items.is_empty() {
            self.fill(self.lock(), priority, key, items, |waiting, items| waiting.extend(items));
        }
    }

    /// Puts a message back: it goes first when its mailing's turn comes. Answers it when it was withdrawn meanwhile.
    pub fn put_back(&self, priority: Priority, key: Option<MailingId>, item: Item) -> Option<Item> {
        let mut inner = self.lock();
        if inner.in_flight.get(&item.id).is_some_and(|taken| taken.is_withdrawn) {
            return Some(item);
        }
        inner.forget(&item);
        self.fill(inner, priority, key, vec![item], |waiting, items| {
            items.into_iter().for_each(|item| waiting.push_front(item));
        });
        None
    }

    /// Adds messages to the source of a mailing, a new one if it has none; `join` puts them to those that wait.
    fn fill(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        priority: Priority,
        key: Option<MailingId>,
        items: Vec<Item>,
        join: impl FnOnce(&mut VecDeque<Item>, Vec<Item>),
    ) {
        let Some(lane) = inner.lanes.get_mut(lane_of(priority)) else {
            return;
        };
        lane.depth += items.len();
        let depth = lane.depth;
        match lane.find(key) {
            Some(source) => join(&mut source.items, items),
            None => lane.add(Source { key, items: items.into() }, Instant::now()),
        }
        drop(inner);
        self.show(priority, depth);
        self.filled.notify_one();
    }

    /// Takes out those of these messages of no mailing that wait here; also answers which of them are in flight. With true
    /// one that is in flight is withdrawn: it does not come back into its lane.
    pub fn withdraw(&self, cancelled: &HashMap<MessageId, bool>) -> (Vec<Item>, Vec<MessageId>) {
        let mut inner = self.lock();
        let Inner { lanes, in_flight, .. } = &mut *inner;
        let mut found = Vec::new();
        for (id, holds) in cancelled {
            if let Some(taken) = in_flight.get_mut(id) {
                taken.is_withdrawn |= *holds;
                found.push(*id);
            }
        }
        let taken: Vec<Item> = lanes.iter_mut().flat_map(|lane| lane.withdraw(cancelled)).collect();
        self.show_all(&inner);
        (taken, found)
    }

    /// Whether a message that was taken is withdrawn.
    pub fn is_withdrawn(&self, id: MessageId) -> bool {
        self.lock().in_flight.get(&id).is_some_and(|taken| taken.is_withdrawn)
    }

    /// The outcome of a message that was taken is on disk, or nothing becomes of it here.
    pub fn done(&self, item: &Item) {
        if item.origin.mailing().is_none() {
            self.lock().forget(item);
        }
    }

    /// The next message that may go: high before normal before low, but for low's share.
    pub fn take(&self) -> Option<Item> {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.turn = (inner.turn + 1) % LOW_TURN;
        let lowest_first = inner.turn == 0;
        let mut order = HIGHEST_FIRST;
        if lowest_first {
            order.reverse();
        }
        let taken = order.iter().find_map(|priority| {
            let lane = inner.lanes.get_mut(lane_of(*priority))?;
            let item = lane.take(now)?;
            Some((*priority, lane.depth, item))
        });
        if let Some((_, _, item)) = taken.as_ref().filter(|(_, _, item)| item.origin.mailing().is_none()) {
            inner.in_flight.insert(item.id, InFlight { revision: item.revision, is_withdrawn: false });
        }
        drop(inner);
        let (priority, depth, item) = taken?;
        self.show(priority, depth);
        if depth % 64 == 0 || depth == self.capacity / 2 {
            self.drained.notify_one();
        }
        Some(item)
    }

    /// Returns when a message may go, as far as its mailing's own rate is concerned.
    pub async fn wait(&self) {
        // mostly there is one: registering costs more than looking
        if self.has_ready() {
            return;
        }
        loop {
            // registered before looking: a message that comes in between is not missed
            let mut filled = pin!(self.filled.notified());
            filled.as_mut().enable();
            let now = Instant::now();
            let wake = {
                let inner = self.lock();
                if inner.lanes.iter().any(|lane| lane.has_ready(now)) {
                    return;
                }
                inner.lanes.iter().filter_map(|lane| lane.wake).min()
            };
            match wake {
                None => filled.await,
                Some(wake) => tokio::select! {
                    () = filled => {}
                    () = sleep_until(wake) => {}
                },
            }
        }
    }

    fn has_ready(&self) -> bool {
        let now = Instant::now();
        self.lock().lanes.iter().any(|lane| lane.has_ready(now))
    }

    /// Looks anew at what rests: the rate of some mailing has changed.
    pub fn reschedule(&self) {
        let now = Instant::now();
        for lane in self.lock().lanes.iter_mut().filter(|lane| lane.wake.is_some()) {
            lane.wake = Some(now);
        }
        self.filled.notify_one();
    }

    /// How many more messages of a mailing are wanted now: none while it has half a share waiting.
    ///
    /// `sharers` is how many mailings feed this lane. Each gets at least a few, so that none starves behind the others,
    /// and one with a rate of its own no more than it needs soon.
    pub fn wanted(&self, run: &Run, sharers: usize) -> usize {
        let share = (self.capacity / sharers.max(1)).max(FEW);
        let share = run.schedule().within(SOON).map_or(share, |needed| share.min(needed.max(FEW)));
        let inner = self.lock();
        let waiting = inner.lanes.get(lane_of(run.priority)).map_or(0, |lane| lane.depth_of(Some(run.id)));
        if waiting > share / 2 { 0 } else { share - waiting }
    }

    /// Whether the lane takes more, whoever it is from. What rests does not count: it would hold up the others.
    pub fn has_room(&self, priority: Priority) -> bool {
        let inner = self.lock();
        inner.lanes.get(lane_of(priority)).is_some_and(|lane| {
            lane.depth - lane.resting_depth() < self.capacity && lane.depth < 4 * self.capacity
        })
    }

    /// How many due messages the lane takes now, whoever they are from.
    pub fn room(&self, priority: Priority) -> usize {
        let inner = self.lock();
        inner.lanes.get(lane_of(priority)).map_or(0, |lane| {
            let left = (4 * self.capacity).saturating_sub(lane.depth);
            self.soon.saturating_sub(lane.depth_of(None)).min(left)
        })
    }

    /// Takes out all that waits for one mailing.
    pub fn drain(&self, key: Option<MailingId>) -> Vec<Item> {
        let mut inner = self.lock();
        let mut drained = Vec::new();
        for lane in &mut inner.lanes {
            if let Some(source) = lane.remove(key) {
                lane.depth -= source.items.len();
                drained.extend(source.items);
            }
        }
        self.show_all(&inner);
        drained
    }

    /// Takes out everything.
    pub fn drain_all(&self) -> Vec<Item> {
        let mut inner = self.lock();
        let lanes = std::mem::take(&mut inner.lanes);
        self.show_all(&inner);
        let sources = lanes.into_iter().flat_map(|lane| lane.ready.into_iter().chain(lane.resting));
        sources.flat_map(|source| source.items).collect()
    }

    fn show_all(&self, inner: &Inner) {
        for priority in Priority::ALL {
            self.show(*priority, inner.lanes.get(lane_of(*priority)).map_or(0, |lane| lane.depth));
        }
    }
}

fn lane_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::db::types::{MessageId, NodeId, PageId, Timestamp};
    use crate::delivery::model::OpenPage;
    use crate::delivery::origin::Origin;
    use crate::mailings::filter::AudienceFilter;
    use crate::mailings::model::{Mailing, MailingStatus};
    use crate::messages::model::Counts;

    pub fn mailing(priority: Priority, rate_per_second: Option<f64>) -> Mailing {
        let at = Timestamp::from_micros(0);
        Mailing {
            id: MailingId::new(),
            text: "hello".into(),
            subject: None,
            html: None,
            template: None,
            template_version: None,
            variants: Vec::new(),
            filter: AudienceFilter::default(),
            channel: ChannelKind::Sms,
            priority,
            status: MailingStatus::Running,
            starts_at: at,
            ends_at: at,
            rate_per_second,
            group: None,
            transactional: false,
            created_at: at,
            updated_at: at,
            started_at: None,
            finished_at: None,
            counts: Counts::default(),
        }
    }

    pub fn run(priority: Priority, rate_per_second: Option<f64>) -> Arc<Run> {
        Arc::new(Run::new(mailing(priority, rate_per_second), 1))
    }

    pub fn items(run: &Arc<Run>, count: usize) -> Vec<Item> {
        let page = Arc::new(OpenPage::new(PageId::new(), NodeId::new(), Some(run.id), count));
        let item = |_| Item {
            id: MessageId::new(),
            page: Arc::clone(&page),
            origin: Origin::Mailing(Arc::clone(run)),
            client: None,
            recipient: None,
            wishes: None,
            address: None,
            attempts: 0,
            attempts_before: 0,
            revision: 0,
            due_at: run.due_at,
        };
        (0..count).map(item).collect()
    }

    fn lanes() -> Lanes {
        Lanes::new(ChannelKind::Sms, 100, Arc::new(Notify::new()), &Metrics::new().unwrap())
    }

    fn fill(lanes: &Lanes, run: &Arc<Run>, count: usize) {
        lanes.push(run.priority, Some(run.id), items(run, count));
    }

    #[test]
    fn mailings_of_one_priority_take_turns_whichever_came_first() {
        let (lanes, runs) = (lanes(), [run(Priority::Normal, None), run(Priority::Normal, None)]);
        fill(&lanes, &runs[0], 90);
        fill(&lanes, &runs[1], 10);
        let taken: Vec<_> = (0..20).map(|_| lanes.take().unwrap().origin.mailing().unwrap()).collect();
        for pair in taken.chunks(2) {
            assert_eq!(HashSet::from([pair[0], pair[1]]).len(), 2, "{taken:?}");
        }
    }

    #[test]
    fn high_comes_first_and_low_keeps_a_twentieth() {
        let lanes = lanes();
        for priority in Priority::ALL {
            fill(&lanes, &run(*priority, None), 1000);
        }
        let taken: Vec<_> = (0..1000).map(|_| lanes.take().unwrap().origin.priority()).collect();
        let of = |priority| taken.iter().filter(|taken| **taken == priority).count();
        assert_eq!((of(Priority::High), of(Priority::Normal), of(Priority::Low)), (950, 0, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_mailing_with_a_rate_of_its_own_keeps_it_and_holds_up_no_other() {
        let (lanes, slow, fast) = (lanes(), run(Priority::High, Some(10.0)), run(Priority::Normal, None));
        fill(&lanes, &slow, 50);
        fill(&lanes, &fast, 50);
        for _ in 0..50 {
            assert_eq!(lanes.take().unwrap().origin.mailing().unwrap(), fast.id, "the slow one has to wait");
        }
        assert!(lanes.take().is_none());
        let began = Instant::now();
        for _ in 0..50 {
            lanes.wait().await;
            assert_eq!(lanes.take().unwrap().origin.mailing().unwrap(), slow.id);
        }
        let took = began.elapsed().as_secs_f64();
        assert!((4.9..=5.1).contains(&took), "50 at 10 a second took {took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_changes_is_taken_up_at_once() {
        let (lanes, slow) = (lanes(), run(Priority::Normal, Some(0.001)));
        fill(&lanes, &slow, 2);
        assert!(lanes.take().is_none());
        slow.schedule().set(None);
        lanes.reschedule();
        lanes.wait().await;
        assert!(lanes.take().is_some() && lanes.take().is_some());
    }

    #[test]
    fn a_mailing_with_a_rate_of_its_own_waits_in_memory_for_seconds_only() {
        let (lanes, slow, fast) = (lanes(), run(Priority::Normal, Some(10.0)), run(Priority::Normal, None));
        assert_eq!((lanes.wanted(&slow, 1), lanes.wanted(&fast, 1)), (20, 100));
        fill(&lanes, &slow, 20);
        fill(&lanes, &fast, 99);
        assert!(lanes.has_room(Priority::Normal), "what rests does not count");
        fill(&lanes, &fast, 1);
        assert!(!lanes.has_room(Priority::Normal));
    }

    proptest! {
        /// Whatever comes when: two mailings of one priority that both have messages waiting have equal turns, and however
        /// many others there are, neither waits longer than one turn of each.
        #[test]
        fn mailings_of_one_priority_have_equal_turns_while_they_wait(
            mailings in 2..6_usize, steps in prop::collection::vec((0..10_usize, 1..5_usize), 1..200),
        ) {
            let lanes = lanes();
            let runs: Vec<_> = (0..mailings).map(|_| run(Priority::Normal, None)).collect();
            let mut waiting = vec![0_usize; mailings];
            // turns of each since both of a pair wait
            let mut turns = vec![vec![(0_i32, 0_i32); mailings]; mailings];
            let mut passed_over = vec![0; mailings];
            for (step, count) in steps {
                if let Some(which) = (step < 5).then_some(step % mailings) {
                    fill(&lanes, &runs[which], count);
                    waiting[which] += count;
                    continue;
                }
                let Some(item) = lanes.take() else {
                    prop_assert_eq!(waiting.iter().sum::<usize>(), 0);
                    continue;
                };
                let taken = runs.iter().position(|run| Some(run.id) == item.origin.mailing()).unwrap();
                waiting[taken] -= 1;
                for other in (0..mailings).filter(|other| *other != taken) {
                    turns[taken][other].0 += 1;
                    turns[other][taken].1 += 1;
                    let (own, of_other) = turns[taken][other];
                    prop_assert!(waiting[other] == 0 || (own - of_other).abs() <= 1, "{} and {}", own, of_other);
                    passed_over[other] = if waiting[other] == 0 { 0 } else { passed_over[other] + 1 };
                    prop_assert!(passed_over[other] < mailings, "{} turns of others", passed_over[other]);
                }
                passed_over[taken] = 0;
                for (one, other) in (0..mailings).flat_map(|one| (0..mailings).map(move |other| (one, other))) {
                    if waiting[one] == 0 || waiting[other] == 0 {
                        turns[one][other] = (0, 0);
                    }
                }
            }
        }

        /// Whatever comes when: of twenty messages that are taken one after the other while low has some waiting, one is
        /// low, and all others come from the highest that has any.
        #[test]
        fn low_has_one_turn_in_twenty_and_all_others_are_the_highests(
            steps in prop::collection::vec((0..12_usize, 1..8_usize), 1..300),
        ) {
            let lanes = lanes();
            let runs = [Priority::High, Priority::Normal, Priority::Low].map(|priority| run(priority, None));
            let mut waiting = [0_usize; 3];
            let (mut without_low, mut since_an_exception) = (0, LOW_TURN);
            for (step, count) in steps {
                if step < 3 {
                    fill(&lanes, &runs[step], count);
                    waiting[step] += count;
                    continue;
                }
                let (highest, low_waits) = (waiting.iter().position(|count| *count > 0), waiting[2] > 0);
                let taken = lanes.take().map(|item| runs.iter().position(|run| Some(run.id) == item.origin.mailing()).unwrap());
                prop_assert_eq!(taken.is_some(), highest.is_some());
                since_an_exception += 1;
                if taken != highest {
                    prop_assert!(since_an_exception >= LOW_TURN, "only after {}", since_an_exception);
                    since_an_exception = 0;
                }
                without_low = if low_waits && taken != Some(2) { without_low + 1 } else { 0 };
                prop_assert!(without_low < LOW_TURN);
                if let Some(taken) = taken {
                    waiting[taken] -= 1;
                }
            }
        }

        /// Whatever is pushed, taken, put back and drained in whatever order: nothing is lost, nothing comes twice.
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(steps in prop::collection::vec((0..5_u8, 0..4_usize), 1..80)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let lanes = lanes();
                let runs = [
                    run(Priority::High, None),
                    run(Priority::Normal, Some(50.0)),
                    run(Priority::Normal, None),
                    run(Priority::Low, Some(1.0)),
                ];
                let (mut pushed, mut taken) = (0, HashSet::new());
                for (step, which) in steps {
                    match step {
                        0 | 1 => {
                            fill(&lanes, &runs[which], which + 1);
                            pushed += which + 1;
                        }
                        2 => {
                            if let Some(item) = lanes.take() {
                                assert!(taken.insert(item.id));
                            }
                        }
                        3 => {
                            if let Some(item) = lanes.take() {
                                lanes.put_back(item.origin.priority(), item.origin.mailing(), item);
                            }
                        }
                        _ => tokio::time::advance(Duration::from_millis(30)).await,
                    }
                }
                let drained = lanes.drain(Some(runs[0].id)).into_iter().chain(lanes.drain_all());
                for item in drained {
                    assert!(taken.insert(item.id));
                }
                assert_eq!(taken.len(), pushed);
            });
        }
    }
}
