use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::db::types::{LeaseId, MessageId, NodeId, Timestamp};
use crate::delivery::leases::HeldLease;
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

pub fn run(priority: Priority, rate_per_second: Option<f64>) -> Arc<ActiveMailing> {
    Arc::new(ActiveMailing::new(mailing(priority, rate_per_second), 1))
}

pub fn items(run: &Arc<ActiveMailing>, count: usize) -> Vec<QueuedMessage> {
    let lease = Arc::new(HeldLease::new(LeaseId::new(), NodeId::new(), Some(run.id), count));
    let item = |_| QueuedMessage {
        id: MessageId::new(),
        lease: Arc::clone(&lease),
        origin: Origin::Mailing(Arc::clone(run)),
        client: None,
        recipient: None,
        preferences: None,
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

fn fill(lanes: &Lanes, run: &Arc<ActiveMailing>, count: usize) {
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
fn high_comes_first_and_the_lower_lanes_keep_their_shares() {
    let shares = |waiting: &[Priority]| {
        let lanes = lanes();
        for priority in waiting {
            fill(&lanes, &run(*priority, None), 1000);
        }
        let taken: Vec<_> = (0..1000).map(|_| lanes.take().unwrap().origin.priority()).collect();
        HIGHEST_FIRST.map(|priority| taken.iter().filter(|taken| **taken == priority).count())
    };
    let (high, normal, low) = (Priority::High, Priority::Normal, Priority::Low);
    assert_eq!(shares(&[high, normal, low]), [850, 100, 50]);
    assert_eq!(shares(&[high, normal]), [900, 100, 0]);
    assert_eq!(shares(&[high, low]), [950, 0, 50]);
    assert_eq!(shares(&[normal, low]), [0, 950, 50]);
    assert_eq!(shares(&[low]), [0, 0, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_mailing_with_its_own_rate_keeps_it_and_does_not_block_the_others() {
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
async fn a_changed_rate_applies_at_once() {
    let (lanes, slow) = (lanes(), run(Priority::Normal, Some(0.001)));
    fill(&lanes, &slow, 2);
    assert!(lanes.take().is_none());
    slow.schedule().set(None);
    lanes.reschedule();
    lanes.wait().await;
    assert!(lanes.take().is_some() && lanes.take().is_some());
}

#[test]
fn a_mailing_with_its_own_rate_holds_only_seconds_in_memory() {
    let (lanes, slow, fast) = (lanes(), run(Priority::Normal, Some(10.0)), run(Priority::Normal, None));
    assert_eq!((lanes.wanted(&slow, 1), lanes.wanted(&fast, 1)), (20, 100));
    fill(&lanes, &slow, 20);
    fill(&lanes, &fast, 99);
    assert!(lanes.has_room(Priority::Normal), "resting messages do not count");
    fill(&lanes, &fast, 1);
    assert!(!lanes.has_room(Priority::Normal));
}

proptest! {
    /// For any order of steps: two mailings of one priority that both have messages waiting get equal turns, and
    /// neither waits longer than one turn of each other mailing.
    #[test]
    fn mailings_of_one_priority_have_equal_turns_while_they_wait(
        mailings in 2..6_usize, steps in prop::collection::vec((0..10_usize, 1..5_usize), 1..200),
    ) {
        let lanes = lanes();
        let runs: Vec<_> = (0..mailings).map(|_| run(Priority::Normal, None)).collect();
        let mut waiting = vec![0_usize; mailings];
        // the turns of each mailing of a pair since both have messages waiting
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

    /// For any order of steps: while normal has messages waiting, it gets one turn in ten, and while low has messages
    /// waiting, it gets one turn in twenty. Lanes other than the highest non-empty one never get two turns in a row,
    /// and at most three turns in twenty.
    #[test]
    fn lower_lanes_get_their_turns_and_the_highest_lane_gets_the_others(
        steps in prop::collection::vec((0..12_usize, 1..8_usize), 1..400),
    ) {
        let lanes = lanes();
        let runs = HIGHEST_FIRST.map(|priority| run(priority, None));
        let mut waiting = [0_usize; 3];
        let (mut passed_over, mut exceptions) = ([0_u32; 3], Vec::new());
        for (step, count) in steps {
            if step < 3 {
                fill(&lanes, &runs[step], count);
                waiting[step] += count;
                continue;
            }
            let highest = waiting.iter().position(|count| *count > 0);
            let taken = lanes.take().map(|item| runs.iter().position(|run| Some(run.id) == item.origin.mailing()).unwrap());
            prop_assert_eq!(taken.is_some(), highest.is_some());
            let Some(taken) = taken else { continue };
            exceptions.push(Some(taken) != highest);
            let last = &exceptions[exceptions.len().saturating_sub(20)..];
            prop_assert!(last.iter().filter(|exception| **exception).count() <= 3, "{:?}", last);
            prop_assert!(!last.ends_with(&[true, true]), "{:?}", last);
            for lane in 0..3 {
                passed_over[lane] = if lane == taken || waiting[lane] == 0 { 0 } else { passed_over[lane] + 1 };
            }
            prop_assert!(passed_over[0] <= 1 && passed_over[1] < 10 && passed_over[2] < 20, "{:?}", passed_over);
            waiting[taken] -= 1;
        }
    }

    /// For any order of push, take, put back and drain: each message comes out exactly once.
    #[test]
    fn each_message_comes_out_exactly_once(steps in prop::collection::vec((0..5_u8, 0..4_usize), 1..80)) {
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
