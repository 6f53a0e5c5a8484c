use krafka::consumer::ConsumerRecord;

use super::*;
use crate::broker::{Partition, Position};

fn position(topic: &str, incarnation: i32) -> Position {
    let partition = Partition { group: "fanfare".to_owned(), topic: topic.to_owned(), number: 3 };
    Position { partition, topic_id: [0; 16], incarnation, next: 0 }
}

#[test]
fn topics_are_selected_by_names_or_by_a_pattern() {
    let topics: Topics = "orders, users.v1".parse().unwrap();
    assert!(topics.contain("orders") && topics.contain("users.v1") && !topics.contain("users-v1"));
    let topics: Topics = r"^orders\..*|^users".parse().unwrap();
    for (name, is_read) in [("orders.eu", true), ("users", true), ("users2", false), ("my.orders.eu", false)]
    {
        assert_eq!(topics.contain(name), is_read, "{name}");
    }
    let all: Topics = "^.*".parse().unwrap();
    assert!(all.contain("a") && !all.contain("__consumer_offsets"));
    for (wrong, says) in [
        ("", "names of 1 to 249"),
        ("a,,b", "names of 1 to 249"),
        ("über", "names of 1 to 249"),
        ("..", "names of 1 to 249"),
        ("^(", "a regular expression"),
    ] {
        let said = wrong.parse::<Topics>().unwrap_err();
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[test]
fn an_invalid_broker_address_is_refused() {
    for good in ["kafka:9092", "kafka-1:9092, kafka-2:9093", "[::1]:9092"] {
        assert_eq!(Access::check(good), Ok(()), "{good}");
    }
    for wrong in ["", "kafka", "kafka:0", "kafka:port", "kafka:9092,", "kafka://a:9092", ":9092"] {
        assert!(Access::check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_record_is_identified_by_its_header_or_its_place() {
    let record = |headers: &[(&str, &str)]| {
        let mut record = ConsumerRecord::new("orders", 3, 17, None, Some("{}".into()));
        for (name, value) in headers {
            record.headers.push(((*name).to_owned(), Some((*value).to_owned().into())));
        }
        record
    };
    let event = |headers: &[(&str, &str)]| records::event(record(headers), &position("orders", 0)).unwrap();
    let plain = event(&[]);
    assert_eq!((plain.key.as_str(), plain.subject.as_str()), ("orders/3/17", "orders/3/17"));
    assert_eq!(plain.name, None);
    let named = event(&[("id", "o-1"), ("event", "order.paid")]);
    assert_eq!((named.key.as_str(), named.name.as_deref()), ("o-1", Some("order.paid")));
    assert!(
        records::event(ConsumerRecord::new("orders", 3, 17, Some("k".into()), None), &position("orders", 0))
            .is_none()
    );
}

#[test]
fn places_in_a_recreated_topic_differ() {
    assert_eq!(records::place(&position("orders", 0), 5), "orders/3/5");
    assert_eq!(records::place(&position("orders", 2), 5), "orders~2/3/5");
    let (long, other) = ("x".repeat(249), format!("{}y", "x".repeat(248)));
    let (long, other) =
        (records::place(&position(&long, 1), i64::MAX), records::place(&position(&other, 1), i64::MAX));
    assert!(long.len() <= 200 && long != other, "{long}");
}
