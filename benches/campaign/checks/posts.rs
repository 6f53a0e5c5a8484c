//! The client that posts notifications, and the display of its measurements.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::collections::{BTreeMap, HashSet};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::args::{EventsAs, Kind};
use crate::creations::{
    Creation, Creations, Events, Form, Spike, creations_json, creations_text, events_json, events_text,
    spike_json, spikes_text,
};
use crate::load::Load;
use crate::schedules::{Schedule, Scheduled, schedules_json, schedules_text};
use crate::statistics::Figure;
use crate::wire::{Answer, PLACE, Request};

#[test]
fn no_two_requests_have_a_number_in_common() {
    let mut request = Request::post("/x", &format!("key: {PLACE}\r\n"), &format!("[{PLACE},{PLACE}]"));
    let first = "POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nkey: 0000000\r\ncontent-length: 17\r\n\r\n[0000001,0000002]";
    assert_eq!(std::str::from_utf8(request.numbered(0)).unwrap(), first);
    assert!(request.numbered(41).ends_with(b"[0000124,0000125]"));
    assert!(request.numbered(1).ends_with(b"[0000004,0000005]"), "the digits of before are overwritten");
}

#[test]
fn of_an_answer_is_read_what_has_to_be_known() {
    let id = Uuid::now_v7();
    let head = format!(
        "HTTP/1.1 201 Created\r\nContent-Length: 5\r\nlocation: /api/v1/notifications/{id}\r\ndate: x\r\n\r\n"
    );
    let read = |text: &str| Answer::read(text.as_bytes());
    let expected = Answer { status: 201, retry_after: None, made: Some(id), length: head.len() + 5 };
    assert_eq!(read(&head), Ok(Some(expected)));
    assert_eq!(read(&format!("{head}hel")), Ok(Some(expected)));
    assert_eq!(read(&head[..head.len() - 1]), Ok(None), "the head is not all there");
    let busy = read("HTTP/1.1 503 X\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap();
    assert_eq!((busy.status, busy.retry_after, busy.made), (503, Some(2), None));
    assert!(read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    assert!(read("hello\r\ncontent-length: 0\r\n\r\n").is_err());
}

/// Responds to each request with the next response, over one connection after the other.
async fn answer(listener: TcpListener, answers: Vec<&'static str>) -> Vec<String> {
    let mut seen = Vec::new();
    let mut connection: Option<TcpStream> = None;
    for next in answers {
        let mut socket = match connection.take() {
            Some(socket) => socket,
            None => listener.accept().await.unwrap().0,
        };
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}") {
            assert!(socket.read_buf(&mut bytes).await.unwrap() > 0);
        }
        seen.push(String::from_utf8(bytes).unwrap());
        // in two pieces: the client must not take the first for the whole
        let (begin, end) = next.split_at(next.len() / 2);
        socket.write_all(begin.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        socket.write_all(end.as_bytes()).await.unwrap();
        connection = Some(socket);
    }
    seen
}

const MADE: &str = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\nlocation: /n/019ec18e-3119-7000-8000-000000000001\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\n{}";
const WRONG: &str = "HTTP/1.1 422 No\r\ncontent-length: 2\r\n\r\n{}";
const AWAY: &str = "HTTP/1.1 503 Away\r\ncontent-length: 2\r\n\r\n{}";

async fn post(
    requests: u64,
    answers: Vec<&'static str>,
) -> (Result<crate::load::Answers, String>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let load = Load {
        address: listener.local_addr().unwrap().to_string(),
        connections: 1,
        requests,
        request: Request::post("/n", "", &format!("{{\"n\":{PLACE}}}")),
        expects: 201,
    };
    tokio::join!(load.post(), answer(listener, answers))
}

#[tokio::test]
async fn what_is_refused_is_posted_again_and_counted() {
    let (answers, seen) = post(2, vec![MADE, BUSY, BUSY, MADE]).await;
    let answers = answers.unwrap();
    assert_eq!((answers.each.len(), answers.made.len(), answers.refused), (2, 2, 2));
    assert!(answers.took > 0.0);
    let distinct: HashSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (4, 2), "the same request again, not the next one");
}

#[tokio::test]
async fn any_other_answer_ends_the_measurement() {
    for wrong in [WRONG, AWAY, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"] {
        let (answers, _) = post(2, vec![MADE, wrong]).await;
        assert!(answers.unwrap_err().contains("HTTP/1.1"), "{wrong}");
    }
}

fn figure(values: &[f64]) -> Figure {
    Figure(values.to_vec())
}

