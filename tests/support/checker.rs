//! Checks the delivery contract from outside: the provider's log against the database and against the times at which
//! the service was killed.
//!
//! The checks are pure and independent of the service's code: [`check`] takes [`Evidence`] and names each [`Rule`] that
//! the evidence breaks. `tests/checker.rs` feeds it doctored evidence, and `examples/check_books.rs` runs it as a program.
//!
//! The provider's log takes precedence. The service's own rows are trusted only where the log confirms them: an attempt
//! counts as recorded if its row lies between two requests, otherwise the second request is a repeat.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use fanfare::kinds::MessageStatus;

/// The longest time between sending a request and the time that the provider logs. The provider takes the time after
/// reading the request, which is later on a busy machine. Also the time in which a resumed node may still send.
pub const TRANSIT: Duration = Duration::from_secs(1);
/// The part of [`TRANSIT`] that may differ between two requests in the check of the rate. Requests sent within a second
/// and this much more may arrive within one second, after the provider was stalled. The burst that the rule looks for
/// is twice the rate: a restarted service that begins with a full second's messages.
pub const JITTER: Duration = Duration::from_millis(250);
/// The spans over which the rate is checked. One second shows a burst. Ten seconds show two nodes that together send a
/// little too much all the time, because [`JITTER`] is small against ten seconds.
pub const RATE_SPANS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// A promise of the contract. A violation is reported under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Every client of the audience has a message.
    Lost,
    /// No client has two messages, and clients outside the audience have no message.
    OneMessage,
    /// Every message is final for a plausible reason, and no work is left.
    FinalState,
    /// Every *sent* message was received before it was recorded.
    Received,
    /// Every repeated message was in flight when a node died, or its response never came.
    Repeats,
    /// No message goes out after its final state.
    Ended,
    /// No message goes out outside the window.
    Window,
    /// All attempts at a message have the same id, key and phone.
    Identity,
    /// Attempts keep the delays of the retry schedule, and their number stays within it.
    Gaps,
    /// The counters equal the rows.
    Books,
    /// The rate limit holds in any second for all nodes together: the provider's log does not tell them apart.
    Rate,
}

/// A line of the provider's log.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Request {
    /// The time of arrival, in microseconds since the epoch, as all times here.
    pub at_us: i64,
    /// The message's id.
    pub id: String,
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    /// The recipient's phone.
    pub phone: Option<u64>,
    /// The provider's outcome.
    pub outcome: String,
}

impl Request {
    /// Returns true if the message reached the phone, regardless of the response.
    pub fn is_received(&self) -> bool {
        self.outcome == "received" || self.is_unanswered()
    }

    /// Returns true if the message reached the phone but no readable response came back.
    fn is_unanswered(&self) -> bool {
        matches!(self.outcome.as_str(), "dropped" | "hung" | "garbage")
    }
}

/// Reads a log of `fanfare sandbox --log`, in the order of arrival.
pub fn read_requests(path: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(path).expect("the provider's log");
    // the last line may be incomplete
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut requests: Vec<Request> =
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect();
    requests.sort_by_key(|request| request.at_us);
    requests
}

/// A client that matches the mailing's filter.
#[derive(Debug, Clone)]
pub struct Person {
    /// The client's id.
    pub id: String,
    /// The client's phone.
    pub phone: u64,
}

/// A mailing's row.
#[derive(Debug, Clone)]
pub struct Mailing {
    /// The window.
    pub window: (i64, i64),
    /// True if it was cancelled.
    pub is_cancelled: bool,
    /// True if its counts are final.
    pub is_settled: bool,
    /// The number of recipients.
    pub total: i64,
    /// The counts of sent, failed, expired and cancelled messages.
    pub counts: [i64; 4],
}

/// A message's row.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The recipient.
    pub client: Option<String>,
    /// Its phone.
    pub phone: Option<u64>,
    /// Its status.
    pub status: MessageStatus,
    /// The number of attempts made.
    pub attempts: usize,
    /// The time at which it became final.
    pub finished_at: Option<i64>,
}

