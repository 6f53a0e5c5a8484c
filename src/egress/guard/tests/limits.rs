//! Attempts of a server or a name server to delay or to flood the service, and their limits.

use std::sync::mpsc;

use super::*;

fn soon() -> Settings {
    Settings { timeout: Duration::from_millis(300), ..loopback() }
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_cut_and_its_connection_closed() {
    let server = Server::new().await;
    let guard = Guard::new(&loopback()).unwrap();
    let length = 10 * 1024 * 1024;
    let chunk = format!("{:x}\r\n{}\r\n", length, "a".repeat(length));
    for said in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "a".repeat(length)),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"),
    ] {
        let (answered, (mut socket, _)) =
            tokio::join!(post(&guard, server.url()), server.answer(said.as_bytes()));
        let answered = answered.unwrap();
        assert_eq!((answered.status.as_u16(), answered.end), (200, BodyEnd::TooLong));
        assert_eq!(answered.body, vec![b'a'; 1024]);
        assert!(!matches!(socket.read(&mut [0]).await, Ok(1..)), "it is closed");
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_given_up() {
    let server = Server::new().await;
    let guard = Guard::new(&Settings { longest_head: 16 * 1024, ..loopback() }).unwrap();
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n", "a".repeat(1024 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(10_000));
    for said in [long, many] {
        let (answered, _) = tokio::join!(post(&guard, server.url()), server.answer(said.as_bytes()));
        assert_eq!(answered.unwrap_err(), RequestFailure::HeadTooLong);
    }
}

/// Sends `said` byte by byte, without an end.
async fn trickle(server: &Server, head: &[u8], said: u8) {
    let (mut socket, _) = server.answer(head).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        if socket.write_all(&[said]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_answer_byte_by_byte_ends_with_the_time_for_all_of_it() {
    let server = Server::new().await;
    let guard = Guard::new(&soon()).unwrap();
    let head = b"HTTP/1.1 200 OK\r\nx-slow: ";
    // the server stops when the client stops reading
    let (answered, ()) = tokio::join!(post(&guard, server.url()), trickle(&server, head, b'a'));
    assert_eq!(answered.unwrap_err(), RequestFailure::TimedOut);
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    let (answered, ()) = tokio::join!(post(&guard, server.url()), trickle(&server, head, b'a'));
    let answered = answered.unwrap();
    assert_eq!((answered.status.as_u16(), answered.end), (200, BodyEnd::TimedOut));
    // endless interim responses
    let (answered, ()) = tokio::join!(post(&guard, server.url()), async {
        let (mut socket, _) = server.answer(b"").await;
        while socket.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(answered.unwrap_err(), RequestFailure::TimedOut);
}

#[tokio::test]
async fn a_server_that_says_nothing_and_a_handshake_without_an_end_are_given_up() {
    let server = Server::new().await;
    let guard = Guard::new(&soon()).unwrap();
    for url in [server.url(), server.url().replace("http:", "https:")] {
        assert_eq!(post(&guard, &url).await.unwrap_err(), RequestFailure::TimedOut);
    }
}

#[tokio::test]
async fn slow_name_servers_hold_up_no_more_threads_than_they_may() {
    let settings = Settings { lookups_at_once: 2, lookup_timeout: Duration::from_millis(100), ..loopback() };
    let (began, begun) = mpsc::channel();
    let (go_on, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let slow: Resolver = Arc::new(move |name| {
        began.send(name.to_owned()).unwrap();
        if name.starts_with("slow") {
            let _ = held.lock().unwrap().recv();
        }
        Err(std::io::ErrorKind::NotFound.into())
    });
    let guard = Guard::with_resolver(&settings, slow).unwrap();
    let urls = ["http://slow1/", "http://slow2/", "http://slow3/", "http://slow4/"];
    let failures = futures_util::future::join_all(urls.map(|url| post(&guard, url))).await;
    for failure in failures {
        assert_eq!(failure.unwrap_err(), RequestFailure::LookupTimedOut);
    }
    assert_eq!(begun.try_iter().count(), 2);
    // an address needs no lookup thread
    let server = Server::new().await;
    let said = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (answered, _) = tokio::join!(post(&guard, server.url()), server.answer(said));
    assert_eq!(answered.unwrap().status, 204);
    // the threads are released
    drop(go_on);
    while !matches!(post(&guard, "http://quick/").await, Err(RequestFailure::NameNotFound)) {}
}

#[tokio::test]
async fn there_are_no_more_connections_than_may_be_and_who_waits_gets_one() {
    let servers = [Server::new().await, Server::new().await, Server::new().await];
    let settings = Settings { connections: 2, ..loopback() };
    let guard = Guard::new(&settings).unwrap();
    let said = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let mut sockets = Vec::new();
    for server in &servers {
        let url = server.url();
        let (answered, (socket, _)) = tokio::join!(post(&guard, &url), server.answer(said));
        assert_eq!(answered.unwrap().status, 200);
        sockets.push(socket);
    }
    // an idle connection does not keep another host from a permit
    assert_eq!(guard.connections.available_permits(), 1);
    let guard = Guard::new(&settings).unwrap();
    let urls = servers.each_ref().map(Server::url);
    let all = futures_util::future::join_all(urls.iter().map(|url| post(&guard, url)));
    let answer = |server| async move { Server::answer(server, said).await };
    let serve = futures_util::future::join_all(servers.iter().map(answer));
    let (answers, _) = tokio::join!(all, serve);
    assert!(answers.into_iter().all(|answered| answered.unwrap().status == 200));
}
