//! Tests of the checker: correct evidence, and evidence doctored in every way that it must detect.

use std::time::Duration;

use fanfare::kinds::MessageStatus;

use crate::support::checker::{
    Attempt, Evidence, Interruption, Limits, Mailing, Message, Person, Replayed, Request, Rule, check,
};

const SECOND: i64 = 1_000_000;
/// A time well after the epoch, at which the window begins.
const START: i64 = 1_000_000 * SECOND;
const END: i64 = START + 100 * SECOND;
const KILLED: i64 = START + 20 * SECOND;
const PHONE: u64 = 79_030_000_000;

/// The story of client `n`: the requests in the provider's log, and the attempts recorded as failed.
struct Story {
    requests: &'static [(i64, &'static str)],
    failures: &'static [i64],
    status: MessageStatus,
}

/// One story of each kind, with times in milliseconds from the start.
const STORIES: &[Story] = &[
    Story { requests: &[(1000, "received")], failures: &[], status: MessageStatus::Sent },
    // 1 s and 2 s after the failures, which come a little after the requests
    Story {
        requests: &[(1000, "error"), (2015, "limited"), (2500, "error"), (4600, "received")],
        failures: &[1010, 2520],
        status: MessageStatus::Sent,
    },
    // the response never arrived
    Story {
        requests: &[(2000, "dropped"), (3100, "received")],
        failures: &[2005],
        status: MessageStatus::Sent,
    },
    // in flight at the kill
    Story {
        requests: &[(19_990, "received"), (21_000, "received")],
        failures: &[],
        status: MessageStatus::Sent,
    },
    Story { requests: &[(5000, "rejected")], failures: &[5005], status: MessageStatus::Failed },
    Story { requests: &[], failures: &[], status: MessageStatus::Expired },
    // 1 s later the window is closed
    Story { requests: &[(99_500, "error")], failures: &[99_510], status: MessageStatus::Expired },
];

fn id(n: usize) -> String {
    format!("message {n}")
}

fn phone(n: usize) -> u64 {
    PHONE + u64::try_from(n).expect("a small number")
}

fn request(n: usize, at_ms: i64, outcome: &str) -> Request {
    let at_us = START + at_ms * 1000;
    Request { at_us, id: id(n), key: Some(id(n)), phone: Some(phone(n)), outcome: outcome.into() }
}

fn clean() -> Evidence {
    let numbered = || STORIES.iter().enumerate();
    let mut requests: Vec<Request> = numbered()
        .flat_map(|(n, story)| story.requests.iter().map(move |(at, outcome)| request(n, *at, outcome)))
        .collect();
    requests.sort_by_key(|request| request.at_us);
    let message = |(n, story): (usize, &Story)| {
        let is_sent = story.status == MessageStatus::Sent;
        let last = story.requests.last().map_or(END, |(at, _)| START + at * 1000 + 10_000);
        Message {
            id: id(n),
            client: Some(format!("client {n}")),
            phone: Some(phone(n)),
            status: story.status,
            attempts: story.failures.len() + usize::from(is_sent),
            finished_at: Some(last),
        }
    };
    let attempt = |n: usize, index: usize, at: i64| Attempt {
        message: id(n),
        number: index + 1,
        at: START + at * 1000,
    };
    Evidence {
        requests,
        audience: numbered().map(|(n, _)| Person { id: format!("client {n}"), phone: phone(n) }).collect(),
        mailing: Mailing {
            window: (START, END),
            is_cancelled: false,
            is_settled: true,
            total: 7,
            counts: [4, 1, 2, 0],
        },
        messages: numbered().map(message).collect(),
        attempts: numbered()
            .flat_map(|(n, story)| story.failures.iter().enumerate().map(move |(i, at)| attempt(n, i, *at)))
            .collect(),
        replays: Vec::new(),
        dead_letters: vec![id(4)],
        left_over: 0,
        interruptions: vec![Interruption::Lost(KILLED)],
        limits: Limits {
            at_stake: Limits::at_stake(64, 500),
            delays: [1, 2, 4].map(Duration::from_secs).to_vec(),
            rate: Some(10.0),
        },
    }
}