/// The row of an attempt that did not deliver.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The message's id.
    pub message: String,
    /// The number of the attempt, counted from 1.
    pub number: usize,
    /// The time at which it failed.
    pub at: i64,
}

/// One replay of a failed message.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The message's id.
    pub message: String,
    /// The number of attempts made before the replay.
    pub attempts: usize,
}

/// A moment at which a node lost its memory or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The node was killed, or stopped until its leases were taken over.
    Lost(i64),
    /// A stopped node resumed. The sends that it had begun go out, although another node owns its leases.
    Woke(i64),
}

impl Interruption {
    fn at(self) -> i64 {
        match self {
            Self::Lost(at) | Self::Woke(at) => at,
        }
    }
}

/// The limits that the service was configured with.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most messages that one interruption may repeat: the requests in flight, and two groups of outcomes that are
    /// not yet on disk.
    pub at_stake: usize,
    /// The delays between a failed attempt and the next one.
    pub delays: Vec<Duration>,
    /// The rate limit in requests a second.
    pub rate: Option<f64>,
}

impl Limits {
    /// Returns the most messages that an interruption may repeat at this concurrency and group size.
    pub fn at_stake(concurrency: usize, record_batch: usize) -> usize {
        concurrency + 2 * record_batch
    }
}

/// All facts about a mailing with final counts.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The requests that the provider received, in the order of arrival.
    pub requests: Vec<Request>,
    /// The clients that match the filter.
    pub audience: Vec<Person>,
    /// The mailing.
    pub mailing: Mailing,
    /// Its messages.
    pub messages: Vec<Message>,
    /// Their attempts.
    pub attempts: Vec<Attempt>,
    /// The replays of its messages.
    pub replays: Vec<Replayed>,
    /// The ids of its dead letters.
    pub dead_letters: Vec<String>,
    /// The number of rows that stand for work still to be done: leases and waiting messages.
    pub left_over: usize,
    /// The interruptions of the service.
    pub interruptions: Vec<Interruption>,
    /// The limits that it was configured with.
    pub limits: Limits,
}

/// A broken rule of the contract.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The broken rule.
    pub rule: Rule,
    /// The evidence, as text.
    pub what: String,
}

/// The result of a check.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The broken rules.
    pub violations: Vec<Violation>,
    /// The number of interruptions.
    pub interruptions: usize,
    /// The number of messages.
    pub messages: usize,
    /// The number of requests, with or without a response.
    pub requests: usize,
    /// The number of clients without a message.
    pub lost: usize,
    /// The number of superfluous receipts of messages.
    pub repeated: usize,
    /// The repeats that were in flight at an earlier interruption.
    pub in_flight: usize,
    /// The repeats that had no response before.
    pub unanswered: usize,
    /// The most requests that one interruption caused to be repeated, received or not.
    pub most_at_once: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} requests, {} interruptions: {} lost, {} repeated ({} in flight, {} unanswered), at most {} at once",
            self.messages,
            self.requests,
            self.interruptions,
            self.lost,
            self.repeated,
            self.in_flight,
            self.unanswered,
            self.most_at_once
        )?;
        // a bad run breaks a rule thousands of times
        self.violations.iter().take(20).try_for_each(|v| write!(f, "\n  {:?}: {}", v.rule, v.what))
    }
}

impl Report {
    fn add(&mut self, rule: Rule, what: impl Into<String>) {
        self.violations.push(Violation { rule, what: what.into() });
    }

    /// Adds this violation unless the rule holds.
    fn require(&mut self, rule: Rule, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, what());
        }
    }

    /// Returns the broken rules.
    pub fn broken(&self) -> HashSet<Rule> {
        self.violations.iter().map(|violation| violation.rule).collect()
    }
}