#[test]
fn what_is_written_is_set_beside_its_dry_run() {
    let creation =
        |rate: f64| Creation { per_second: figure(&[rate]), request: vec![1.0, 2.0], ..Creation::default() };
    let rates = [
        (Form::Rehearsed, 20_000.0),
        (Form::Single, 5000.0),
        (Form::Keyed, 4000.0),
        (Form::RehearsedBatch, 200_000.0),
        (Form::Batch, 50_000.0),
    ];
    let creations: Creations =
        rates.into_iter().map(|(form, rate)| ((Kind::Sqlite, form), creation(rate))).collect();
    let text = creations_text(&creations).unwrap();
    let cells = |line: usize| -> Vec<String> {
        let line = text.lines().nth(line).unwrap();
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let beginnings: Vec<Vec<String>> = (2..7).map(|line| cells(line)[1..6].to_vec()).collect();
    let expected = [
        ["single, dry run", "20,000", "-", "1.00", "2.00"],
        ["single", "5,000", "0.25", "1.00", "2.00"],
        ["single with a key", "4,000", "0.20", "1.00", "2.00"],
        ["batch, dry run", "200,000", "-", "1.00", "2.00"],
        ["batch", "50,000", "0.25", "1.00", "2.00"],
    ];
    assert_eq!(beginnings, expected);
    let json = creations_json(&creations);
    assert_eq!(json.len(), 5);
    assert_eq!(json[1]["of_dry_run"]["median"], 0.25);
    assert!(json[0]["of_dry_run"].is_null());
    assert_eq!(creations_text(&Creations::new()), None);
}

#[test]
fn a_spike_is_one_line_for_each_database() {
    let spike = Spike {
        accepted: figure(&[10.0, 20.0]),
        refused: figure(&[0.0, 7.0]),
        lateness: vec![30.0],
        ..Spike::default()
    };
    let text = spikes_text(&BTreeMap::from([(Kind::Postgres, spike.clone())]), 100_000, 5000).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "A spike of 100,000 single notifications in the middle of a mailing of 5,000");
    assert!(lines[2].starts_with("PostgreSQL  15.0 (10.0–20.0)"), "{text}");
    assert!(lines[2].contains("4 (0–7)") && lines[2].contains("30.0"), "{text}");
    let json = spike_json(&spike, 100_000, 5000);
    assert_eq!((&json["refused"]["highest"], &json["recipients"]), (&7.0.into(), &5000.into()));
    assert_eq!(spikes_text(&BTreeMap::new(), 1, 1), None);
}

#[test]
fn a_spike_of_events_is_one_line_for_each_database() {
    let events = Events {
        per_second: figure(&[9000.0]),
        refused: figure(&[3.0]),
        lost: figure(&[0.0]),
        ..Events::default()
    };
    let spikes = BTreeMap::from([(Kind::Sqlite, events.clone())]);
    let text = events_text(&spikes, 50_000, EventsAs::Events).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "A spike of 50,000 events (over 64 connections)");
    assert!(lines[2].starts_with("SQLite") && lines[2].contains("9,000"), "{text}");
    assert!(events_text(&spikes, 1, EventsAs::Notifications).unwrap().contains("1 notifications as events"));
    let json = events_json(&events, 50_000);
    assert_eq!((&json["refused"]["median"], &json["lost"]["median"]), (&3.0.into(), &0.0.into()));
    assert_eq!(events_text(&BTreeMap::new(), 1, EventsAs::Events), None);
}

#[test]
fn each_schedule_of_requests_is_one_line() {
    let scheduled = Scheduled {
        lateness: vec![1.0, 20.0, 300.0],
        result: vec![4.0],
        repeated: figure(&[0.0]),
        ..Scheduled::default()
    };
    let killed = Scheduled { away: figure(&[1.5]), ..scheduled.clone() };
    let schedules = BTreeMap::from([
        ((Kind::Sqlite, Schedule::Minute), killed),
        ((Kind::Sqlite, Schedule::Moment), scheduled),
    ]);
    let text = schedules_text(&schedules).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[2].starts_with("SQLite    1,000 at one moment") && lines[2].contains("20.0"), "{text}");
    assert!(lines[3].contains("10,000 in a minute, kill -9") && lines[3].contains("1.50"), "{text}");
    let json = schedules_json(&schedules);
    assert_eq!((&json[0]["lateness_ms"]["max"], &json[0]["killed"]), (&300.0.into(), &false.into()));
    assert_eq!((&json[1]["requests"], &json[1]["away_s"]["median"]), (&10_000.into(), &1.5.into()));
    assert_eq!(schedules_text(&BTreeMap::new()), None);
}
