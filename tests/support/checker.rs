//! The contract, checked from outside: what the provider wrote down against what the database says, and against when
//! the service was killed.
//!
//! Pure, and without a look at how the service works: [`check`] takes [`Evidence`] and names each [`Rule`] that it
//! breaks. `tests/checker` feeds it doctored evidence, `examples/check_books.rs` is it as a program.
//!
//! The provider's log has the last word. The service's own rows are believed only where the log bears them out: an
//! attempt counts as recorded if its row stands between two requests, otherwise the second one is a repeat.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use fanfare::kinds::MessageStatus;

/// From a request's being written to its being logged: the provider takes the time when it has read the request, and on
/// a busy machine that is later. Also from a node's waking to what it still sends.
pub const TRANSIT: Duration = Duration::from_secs(1);
/// How much of [`TRANSIT`] may differ between two requests for the rate: what was sent within a second and this much
/// more may arrive within one second, after the provider has stood still. The burst that the rule looks for, of a service
/// that begins anew with a whole second's messages, is twice the rate.
pub const JITTER: Duration = Duration::from_millis(250);
/// The rate is looked at over each of these: a burst is one of a second, and beside ten seconds [`JITTER`] is too small to
/// hide that two nodes send a little too much together all the time.
pub const RATE_SPANS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// What the contract promises, each by the name that a violation of it bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Each client of the audience has a message.
    Lost,
    /// No client has two, and nobody else has one.
    OneMessage,
    /// Each message is final, for a reason that can be, and nothing is left to do.
    FinalState,
    /// What is *sent* was received before.
    Received,
    /// What goes out again was in flight when a node died, or its answer never came.
    Repeats,
    /// Nothing goes out after its final state.
    Ended,
    /// Nothing goes out outside the window.
    Window,
    /// One id, one key and one phone for all attempts.
    Identity,
    /// Attempts keep the distance of the schedule, and there are no more of them.
    Gaps,
    /// The counters are the rows.
    Books,
    /// The rate holds in any second, for all nodes together: the provider's log does not tell them apart.
    Rate,
}

/// A line of the provider's log.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Request {
    /// When it arrived, in microseconds since the epoch, as all times here.
    pub at_us: i64,
    /// The message's id.
    pub id: String,
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    /// To whom.
    pub phone: Option<u64>,
    /// What became of it.
    pub outcome: String,
}

impl Request {
    /// Whether the message reached the phone, whatever the service was told.
    pub fn is_received(&self) -> bool {
        self.outcome == "received" || self.is_unanswered()
    }

    /// Whether it reached the phone, and no answer that can be read came back.
    fn is_unanswered(&self) -> bool {
        matches!(self.outcome.as_str(), "dropped" | "hung" | "garbage")
    }
}

/// Reads a log that `fanfare sandbox --log` writes, in the order of arrival.
pub fn read_requests(path: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(path).expect("the provider's log");
    // the last line may be half written
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut requests: Vec<Request> =
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect();
    requests.sort_by_key(|request| request.at_us);
    requests
}

/// A client whom the mailing's filter lets through.
#[derive(Debug, Clone)]
pub struct Person {
    /// Its id.
    pub id: String,
    /// Its phone.
    pub phone: u64,
}

/// A mailing's row.
#[derive(Debug, Clone)]
pub struct Mailing {
    /// Its window.
    pub window: (i64, i64),
    /// Whether it was cancelled.
    pub is_cancelled: bool,
    /// Whether its books are closed.
    pub is_settled: bool,
    /// Its recipients.
    pub total: i64,
    /// Sent, failed, expired, cancelled.
    pub counts: [i64; 4],
}

/// A message's row.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// For whom.
    pub client: Option<String>,
    /// Its phone.
    pub phone: Option<u64>,
    /// What has become of it.
    pub status: MessageStatus,
    /// Attempts made.
    pub attempts: usize,
    /// When it became final.
    pub finished_at: Option<i64>,
}