/// Checks every rule of the contract.
pub fn check(evidence: &Evidence) -> Report {
    let mut report = Report {
        interruptions: evidence.interruptions.len(),
        messages: evidence.messages.len(),
        requests: evidence.requests.len(),
        ..Report::default()
    };
    check_audience(evidence, &mut report);
    check_states(evidence, &mut report);
    check_books(evidence, &mut report);
    check_identity(evidence, &mut report);
    check_window(evidence, &mut report);
    check_rate(evidence, &mut report);
    check_histories(evidence, &mut report);
    report
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn check_audience(evidence: &Evidence, report: &mut Report) {
    let mut messages: HashMap<&str, usize> = HashMap::new();
    for client in evidence.messages.iter().filter_map(|message| message.client.as_deref()) {
        *messages.entry(client).or_default() += 1;
    }
    for person in &evidence.audience {
        match messages.remove(person.id.as_str()) {
            None => {
                report.lost += 1;
                report.add(Rule::Lost, format!("{person:?} has no message"));
            }
            Some(1) => {}
            Some(count) => report.add(Rule::OneMessage, format!("{person:?} has {count} messages")),
        }
    }
    for client in messages.into_keys() {
        report.add(Rule::OneMessage, format!("client {client} has a message and is not in the audience"));
    }
}

fn check_states(evidence: &Evidence, report: &mut Report) {
    let Evidence { mailing, left_over, .. } = evidence;
    report.require(Rule::FinalState, mailing.is_settled, || format!("the counts are not final: {mailing:?}"));
    report.require(Rule::FinalState, *left_over == 0, || {
        format!("{left_over} leases and waiting messages are left")
    });
    let longest = evidence.limits.delays.iter().max().copied().unwrap_or_default();
    for message in &evidence.messages {
        let could_be = match (message.status, message.finished_at) {
            (MessageStatus::Sent | MessageStatus::Failed, Some(_)) => true,
            // the next attempt would have been past the window
            (MessageStatus::Expired, Some(at)) => {
                let next = if message.attempts > 0 { longest } else { Duration::ZERO };
                at + micros(next) >= mailing.window.1
            }
            (MessageStatus::Cancelled, Some(_)) => mailing.is_cancelled,
            _ => false,
        };
        report.require(Rule::FinalState, could_be, || format!("{message:?} in {mailing:?}"));
    }
}

fn check_books(evidence: &Evidence, report: &mut Report) {
    let mailing = &evidence.mailing;
    let of = |status| evidence.messages.iter().filter(|message| message.status == status).count();
    let statuses =
        [MessageStatus::Sent, MessageStatus::Failed, MessageStatus::Expired, MessageStatus::Cancelled];
    for (status, count) in statuses.into_iter().zip(mailing.counts) {
        let rows = of(status);
        report.require(Rule::Books, i64::try_from(rows) == Ok(count), || {
            format!("{status}: {count} in the counts, {rows} in the rows")
        });
    }
    let sum: i64 = mailing.counts.iter().sum();
    report.require(Rule::Books, sum == mailing.total, || {
        format!("counts add up to {sum}, not {}", mailing.total)
    });
    report.require(Rule::Books, i64::try_from(evidence.audience.len()) == Ok(mailing.total), || {
        format!("{} recipients in the counts, {} in the audience", mailing.total, evidence.audience.len())
    });

    let dead: HashSet<&str> = evidence.dead_letters.iter().map(String::as_str).collect();
    let mut attempts: HashMap<&str, usize> = HashMap::new();
    evidence.attempts.iter().for_each(|attempt| *attempts.entry(&attempt.message).or_default() += 1);
    for message in &evidence.messages {
        let is_dead = dead.contains(message.id.as_str());
        report.require(Rule::Books, is_dead == (message.status == MessageStatus::Failed), || {
            format!("{message:?}: dead letter is {is_dead}, which contradicts the status")
        });
        // the attempt that delivered has no row: it is recorded in the message
        let failed = message.attempts.saturating_sub(usize::from(message.status == MessageStatus::Sent));
        let rows = attempts.get(message.id.as_str()).copied().unwrap_or_default();
        report.require(Rule::Books, rows == failed, || format!("{message:?} has {rows} attempt rows"));
    }
}

fn check_identity(evidence: &Evidence, report: &mut Report) {
    let messages: HashMap<&str, &Message> = evidence.messages.iter().map(|m| (m.id.as_str(), m)).collect();
    let mut ids: HashMap<u64, &str> = HashMap::new();
    for request in &evidence.requests {
        let known = messages.get(request.id.as_str());
        let is_its_own = known.is_some_and(|message| message.phone == request.phone)
            && request.key.as_ref() == Some(&request.id)
            && request.phone.is_some_and(|phone| *ids.entry(phone).or_insert(&request.id) == request.id);
        report.require(Rule::Identity, is_its_own, || format!("{request:?} does not match {known:?}"));
    }
}

fn check_window(evidence: &Evidence, report: &mut Report) {
    let (starts_at, ends_at) = evidence.mailing.window;
    let window = starts_at..ends_at + micros(TRANSIT);
    for request in &evidence.requests {
        report.require(Rule::Window, window.contains(&request.at_us), || {
            format!("{request:?}: the window is {starts_at} to {ends_at}")
        });
    }
}

fn check_rate(evidence: &Evidence, report: &mut Report) {
    let Some(rate) = evidence.limits.rate else { return };
    let times: Vec<i64> = evidence.requests.iter().map(|request| request.at_us).collect();
    for span in RATE_SPANS {
        let most = 1.03 * rate * (span + JITTER).as_secs_f64() + 1.0;
        let within = |(index, at): (usize, &i64)| {
            let end = times.partition_point(|other| *other < at + micros(span));
            (end - index, *at)
        };
        let (count, from) = times.iter().enumerate().map(within).max().unwrap_or_default();
        report.require(Rule::Rate, count as f64 <= most, || {
            format!("{count} requests in the {span:?} from {from}, at most {most:.1} are allowed")
        });
    }
}

/// A request whose predecessor has no row, with the times of both.
struct Again<'e> {
    from: i64,
    to: i64,
    request: &'e Request,
    is_explained: bool,
}

