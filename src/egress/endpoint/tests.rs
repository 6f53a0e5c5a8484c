use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::egress::IDLE_TIMEOUT;

const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntaken";

/// A provider that the test scripts byte by byte.
struct Provider(TcpListener);

impl Provider {
    async fn new() -> (Self, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/api/", listener.local_addr().unwrap());
        (Self(listener), Endpoint::new("base_url", &base, HeaderMap::new()).unwrap())
    }

    async fn accept(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }
}

/// Reads one request with the body `hello`.
async fn read(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"hello") {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

async fn answer(socket: &mut TcpStream, answer: &str) -> String {
    let request = read(socket).await;
    socket.write_all(answer.as_bytes()).await.unwrap();
    request
}

/// Returns true if the other side has closed the connection.
async fn is_closed(socket: &mut TcpStream) -> bool {
    matches!(socket.read_u8().await, Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof)
}

async fn post(endpoint: &Endpoint) -> Result<Result<Vec<u8>, BodyError>, NoResponse> {
    let reply = endpoint.post("/send", endpoint.headers().clone(), "hello".into()).await?;
    Ok(reply.body(10).await)
}

#[tokio::test]
async fn a_connection_is_used_again_and_the_request_is_as_it_should_be() {
    let (provider, endpoint) = Provider::new().await;
    let serve = async {
        let mut socket = provider.accept().await;
        let first = answer(&mut socket, TAKEN).await;
        assert_eq!(answer(&mut socket, TAKEN).await, first, "on the same connection");
        first
    };
    let calls = async { [post(&endpoint).await, post(&endpoint).await] };
    let (request, bodies) = tokio::join!(serve, calls);
    assert_eq!(bodies, [Ok(Ok(b"taken".to_vec())), Ok(Ok(b"taken".to_vec()))]);
    let host = provider.0.local_addr().unwrap();
    assert_eq!(request, format!("POST /api/send HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5\r\n\r\nhello"));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced_and_the_request_is_sent_once() {
    let (provider, endpoint) = Provider::new().await;
    let serve = async {
        let mut first = provider.accept().await;
        answer(&mut first, TAKEN).await;
        first.shutdown().await.unwrap();
        first
    };
    let (mut first, body) = tokio::join!(serve, post(&endpoint));
    assert_eq!(body, Ok(Ok(b"taken".to_vec())));
    let serve = async { answer(&mut provider.accept().await, TAKEN).await };
    let (_, body) = tokio::join!(serve, post(&endpoint));
    assert_eq!(body, Ok(Ok(b"taken".to_vec())));
    assert!(is_closed(&mut first).await, "nothing more was sent on it");
}

#[tokio::test]
async fn each_way_of_getting_no_answer_is_told_apart() {
    let (provider, endpoint) = Provider::new().await;
    for (said, error) in [
        ("", NoResponse::Broken("cut off")),
        ("HTTP/1.1 200 OK\r\ncontent-le", NoResponse::Broken("cut off")),
        ("SSH-2.0-OpenSSH\r\n\r\n", NoResponse::Broken("not HTTP")),
    ] {
        let serve = async { answer(&mut provider.accept().await, said).await };
        let (_, body) = tokio::join!(serve, post(&endpoint));
        assert_eq!(body, Err(error), "{said}");
    }
    drop(provider);
    assert_eq!(post(&endpoint).await, Err(NoResponse::Unreachable));
}

#[tokio::test]
async fn a_body_that_is_too_long_or_cut_off_is_none_and_its_connection_goes() {
    let (provider, endpoint) = Provider::new().await;
    for (said, error) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world", BodyError::TooLong),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n",
            BodyError::TooLong,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", BodyError::Broken(b"hel".to_vec())),
    ] {
        let serve = async {
            let mut socket = provider.accept().await;
            answer(&mut socket, said).await;
            socket.shutdown().await.unwrap();
            socket
        };
        let (mut socket, body) = tokio::join!(serve, post(&endpoint));
        assert_eq!(body, Ok(Err(error)), "{said}");
        assert!(is_closed(&mut socket).await);
    }
}

#[tokio::test]
async fn a_body_that_is_skipped_leaves_the_connection_for_the_next() {
    let (provider, endpoint) = Provider::new().await;
    let serve = async {
        let mut socket = provider.accept().await;
        answer(&mut socket, TAKEN).await;
        answer(&mut socket, TAKEN).await;
    };
    let calls = async {
        match endpoint.post("/send", HeaderMap::new(), "hello".into()).await {
            Ok(reply) => reply.skip_body(10),
            Err(why) => unreachable!("{why:?}"),
        }
        post(&endpoint).await
    };
    let ((), body) = tokio::join!(serve, calls);
    assert_eq!(body, Ok(Ok(b"taken".to_vec())));
}

#[tokio::test]
async fn a_connection_that_ends_after_a_skipped_body_is_replaced() {
    // regression: such a connection was taken for open, and the next request waited on it forever
    let (provider, endpoint) = Provider::new().await;
    let serve = async {
        let mut socket = provider.accept().await;
        answer(&mut socket, TAKEN).await;
        socket
    };
    let skip = async {
        match endpoint.post("/send", HeaderMap::new(), "hello".into()).await {
            Ok(reply) => reply.skip_body(10),
            Err(why) => unreachable!("{why:?}"),
        }
    };
    let (socket, ()) = tokio::join!(serve, skip);
    drop(socket);
    // lets the runtime poll its sockets, and notice the end
    tokio::task::yield_now().await;
    let serve = async { answer(&mut provider.accept().await, TAKEN).await };
    let (_, body) = tokio::join!(serve, post(&endpoint));
    assert_eq!(body, Ok(Ok(b"taken".to_vec())));
}

/// Responds to a request, reads another one on the same connection, sends `said` and closes.
async fn answer_and_close(provider: &Provider, said: &str) {
    let mut socket = provider.accept().await;
    answer(&mut socket, TAKEN).await;
    read(&mut socket).await;
    socket.write_all(said.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_is_sent_once_more_on_a_new_one() {
    let (provider, endpoint) = Provider::new().await;
    let serve = async {
        answer_and_close(&provider, "").await;
        answer(&mut provider.accept().await, TAKEN).await
    };
    let calls = async { [post(&endpoint).await, post(&endpoint).await] };
    let (again, bodies) = tokio::join!(serve, calls);
    assert_eq!(bodies, [Ok(Ok(b"taken".to_vec())), Ok(Ok(b"taken".to_vec()))]);
    assert!(again.starts_with("POST /api/send HTTP/1.1\r\n"), "{again}");
}

#[tokio::test]
async fn a_request_is_sent_once_more_only_on_a_kept_connection_and_before_any_answer() {
    // a response that has begun, and a new connection that ends as well
    for (said, ends) in [("H", 0), ("HTTP/1.1 200 OK\r\n", 0), ("", 1)] {
        let (provider, endpoint) = Provider::new().await;
        let serve = async {
            answer_and_close(&provider, said).await;
            for _ in 0..ends {
                read(&mut provider.accept().await).await;
            }
        };
        let calls = async { [post(&endpoint).await, post(&endpoint).await] };
        let ((), bodies) = tokio::join!(serve, calls);
        assert_eq!(bodies, [Ok(Ok(b"taken".to_vec())), Err(NoResponse::Broken("cut off"))], "{said:?}");
        assert!(provider.0.accept().now_or_never().is_none(), "{said:?}: no further connection");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_ends_with_silence_if_not_with_its_connection() {
    for head in ["content-length: 5O\r\n", ""] {
        let (provider, endpoint) = Provider::new().await;
        let serve = async {
            let mut socket = provider.accept().await;
            answer(&mut socket, &format!("HTTP/1.1 200 OK\r\n{head}\r\ntaken")).await;
            socket
        };
        let (mut socket, body) = tokio::join!(serve, post(&endpoint));
        assert_eq!(body, Ok(Ok(b"taken".to_vec())));
        assert!(is_closed(&mut socket).await);
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let (provider, endpoint) = Provider::new().await;
    let mut socket = tokio::select! {
        _ = post(&endpoint) => unreachable!("nobody answers"),
        socket = async {
            let mut socket = provider.accept().await;
            read(&mut socket).await;
            socket
        } => socket,
    };
    assert!(is_closed(&mut socket).await);
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_not_used_are_closed() {
    let (provider, endpoint) = Provider::new().await;
    let serve = async {
        let mut socket = provider.accept().await;
        answer(&mut socket, TAKEN).await;
        socket
    };
    let (mut socket, _) = tokio::join!(serve, post(&endpoint));
    let began = tokio::time::Instant::now();
    assert!(is_closed(&mut socket).await);
    assert!((IDLE_TIMEOUT..=IDLE_TIMEOUT * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[test]
fn only_the_address_of_a_place_is_an_address() {
    for base in ["http://a", "https://a.example.com:8443/x/y/", "http://[::1]:80"] {
        assert!(Endpoint::new("base_url", base, HeaderMap::new()).is_ok(), "{base}");
    }
    for base in
        ["", "a", "ftp://a", "http://", "/a", "http://u:p@a", "http://a?x=1", "http://a b", "http://ы"]
    {
        let refused = Endpoint::new("base_url", base, HeaderMap::new()).err();
        assert!(
            matches!(&refused, Some(Error::Invalid(fields)) if fields[0].field == "base_url"),
            "{base}: {refused:?}"
        );
    }
}
