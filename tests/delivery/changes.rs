//! Changes clients while a mailing runs.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::delivery::bench::{Bench, LONG, finals, lines};
use crate::support::after;

/// Returns the clients of a tag.
async fn clients_of(bench: &Bench, tag: &str) -> Vec<Value> {
    let list = bench.get(&format!("/clients?tag={tag}&limit=1000")).await;
    list["items"].as_array().expect("clients").clone()
}

crate::on_each_database! {
    async fn clients_that_move_leave_or_join_while_it_runs_get_at_most_one_message(kind: Database) {
        let settings = [("channels.rate_per_second", "400"), ("delivery.page_size", "20"), ("delivery.lane_capacity", "40")];
        let bench = Bench::start(kind, &settings).await;
        let csv = format!("phone_number,tag\n{}{}{}", lines(79030000000..79030000300, "a"),
            lines(79040000000..79040000300, "b"), lines(79050000000..79050000300, "c"));
        bench.clients(csv).await;
        let (first, last) = (clients_of(&bench, "a").await, clients_of(&bench, "c").await);
        let id = bench.create(json!({"text": "x", "filter": {"tag": ["a", "b", "c"]}, "ends_at": after(LONG)})).await;
        bench.received(60).await;
        // paused, so that even slow changes come in its middle
        bench.post(&format!("/mailings/{id}/pause"), json!({})).await;
        let change = async |client: &Value, tag: &str| {
            let path = format!("/clients/{}", client["id"].as_str().expect("an id"));
            let (status, body) = bench.call("PATCH", &path, Some(json!({"tag": tag}))).await;
            assert_eq!(status, 200, "{body}");
        };
        for i in 0..40 {
            change(&first[i], "c").await;
            change(&last[i], "a").await;
            change(&last[299 - i], "nobody").await;
            let path = format!("/clients/{}", last[200 - i]["id"].as_str().expect("an id"));
            assert_eq!(bench.call("DELETE", &path, None).await.0, 200);
        }
        bench.clients(format!("phone_number,tag\n{}", lines(79060000000..79060000100, "c"))).await;
        let resumed = bench.post(&format!("/mailings/{id}/resume"), json!({})).await;
        assert!(resumed["counts"]["queued"].as_i64() > Some(400), "{resumed}");
        let counts = bench.closed(&id).await;
        assert_eq!(counts["total"].as_i64(), Some(finals(&counts)), "{counts}");
        bench.each_received_once(&id).await;
        let phones: Vec<_> = bench.requests().iter().map(|request| request.phone).collect();
        let distinct: HashSet<_> = phones.iter().collect();
        assert_eq!(distinct.len(), phones.len(), "each client got at most one message");
        assert!(phones.iter().all(|phone| *phone < Some(79060000000)), "clients newer than the start are not in it");
        assert!(phones.len() >= 900 - 80, "clients that stayed or moved to the beginning got one: {}", phones.len());
    }
}

crate::on_each_database! {
    async fn a_client_deleted_between_two_attempts_ends_in_one_final_state(kind: Database) {
        let faults = fanfare::sandbox::Faults { error_rate: 1.0, ..Default::default() };
        let bench = Bench::with_faults(kind, &[("retry.first_delay", "400ms")], faults).await;
        bench.clients("phone_number,tag,name\n79030000001,vip,Anna\n79030000002,vip,Boris\n".into()).await;
        let id = bench.create(json!({"text": "Dear {{ name }}", "filter": "vip", "ends_at": after(LONG)})).await;
        bench.received(2).await;
        let gone = clients_of(&bench, "vip").await[0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(bench.call("DELETE", &format!("/clients/{gone}"), None).await.0, 200);
        bench.set_faults(Default::default());
        let counts = bench.closed(&id).await;
        // cancelled while it waits, or failed without a name if its first attempt was still being recorded
        let over = ["cancelled", "failed"].map(|status| counts[status].as_i64().expect("a count"));
        assert_eq!((counts["sent"].as_i64(), over[0] + over[1]), (Some(1), 1), "{counts}");
        let row = bench.rows(&id).await.into_iter().find(|row| row.error.is_some()).expect("a reason");
        assert!(row.error.is_some_and(|why| why.contains("deleted")));
    }
}