/// The row of an attempt that did not deliver.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The message's id.
    pub message: String,
    /// The first is 1.
    pub number: usize,
    /// When it failed.
    pub at: i64,
}

/// A time that a message was replayed after it had failed.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The message's id.
    pub message: String,
    /// How many attempts had been made.
    pub attempts: usize,
}

/// A moment at which a node lost its memory, or came to itself again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// It was killed, or stopped for so long that its pages were taken over.
    Lost(i64),
    /// A stopped one went on: what it had begun to send goes out, though its pages are another's.
    Woke(i64),
}

impl Interruption {
    fn at(self) -> i64 {
        match self {
            Self::Lost(at) | Self::Woke(at) => at,
        }
    }
}

/// What the service was told to keep.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What one interruption may repeat: the requests in flight, and two groups of outcomes that are not on disk.
    pub at_stake: usize,
    /// Between an attempt's failure and the next one.
    pub delays: Vec<Duration>,
    /// Requests a second.
    pub rate: Option<f64>,
}

impl Limits {
    /// What so many requests in flight and outcomes in a group put at stake.
    pub fn at_stake(concurrency: usize, record_batch: usize) -> usize {
        concurrency + 2 * record_batch
    }
}

/// All that is known of a mailing whose books are closed.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What the provider received, in the order of arrival.
    pub requests: Vec<Request>,
    /// Whom the filter lets through.
    pub audience: Vec<Person>,
    /// The mailing.
    pub mailing: Mailing,
    /// Its messages.
    pub messages: Vec<Message>,
    /// Their attempts.
    pub attempts: Vec<Attempt>,
    /// When which of them were replayed.
    pub replays: Vec<Replayed>,
    /// Ids of its dead letters.
    pub dead_letters: Vec<String>,
    /// Rows that say that something is still to be done: pages, and messages that wait.
    pub left_over: usize,
    /// What was done to the service.
    pub interruptions: Vec<Interruption>,
    /// What it was told to keep.
    pub limits: Limits,
}

/// A line of the contract that does not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// What shows it.
    pub what: String,
}

/// What came of a check.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// Interruptions.
    pub interruptions: usize,
    /// Messages.
    pub messages: usize,
    /// Requests, answered or not.
    pub requests: usize,
    /// Clients without a message.
    pub lost: usize,
    /// Messages received once more than needed, each time.
    pub repeated: usize,
    /// Of these, those that were in flight at an interruption before.
    pub in_flight: usize,
    /// Of these, those that had not been answered before.
    pub unanswered: usize,
    /// The most requests that one interruption had made again, received or not.
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
        // a broken run breaks a rule thousands of times over
        self.violations.iter().take(20).try_for_each(|v| write!(f, "\n  {:?}: {}", v.rule, v.what))
    }
}

impl Report {
    fn add(&mut self, rule: Rule, what: impl Into<String>) {
        self.violations.push(Violation { rule, what: what.into() });
    }

    /// Adds this violation, if it is one.
    fn require(&mut self, rule: Rule, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, what());
        }
    }

    /// Which rules were broken.
    pub fn broken(&self) -> HashSet<Rule> {
        self.violations.iter().map(|violation| violation.rule).collect()
    }
}

/// Checks every line of the contract.
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
        report.add(Rule::OneMessage, format!("client {client} has a message and is not of the audience"));
    }
}