/// Returns the request number `index` of client `n`.
fn nth(evidence: &mut Evidence, n: usize, index: usize) -> &mut Request {
    evidence.requests.iter_mut().filter(|request| request.id == id(n)).nth(index).expect("a request")
}

/// Asserts that evidence doctored in this way breaks exactly these rules.
#[track_caller]
fn rejects(rules: &[Rule], doctor: impl FnOnce(&mut Evidence)) {
    let mut evidence = clean();
    doctor(&mut evidence);
    evidence.requests.sort_by_key(|request| request.at_us);
    let report = check(&evidence);
    assert_eq!(report.broken(), rules.iter().copied().collect(), "{report}");
}

#[test]
fn evidence_as_it_should_be_is_accepted_and_its_repeats_are_told_apart() {
    let report = check(&clean());
    assert_eq!(report.violations.len(), 0, "{report}");
    assert_eq!((report.lost, report.repeated, report.in_flight, report.unanswered), (0, 2, 1, 1), "{report}");
    assert_eq!((report.interruptions, report.most_at_once), (1, 1), "{report}");
}

#[test]
fn a_client_without_a_message_is_lost() {
    rejects(&[Rule::Lost, Rule::Books], |e| {
        e.audience.push(Person { id: "one more".into(), phone: phone(99) });
    });
    // the counts agree, but the message belongs to another client
    rejects(&[Rule::Lost, Rule::OneMessage], |e| e.messages[0].client = Some("a stranger".into()));
    rejects(&[Rule::Lost], |e| e.messages[0].client = None);
}

#[test]
fn a_client_with_two_messages_is_noticed() {
    rejects(&[Rule::Lost, Rule::OneMessage], |e| e.messages[0].client = e.messages[1].client.clone());
    rejects(&[Rule::OneMessage, Rule::Books], |e| {
        let twin = Message { id: "twin".into(), status: MessageStatus::Expired, ..e.messages[5].clone() };
        e.messages.push(twin);
    });
}

#[test]
fn a_message_that_is_not_final_and_one_that_ended_without_reason_are_noticed() {
    rejects(&[Rule::FinalState, Rule::Books], |e| e.messages[5].status = MessageStatus::Queued);
    rejects(&[Rule::FinalState], |e| e.messages[5].finished_at = None);
    rejects(&[Rule::FinalState], |e| e.messages[5].finished_at = Some(END - SECOND));
    // another attempt would have been due at most 4 s later, which is within the window
    rejects(&[Rule::FinalState], |e| {
        nth(e, 6, 0).at_us -= 5 * SECOND;
        e.attempts.last_mut().expect("an attempt").at -= 5 * SECOND;
        e.messages[6].finished_at = e.messages[6].finished_at.map(|at| at - 5 * SECOND);
    });
    rejects(&[Rule::FinalState], |e| {
        e.messages[5].status = MessageStatus::Cancelled;
        e.mailing.counts = [4, 1, 1, 1];
    });
}

#[test]
fn a_mailing_that_is_not_over_is_noticed() {
    rejects(&[Rule::FinalState], |e| e.mailing.is_settled = false);
    rejects(&[Rule::FinalState], |e| e.left_over = 1);
}

#[test]
fn what_is_sent_and_was_not_received_is_noticed() {
    rejects(&[Rule::Received], |e| e.requests.retain(|request| request.id != id(0)));
    rejects(&[Rule::Received], |e| nth(e, 0, 0).outcome = "error".into());
    // a response that cannot be read counts as none
    rejects(&[Rule::Received], |e| nth(e, 0, 0).outcome = "garbage".into());
    // it was recorded as received before the provider received it
    rejects(&[Rule::Received, Rule::Ended], |e| nth(e, 0, 0).at_us += SECOND);
}

#[test]
fn a_repeat_that_nothing_explains_is_noticed() {
    rejects(&[Rule::Repeats], |e| e.interruptions.clear());
    rejects(&[Rule::Repeats], |e| e.interruptions = vec![Interruption::Lost(KILLED + 2 * SECOND)]);
    // it may have been in flight just before the kill, but not this long before
    rejects(&[Rule::Repeats], |e| e.interruptions = vec![Interruption::Lost(KILLED - 2 * SECOND)]);
    rejects(&[Rule::Repeats], |e| e.requests.push(request(0, 900, "received")));
    rejects(&[Rule::Repeats], |e| e.requests.push(request(0, 900, "error")));
    // the response arrived, so there was no reason to retry
    rejects(&[Rule::Repeats], |e| nth(e, 2, 0).outcome = "received".into());
}