/// Checks each message's requests one after another, with the events between them.
fn check_histories(evidence: &Evidence, report: &mut Report) {
    let mut requests: HashMap<&str, Vec<&Request>> = HashMap::new();
    evidence.requests.iter().for_each(|r| requests.entry(&r.id).or_default().push(r));
    let mut attempts: HashMap<&str, Vec<&Attempt>> = HashMap::new();
    evidence.attempts.iter().for_each(|a| attempts.entry(&a.message).or_default().push(a));
    let mut replays: HashMap<&str, Vec<usize>> = HashMap::new();
    evidence.replays.iter().for_each(|r| replays.entry(&r.message).or_default().push(r.attempts));
    let mut again = Vec::new();
    for message in &evidence.messages {
        let id = message.id.as_str();
        let requests = requests.get(id).map(Vec::as_slice).unwrap_or_default();
        let attempts = attempts.get(id).map(Vec::as_slice).unwrap_or_default();
        check_end(evidence, message, requests, report);
        let replays = replays.get(id).map(Vec::as_slice).unwrap_or_default();
        check_gaps(evidence, message, requests, (attempts, replays), report);
        check_repeats(requests, attempts, &mut again, report);
    }
    explain(evidence, again, report);
}

/// Returns true if a node that had just resumed may have sent the request.
fn is_late(evidence: &Evidence, at: i64) -> bool {
    let just_before = at - micros(TRANSIT)..=at;
    evidence
        .interruptions
        .iter()
        .any(|moment| matches!(moment, Interruption::Woke(woke) if just_before.contains(woke)))
}

fn check_end(evidence: &Evidence, message: &Message, requests: &[&Request], report: &mut Report) {
    let Some(finished_at) = message.finished_at else { return };
    let is_sent = message.status == MessageStatus::Sent;
    let received = requests.iter().any(|r| r.outcome == "received" && r.at_us <= finished_at);
    report.require(Rule::Received, received || !is_sent, || format!("{message:?} was never received"));
    // a request that is cut off at the end of the window may still arrive
    let last = if is_sent { finished_at } else { finished_at + micros(TRANSIT) };
    for request in requests.iter().filter(|r| r.at_us > last && !is_late(evidence, r.at_us)) {
        report.add(Rule::Ended, format!("{request:?} after the end of {message:?}"));
    }
}

