//! Every client that matches gets exactly one message.

use std::collections::BTreeSet;

use serde_json::json;

use crate::delivery::bench::{Bench, LONG, finals};
use crate::support::after;

const CODES: [u64; 4] = [903, 904, 905, 916];
const TAGS: [&str; 3] = ["vip", "base", ""];

/// Returns client `i` of 5,000, which have every code with every tag.
fn client(i: u64) -> (u64, u64, &'static str) {
    let code = CODES[usize::try_from(i % 4).expect("an index")];
    let tag = TAGS[usize::try_from(i / 4 % 3).expect("an index")];
    (70_000_000_000 + code * 10_000_000 + i, code, tag)
}

crate::on_each_database! {
    async fn every_client_of_a_code_of_a_tag_of_both_and_at_all_gets_exactly_one_message(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        let rows = (0..5000).map(client).map(|(phone, _, tag)| format!("{phone},{tag}\n"));
        bench.clients(format!("phone_number,tag\n{}", rows.collect::<String>())).await;
        type Matches = fn(u64, &str) -> bool;
        let cases: [(serde_json::Value, Matches); 5] = [
            (json!("903"), |code, _| code == 903),
            (json!("vip"), |_, tag| tag == "vip"),
            (json!({"mobile_operator_code": ["903", "916"], "tag": ["base", "vip"]}),
                |code, tag| (code == 903 || code == 916) && !tag.is_empty()),
            (json!({}), |_, _| true),
            (json!("nobody"), |_, _| false),
        ];
        let mut mailings = Vec::new();
        for (filter, matches) in cases {
            let body = json!({"text": "hello", "filter": filter, "ends_at": after(LONG)});
            mailings.push((bench.create(body).await, matches));
        }
        let mut received = 0;
        for (id, matches) in mailings {
            let expected: BTreeSet<String> = (0..5000).map(client)
                .filter(|(_, code, tag)| matches(*code, tag)).map(|(phone, ..)| phone.to_string()).collect();
            let counts = bench.closed(&id).await;
            assert_eq!(counts["sent"], expected.len(), "{counts}");
            assert_eq!(counts["total"].as_i64(), Some(finals(&counts)), "{counts}");
            let reached: BTreeSet<String> = bench.rows(&id).await.into_iter().map(|row| row.recipient).collect();
            assert_eq!(reached, expected);
            bench.each_received_once(&id).await;
            received += expected.len();
        }
        let stats = bench.provider.as_ref().expect("a provider").stats();
        assert_eq!((stats.requests, stats.distinct), (received as u64, received as u64));
        for request in bench.requests() {
            assert_eq!(request.key, Some(request.id));
        }
    }
}