#[test]
fn a_request_that_was_cut_off_is_made_again_once() {
    rejects(&[], |e| e.requests.push(request(0, 900, "dropped")));
    rejects(&[], |e| e.requests.push(request(2, 1990, "dropped")));
    rejects(&[Rule::Repeats], |e| e.requests.extend([1980, 1990].map(|at| request(2, at, "dropped"))));
    rejects(&[Rule::Repeats], |e| e.requests.push(request(2, 1990, "hung")));
}

#[test]
fn an_interruption_repeats_no_more_than_was_at_stake() {
    let repeats = |e: &mut Evidence, count: usize| {
        e.limits.at_stake = 2;
        e.interruptions.push(Interruption::Lost(START + 500_000));
        for n in 0..count {
            e.requests.push(request(n, 200, "received"));
        }
    };
    rejects(&[], |e| repeats(e, 2));
    rejects(&[Rule::Repeats], |e| repeats(e, 3));
}

#[test]
fn each_of_several_interruptions_explains_its_own() {
    let twice = |e: &mut Evidence| {
        // one kill lies between two requests of both clients, an earlier one between those of client 0 alone
        e.limits.at_stake = 1;
        e.interruptions.push(Interruption::Lost(START + 10 * SECOND));
        e.requests.push(request(0, 22_000, "received"));
        e.messages[0].finished_at = Some(START + 22 * SECOND);
    };
    rejects(&[], twice);
    rejects(&[Rule::Repeats], |e| {
        twice(e);
        e.requests.push(request(3, 20_400, "received"));
    });
}

#[test]
fn what_goes_out_after_its_end_is_noticed_unless_a_node_had_just_woken() {
    let late = |e: &mut Evidence, moment: fn(i64) -> Interruption| {
        e.requests.push(request(0, 30_000, "received"));
        e.interruptions.push(moment(START + 29_900_000));
    };
    rejects(&[], |e| late(e, Interruption::Woke));
    rejects(&[Rule::Ended], |e| late(e, Interruption::Lost));
    rejects(&[Rule::Ended], |e| late(e, |at| Interruption::Woke(at - SECOND)));
    rejects(&[Rule::Ended, Rule::Repeats], |e| e.requests.push(request(0, 15_000, "received")));
    rejects(&[Rule::Ended], |e| e.requests.push(request(4, 15_000, "rejected")));
}

#[test]
fn what_goes_out_outside_the_window_is_noticed() {
    rejects(&[Rule::Window], |e| e.mailing.window.0 = START + 1_000_001);
    rejects(&[Rule::Window], |e| {
        let after = END + SECOND;
        nth(e, 0, 0).at_us = after;
        e.messages[0].finished_at = Some(after);
    });
    // it was in flight when the window closed
    rejects(&[], |e| {
        nth(e, 0, 0).at_us = END + 100_000;
        e.messages[0].finished_at = Some(END + 100_000);
    });
}

#[test]
fn another_id_key_or_phone_is_noticed() {
    rejects(&[Rule::Identity], |e| nth(e, 1, 1).key = Some(id(2)));
    rejects(&[Rule::Identity], |e| nth(e, 1, 1).key = None);
    rejects(&[Rule::Identity], |e| nth(e, 1, 1).phone = Some(phone(2)));
    rejects(&[Rule::Identity], |e| e.requests.push(request(99, 1000, "received")));
    // one client's second attempt under another message's id
    rejects(&[Rule::Identity, Rule::Ended, Rule::Received, Rule::Repeats], |e| {
        let other = id(0);
        let request = nth(e, 1, 3);
        (request.id, request.key) = (other.clone(), Some(other));
    });
}