fn check_gaps(
    evidence: &Evidence,
    message: &Message,
    requests: &[&Request],
    (attempts, replays): (&[&Attempt], &[usize]),
    report: &mut Report,
) {
    let delays = &evidence.limits.delays;
    // the retry schedule starts again with each replay
    let begins =
        |number: usize| replays.iter().copied().filter(|made| *made < number).max().unwrap_or_default();
    let numbers = attempts.iter().map(|attempt| attempt.number).chain([message.attempts]);
    let most = numbers.map(|number| number - begins(number)).max().unwrap_or_default();
    report.require(Rule::Gaps, most <= delays.len() + 1, || {
        format!("{message:?} has more attempts than the schedule's {} retries", delays.len())
    });
    // the provider reads an attempt that was cut off at the end of the window later, and no attempt follows it
    let (_, ends_at) = evidence.mailing.window;
    // a replay does not wait for the schedule
    let is_followed = |attempt: &&&Attempt| attempt.at < ends_at && !replays.contains(&attempt.number);
    for attempt in attempts.iter().filter(is_followed) {
        let sent = requests.iter().map(|request| request.at_us);
        let failed = attempts.iter().filter(|other| other.number > attempt.number).map(|other| other.at);
        let next = sent.filter(|at| *at > attempt.at && !is_late(evidence, *at)).chain(failed).min();
        let delay = delays
            .get((attempt.number - begins(attempt.number)).saturating_sub(1))
            .copied()
            .unwrap_or_default();
        report.require(Rule::Gaps, next.is_none_or(|next| next - attempt.at >= micros(delay)), || {
            format!("{attempt:?}: the next attempt is due {delay:?} later, not at {next:?}")
        });
    }
}

fn check_repeats<'e>(
    requests: &[&'e Request],
    attempts: &[&Attempt],
    again: &mut Vec<Again<'e>>,
    report: &mut Report,
) {
    // true if the last received request is known to have had no response
    let mut last: Option<bool> = None;
    // true if `before` is itself the second request of its attempt
    let mut is_second = false;
    for pair in requests.windows(2) {
        let [before, request] = pair else { continue };
        let is_recorded = attempts.iter().any(|a| (before.at_us..request.at_us).contains(&a.at));
        // a request on a kept connection that closed before the first byte does not count as an attempt; one request on
        // a new connection follows it
        let is_cut = !is_recorded && !is_second && before.outcome == "dropped";
        is_second = is_cut;
        if is_recorded {
            report.require(Rule::Repeats, before.outcome != "received", || {
                format!("{request:?}, although {before:?} got a successful response")
            });
        } else if before.outcome != "limited" && !is_cut {
            // a request refused by the provider's rate limit does not count as an attempt and need not be recorded
            again.push(Again { from: before.at_us, to: request.at_us, request, is_explained: false });
        }
        last = if before.is_received() { Some(is_recorded || is_cut) } else { last };
        if let (Some(is_unanswered), true) = (last, request.is_received()) {
            report.repeated += 1;
            *if is_unanswered { &mut report.unanswered } else { &mut report.in_flight } += 1;
        }
    }
}

/// Assigns an interruption to each repeat. Several interruptions may lie between a request and its repeat. Each
/// interruption explains the repeats that end first (earliest deadline first), which finds an assignment if one exists.
fn explain(evidence: &Evidence, mut again: Vec<Again<'_>>, report: &mut Report) {
    again.sort_by_key(|again| again.to);
    let mut moments: Vec<i64> = evidence.interruptions.iter().map(|moment| moment.at()).collect();
    moments.sort_unstable();
    for moment in moments {
        let open = again.iter_mut().filter(|again| !again.is_explained);
        let around = open.filter(|again| (again.from - micros(TRANSIT)..=again.to).contains(&moment));
        let mut count = 0;
        for again in around.take(evidence.limits.at_stake) {
            again.is_explained = true;
            count += 1;
        }
        report.most_at_once = report.most_at_once.max(count);
    }
    for again in again.iter().filter(|again| !again.is_explained) {
        report.add(Rule::Repeats, format!("{:?}, sent before at {}", again.request, again.from));
    }
}
