//! Each fault as a client sees it.

use super::*;

#[tokio::test]
async fn errors_refusals_and_garbage_come_on_demand() {
    let client = client();
    let sandbox = with(Faults { error_rate: 1.0, ..Faults::default() });
    assert_eq!(send(&sandbox, &client, ID).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);

    sandbox.set_faults(Faults { permanent_rate: 1.0, ..Faults::default() }).unwrap();
    let answer = send(&sandbox, &client, ID).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], 1);
    assert_eq!(sandbox.stats().received, 0);

    sandbox.set_faults(Faults { garbage_rate: 1.0, ..Faults::default() }).unwrap();
    let answer = send(&sandbox, &client, ID).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.json::<Value>().await.is_err());

    let stats = sandbox.stats();
    assert_eq!((stats.requests, stats.received), (3, 1));
    assert_eq!((stats.by_status.error, stats.by_status.rejected, stats.by_status.garbage), (1, 1, 1));
    sandbox.stop().await;
}

#[tokio::test]
async fn beyond_the_rate_limit_the_answer_is_429_with_retry_after() {
    let sandbox = with(Faults { rate_limit: std::num::NonZeroU32::new(1), ..Faults::default() });
    let client = client();
    // The requests fall into one or two seconds: at least one of three is over the limit, unless each took a second.
    let mut limited = None;
    for _ in 0..3 {
        let answer = send(&sandbox, &client, ID).await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            limited = Some(answer);
        }
    }
    assert_eq!(limited.unwrap().headers()["retry-after"], "1");
    let stats = sandbox.stats();
    assert_eq!(stats.received + stats.by_status.limited, 3);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_dropped_message_is_received_and_the_connection_cut_without_a_byte() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let faults = Faults { drop_rate: 1.0, ..Faults::default() };
    let sandbox =
        Sandbox::start(SandboxArgs { faults, log: Some(log.clone()), ..SandboxArgs::on_free_port() })
            .unwrap();
    let error = send(&sandbox, &client(), ID).await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{error:?}");
    assert_eq!(log_lines(&log)[0]["outcome"], "dropped");

    let body = format!(r#"{{"id":"{ID}","phone":1,"text":"x"}}"#);
    let mut raw = TcpStream::connect(sandbox.addr()).await.unwrap();
    let request =
        format!("POST /v1/send/{ID} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    raw.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    raw.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{answer:?}");

    let stats = sandbox.stats();
    assert_eq!((stats.received, stats.distinct, stats.repeated, stats.repeats), (2, 1, 1, 1));
    assert_eq!(stats.by_status.dropped, 2);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_hung_message_is_received_and_never_answered() {
    let sandbox = with(Faults { hang_rate: 1.0, ..Faults::default() });
    let client = client();
    let wait = Duration::from_millis(300);
    let answer = tokio::time::timeout(wait, send(&sandbox, &client, ID)).await;
    assert!(answer.is_err(), "{answer:?}");
    let stats = sandbox.stats();
    assert_eq!((stats.received, stats.by_status.hung), (1, 1));
    // Stopping does not wait for the ten minutes.
    let hung = tokio::spawn({
        let url = format!("{}/v1/send/{ID}", sandbox.base_url());
        let body = json!({"id": ID, "phone": 1, "text": "x"});
        async move { client.post(url).json(&body).send().await }
    });
    while sandbox.stats().by_status.hung < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(5), sandbox.stop()).await.unwrap();
    assert!(hung.await.unwrap().is_err());
}

#[tokio::test]
async fn latency_delays_the_answer_and_not_the_reception() {
    const LATENCY: Duration = Duration::from_secs(2);
    let sandbox = with(Faults { latency: LATENCY, ..Faults::default() });
    let started = Instant::now();
    let client = client();
    let mut answer = Box::pin(send(&sandbox, &client, ID));
    while sandbox.stats().received == 0 {
        tokio::select! {
            biased;
            _ = &mut answer => panic!("an answer before the reception"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    assert!(started.elapsed() >= LATENCY);
    sandbox.stop().await;
}

#[tokio::test]
async fn the_same_seed_has_the_same_luck() {
    let client = client();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let faults = Faults { error_rate: 0.3, garbage_rate: 0.3, ..Faults::default() };
        let sandbox =
            Sandbox::start(SandboxArgs { faults, seed: Some(7), ..SandboxArgs::on_free_port() }).unwrap();
        let mut answers = Vec::new();
        for _ in 0..40 {
            answers.push(send(&sandbox, &client, ID).await.unwrap().text().await);
        }
        runs.push(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>());
        let stats = sandbox.stats();
        assert!(stats.by_status.ok > 0 && stats.by_status.error > 0 && stats.by_status.garbage > 0);
        sandbox.stop().await;
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn many_clients_at_once_are_all_counted() {
    let sandbox = with(Faults { drop_rate: 0.2, error_rate: 0.2, ..Faults::default() });
    let client = client();
    let sends = (0..8).map(|task| {
        let (sandbox, client) = (&sandbox, &client);
        async move {
            for n in 0..50 {
                let id = uuid::Uuid::from_u128(task * 1000 + n).to_string();
                let _ = send(sandbox, client, &id).await;
            }
        }
    });
    futures_util::future::join_all(sends).await;
    let stats = sandbox.stats();
    assert_eq!(stats.requests, 400);
    assert_eq!(stats.received, stats.by_status.ok + stats.by_status.dropped);
    assert_eq!((stats.distinct, stats.repeated), (stats.received, 0));
    assert!(stats.by_status.dropped > 30 && stats.by_status.error > 30);
    sandbox.stop().await;
}