#[test]
fn attempts_that_are_too_close_or_too_many_are_noticed() {
    rejects(&[Rule::Gaps], |e| nth(e, 1, 3).at_us -= 200_000);
    rejects(&[Rule::Gaps], |e| e.attempts[0].at += 500_000);
    rejects(&[Rule::Gaps], |e| e.limits.delays = vec![Duration::from_secs(1)]);
    // a replay restarts the schedule without a wait, but the attempts after it follow the schedule
    let replayed = |attempts| Replayed { message: id(1), attempts };
    let mut evidence = clean();
    evidence.limits.delays = vec![Duration::from_secs(1)];
    evidence.replays.push(replayed(1));
    assert!(check(&evidence).violations.is_empty(), "{}", check(&evidence));
    evidence.replays = vec![replayed(2)];
    nth(&mut evidence, 1, 3).at_us -= 1_900_000;
    evidence.requests.sort_by_key(|request| request.at_us);
    assert!(check(&evidence).violations.is_empty(), "{}", check(&evidence));
    rejects(&[Rule::Gaps], |e| {
        e.replays.push(Replayed { message: id(1), attempts: 1 });
        e.attempts[1].at += 1_500_000;
    });
    rejects(&[Rule::Gaps], |e| {
        e.messages[4].attempts = 5;
        let more = (2..=5).zip([20, 40, 60, 80]);
        e.attempts.extend(more.map(|(number, seconds)| Attempt {
            message: id(4),
            number,
            at: START + seconds * SECOND,
        }));
    });
}

#[test]
fn books_that_are_not_the_rows_are_noticed() {
    rejects(&[Rule::Books], |e| e.mailing.counts = [3, 2, 2, 0]);
    rejects(&[Rule::Books], |e| e.mailing.counts = [4, 1, 1, 0]);
    rejects(&[Rule::Books], |e| e.mailing.total = 8);
    rejects(&[Rule::Books], |e| e.dead_letters.clear());
    rejects(&[Rule::Books], |e| e.dead_letters.push(id(0)));
    rejects(&[Rule::Books], |e| e.messages[0].attempts = 2);
    rejects(&[Rule::Books], |e| drop(e.attempts.pop()));
}

#[test]
fn a_burst_is_noticed_in_any_second_and_not_only_in_whole_ones() {
    let burst = |e: &mut Evidence, count: i64| {
        // from the middle of one second to the middle of the next
        e.limits.rate = Some(100.0);
        nth(e, 0, 0).at_us += 2 * SECOND;
        for n in 0..count {
            let mut request = request(0, 0, "limited");
            request.at_us = START + SECOND / 2 + n * 990_000 / count;
            e.requests.push(request);
        }
        e.messages[0].finished_at = Some(START + 3 * SECOND);
    };
    rejects(&[], |e| burst(e, 120));
    rejects(&[Rule::Rate], |e| burst(e, 135));
}

/// Each node sends this number of requests a second, evenly, for twelve seconds. The second one is killed after four
/// and is back after six.
fn nodes(e: &mut Evidence, each: [i64; 2]) {
    e.limits.rate = Some(100.0);
    // the provider's limit refuses them, so they are not attempts
    nth(e, 0, 0).at_us += 50 * SECOND;
    e.messages.first_mut().expect("a message").finished_at = Some(START + 52 * SECOND);
    let killed = START + 34 * SECOND;
    e.interruptions.push(Interruption::Lost(killed));
    for (node, count) in each.into_iter().enumerate() {
        let times = (0..12 * count).map(|n| START + 30 * SECOND + n * SECOND / count);
        let is_away = |at: i64| node == 1 && (killed..killed + 2 * SECOND).contains(&at);
        for at_us in times.filter(|at| !is_away(*at)) {
            e.requests.push(Request { at_us, ..request(0, 0, "limited") });
        }
    }
}

#[test]
fn nodes_that_keep_the_rate_each_for_itself_and_not_together_are_noticed() {
    rejects(&[], |e| nodes(e, [50, 50]));
    rejects(&[Rule::Rate], |e| nodes(e, [100, 100]));
    // with a tolerance of a quarter of a second in transit, no single second stands out; ten seconds together do
    rejects(&[Rule::Rate], |e| nodes(e, [70, 55]));
    // the restarted node sends what it missed
    rejects(&[Rule::Rate], |e| {
        nodes(e, [50, 50]);
        let missed = (0..100).map(|n| START + 36 * SECOND + n * 1000);
        e.requests.extend(missed.map(|at_us| Request { at_us, ..request(0, 0, "limited") }));
    });
}
