//! The request that is sent, and the interpretation of responses.

use super::*;

#[tokio::test]
async fn a_request_is_as_it_should_be_and_its_connection_is_used_again() {
    let server = Server::new().await;
    let guard = Guard::new(&loopback()).unwrap();
    let serve = async {
        let mut socket = server.accept().await;
        let mut requests = Vec::new();
        for _ in 0..2 {
            requests.push(read(&mut socket).await);
            let said = "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 5\r\ncontent-encoding: gzip\r\nset-cookie: a=b\r\n\r\ntaken";
            socket.write_all(said.as_bytes()).await.unwrap();
        }
        requests
    };
    let calls = async {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut ask = ask(&guard, &format!("{}/a%20b?c=d&e#f", server.url())).unwrap();
            for (name, value) in [
                ("host", "evil.example"),
                ("content-length", "1"),
                ("transfer-encoding", "chunked"),
                ("connection", "upgrade"),
                ("upgrade", "h2c"),
                ("expect", "100-continue"),
                ("proxy-connection", "close"),
                ("x-mine", "kept"),
            ] {
                let name = HeaderName::from_static(name);
                ask.headers.insert(name, HeaderValue::from_static(value));
            }
            answers.push(guard.send(ask).await.unwrap());
        }
        answers
    };
    let (requests, answers) = tokio::join!(serve, calls);
    let host = server.0.local_addr().unwrap();
    let agent = crate::egress::USER_AGENT;
    let expected = format!(
        "POST /hook/a%20b?c=d&e HTTP/1.1\r\nx-mine: kept\r\nhost: {host}\r\nuser-agent: {agent}\r\ncontent-length: 5\r\n\r\nhello"
    );
    for (request, answer) in requests.iter().zip(answers) {
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(request), lines(&expected));
        assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, b"taken".as_slice()));
        assert_eq!(
            (answer.end, answer.headers.get("x-a").unwrap().as_bytes()),
            (BodyEnd::Whole, b"b".as_slice())
        );
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let server = Server::new().await;
    let guard = Guard::new(&loopback()).unwrap();
    let url = server.url();
    let said = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for _ in 0..3 {
        let serve = async { server.answer(said).await.0.shutdown().await.unwrap() };
        let (answered, ()) = tokio::join!(post(&guard, &url), serve);
        assert_eq!(answered.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_is_sent_once_more_on_a_new_one() {
    let server = Server::new().await;
    let guard = Guard::new(&loopback()).unwrap();
    let said = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let serve = async {
        let (mut kept, _) = server.answer(said).await;
        read(&mut kept).await;
        drop(kept);
        server.answer(said).await
    };
    let calls = async { (post(&guard, server.url()).await, post(&guard, server.url()).await) };
    let (_, (first, second)) = tokio::join!(serve, calls);
    assert_eq!((first.unwrap().status.as_u16(), second.unwrap().status.as_u16()), (200, 200));
}

/// A response that arrives byte by byte is read like one that arrives at once.
#[tokio::test]
async fn an_odd_head_in_pieces_is_read_and_its_connection_is_used_again() {
    let server = Server::new().await;
    let guard = Guard::new(&loopback()).unwrap();
    let said = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A : b\r\n c\r\nno colon\r\nContent-Length : 5\r\n\r\ntaken";
    let serve = async {
        let mut socket = server.accept().await;
        for _ in 0..2 {
            read(&mut socket).await;
            for byte in said.bytes() {
                socket.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        socket
    };
    let calls = async { [post(&guard, server.url()).await, post(&guard, server.url()).await] };
    let (_socket, answers) = tokio::join!(serve, calls);
    for answered in answers {
        let answered = answered.unwrap();
        assert_eq!((answered.status.as_u16(), answered.body.as_slice()), (200, b"taken".as_slice()));
        assert_eq!(
            (answered.end, answered.headers.get("x-a").unwrap().as_bytes()),
            (BodyEnd::Whole, &b"b c"[..])
        );
    }
}

#[tokio::test]
async fn each_way_of_getting_no_answer_is_told_apart() {
    let server = Server::new().await;
    let guard = Guard::new(&loopback()).unwrap();
    for (said, failure) in [
        ("", RequestFailure::CutOff),
        ("HTTP/1.1 200 OK\r\ncontent-le", RequestFailure::CutOff),
        ("SSH-2.0-OpenSSH\r\n\r\n", RequestFailure::NotHttp),
        ("HTTP/1.1\r\ncontent-length: 0\r\n\r\n", RequestFailure::NotHttp),
    ] {
        let (answered, _) = tokio::join!(post(&guard, server.url()), async {
            server.answer(said.as_bytes()).await.0.shutdown().await.unwrap();
        });
        assert_eq!(answered.unwrap_err(), failure, "{said}");
    }
    let https = server.url().replace("http:", "https:");
    let garble = async {
        let mut socket = server.accept().await;
        socket.write_all(b"no TLS here\r\n\r\n").await.unwrap();
        socket
    };
    let (answered, _socket) = tokio::join!(post(&guard, &https), garble);
    assert_eq!(answered.unwrap_err(), RequestFailure::Tls);
    let url = server.url();
    drop(server);
    assert_eq!(post(&guard, &url).await.unwrap_err(), RequestFailure::Unreachable);
    let nobody =
        Guard::with_resolver(&loopback(), Arc::new(|_| Err(std::io::ErrorKind::NotFound.into()))).unwrap();
    assert_eq!(post(&nobody, "http://nobody.example/").await.unwrap_err(), RequestFailure::NameNotFound);
    let empty = Guard::with_resolver(&loopback(), leads_to(&[])).unwrap();
    assert_eq!(post(&empty, "http://nobody.example/").await.unwrap_err(), RequestFailure::NameNotFound);
}

#[tokio::test]
async fn a_tunnel_and_an_echo_are_refused_and_a_bound_of_zero_too() {
    let guard = Guard::new(&loopback()).unwrap();
    for method in [Method::CONNECT, Method::TRACE] {
        let ask = HttpRequest { method, ..ask(&guard, "http://127.0.0.1:9/").unwrap() };
        assert_eq!(guard.send(ask).await.unwrap_err(), RequestFailure::Refused(Refusal::Method));
    }
    for settings in [Settings { connections: 0, ..loopback() }, Settings { lookups_at_once: 0, ..loopback() }]
    {
        assert!(matches!(Guard::new(&settings), Err(ServiceError::Invalid(_))));
    }
}

#[test]
fn what_is_stored_is_what_will_be_asked() {
    let guard = Guard::new(&loopback()).unwrap();
    let long = format!("https://example.com/{}", "a".repeat(LONGEST_URL));
    for (url, refusal) in [
        (long.as_str(), Refusal::TooLong),
        ("https://example.com/a b", Refusal::NoUrl),
        ("https://exa mple.com/", Refusal::NoUrl),
        ("https://a:b@example.com/", Refusal::Credentials),
        ("https://example.com:0/", Refusal::Port),
        ("mailto:someone@example.com", Refusal::Scheme),
    ] {
        assert_eq!(guard.check_url(url, PlainHttp::Anywhere).unwrap_err(), refusal, "{url}");
    }
    let fine = "https://EXAMPLE.com.:443/ä?token=secret";
    let target = guard.check_url(fine, PlainHttp::WithinAllowed).unwrap();
    assert_eq!((target.place.authority().as_str(), target.path.path()), ("example.com", "/%C3%A4"));
    assert_eq!(format!("{target:?}"), "Target(..)");
    let v6 = guard.check_url("http://[::1]:8080/", PlainHttp::WithinAllowed).unwrap();
    assert_eq!(v6.place.authority(), "[::1]:8080");
}