fn check_states(evidence: &Evidence, report: &mut Report) {
    let Evidence { mailing, left_over, .. } = evidence;
    report.require(Rule::FinalState, mailing.is_settled, || format!("the books are open: {mailing:?}"));
    report.require(Rule::FinalState, *left_over == 0, || {
        format!("{left_over} pages and waiting messages are left")
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
            format!("{count} {status} in the books, {rows} in the rows")
        });
    }
    let sum: i64 = mailing.counts.iter().sum();
    report.require(Rule::Books, sum == mailing.total, || format!("{sum} of {} add up", mailing.total));
    report.require(Rule::Books, i64::try_from(evidence.audience.len()) == Ok(mailing.total), || {
        format!("{} recipients in the books, {} in the audience", mailing.total, evidence.audience.len())
    });

    let dead: HashSet<&str> = evidence.dead_letters.iter().map(String::as_str).collect();
    let mut attempts: HashMap<&str, usize> = HashMap::new();
    evidence.attempts.iter().for_each(|attempt| *attempts.entry(&attempt.message).or_default() += 1);
    for message in &evidence.messages {
        let is_dead = dead.contains(message.id.as_str());
        report.require(Rule::Books, is_dead == (message.status == MessageStatus::Failed), || {
            format!("{message:?}: a dead letter is what failed ({is_dead})")
        });
        // the one that delivered stands in the message
        let failed = message.attempts.saturating_sub(usize::from(message.status == MessageStatus::Sent));
        let rows = attempts.get(message.id.as_str()).copied().unwrap_or_default();
        report.require(Rule::Books, rows == failed, || format!("{message:?} has {rows} rows of attempts"));
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
        report.require(Rule::Identity, is_its_own, || format!("{request:?} of {known:?}"));
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
            format!("{count} requests in the {span:?} from {from}, where {most:.1} may be")
        });
    }
}

/// A request that was made although the one before it is not in the rows, and when that was.
struct Again<'e> {
    from: i64,
    to: i64,
    request: &'e Request,
    is_explained: bool,
}

/// Checks each message's requests one after another: what came between two of them.
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

/// Whether a node that had just come to itself may have sent it.
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
    // what is cut off at the end of the window may still be on its way
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
    // a schedule begins anew with each replay
    let begins =
        |number: usize| replays.iter().copied().filter(|made| *made < number).max().unwrap_or_default();
    let numbers = attempts.iter().map(|attempt| attempt.number).chain([message.attempts]);
    let most = numbers.map(|number| number - begins(number)).max().unwrap_or_default();
    report.require(Rule::Gaps, most <= delays.len() + 1, || {
        format!("{message:?} where {} are tried again", delays.len())
    });
    // one that was cut off at the end of the window is read by the provider later, and nothing follows it
    let (_, ends_at) = evidence.mailing.window;
    // whoever replays a message waits for no schedule
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
            format!("{attempt:?}, {delay:?} and then the next, not at {next:?}")
        });
    }
}

fn check_repeats<'e>(
    requests: &[&'e Request],
    attempts: &[&Attempt],
    again: &mut Vec<Again<'e>>,
    report: &mut Report,
) {
    // whether the last one that was received is known to have had no answer
    let mut last: Option<bool> = None;
    // whether `before` is itself the second request of its attempt
    let mut is_second = false;
    for pair in requests.windows(2) {
        let [before, request] = pair else { continue };
        let is_recorded = attempts.iter().any(|a| (before.at_us..request.at_us).contains(&a.at));
        // a kept connection that is closed before a byte came is no attempt, and followed by one request on a new one
        let is_cut = !is_recorded && !is_second && before.outcome == "dropped";
        is_second = is_cut;
        if is_recorded {
            report.require(Rule::Repeats, before.outcome != "received", || {
                format!("{request:?}, although {before:?} was answered well")
            });
        } else if before.outcome != "limited" && !is_cut {
            // one that was refused by the provider's limit is no attempt, and need not be recorded
            again.push(Again { from: before.at_us, to: request.at_us, request, is_explained: false });
        }
        last = if before.is_received() { Some(is_recorded || is_cut) } else { last };
        if let (Some(is_unanswered), true) = (last, request.is_received()) {
            report.repeated += 1;
            *if is_unanswered { &mut report.unanswered } else { &mut report.in_flight } += 1;
        }
    }
}

/// Finds an interruption for each repeat. Several may lie between a request and the next; the repeats whose time ends
/// first take what an interruption may explain first, which finds a way if there is one.
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
