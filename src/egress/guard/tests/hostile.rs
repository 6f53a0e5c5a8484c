//! None of these URLs reaches the canary, a listener on loopback.

use std::net::TcpListener as Canary;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// `PORT` is the canary's port. Each line is refused by the check or at request time, with a resolver that returns
/// loopback for every name.
const HOSTILE: &str = include_str!("hostile.txt");

fn hostile(port: u16) -> Vec<String> {
    let lines = HOSTILE.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    lines
        .map(|line| line.replace("PORT", &port.to_string()).replace("\\t", "\t").replace("\\n", "\n"))
        .collect()
}

/// Listens on both loopback addresses at the same port; without IPv6 on one of them.
fn canary() -> (u16, Vec<Canary>) {
    let has_v6 = Canary::bind("[::1]:0").is_ok();
    loop {
        let v4 = Canary::bind("127.0.0.1:0").unwrap();
        let port = v4.local_addr().unwrap().port();
        let mut listeners = vec![v4];
        if has_v6 {
            // another program may use the port there
            let Ok(v6) = Canary::bind(("::1", port)) else { continue };
            listeners.push(v6);
        }
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        return (port, listeners);
    }
}

fn is_untouched(canary: &[Canary]) -> bool {
    // the kernel completes a connection before it is accepted
    canary
        .iter()
        .all(|listener| matches!(listener.accept(), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock))
}

#[tokio::test]
async fn no_hostile_url_reaches_loopback() {
    let (port, canary) = canary();
    let urls = hostile(port);
    assert!(urls.len() >= 120, "{}", urls.len());
    let everywhere = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"];
    let guard = Guard::with_resolver(&Settings::default(), leads_to(&everywhere)).unwrap();
    for url in urls {
        match post(&guard, &url).await {
            Err(failure @ RequestFailure::Refused(_)) => {
                let words = failure.to_string();
                assert!(!words.contains(&port.to_string()) && !failure.is_transient(), "{words}");
            }
            came => panic!("{url}: {came:?}"),
        }
        assert!(is_untouched(&canary), "{url}");
    }
    // the canary itself is reachable
    let guard = Guard::new(&Settings { timeout: Duration::from_millis(50), ..loopback() }).unwrap();
    assert_eq!(post(&guard, &format!("http://127.1:{port}/")).await.unwrap_err(), RequestFailure::TimedOut);
    assert!(!is_untouched(&canary));
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_only_what_was_checked_is_dialled() {
    let (port, canary) = canary();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // like a rebinding name server: a public address first, this host afterwards
    let rebinding: Resolver = Arc::new(move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(vec![if first { "127.0.0.2" } else { "127.0.0.1" }.parse().unwrap()])
    });
    // represents a public address without a listener: no packet leaves the machine
    let settings = Settings { allowed: "127.0.0.2".parse().unwrap(), ..Settings::default() };
    let guard = Guard::with_resolver(&settings, rebinding).unwrap();
    let url = format!("http://rebinding.example:{port}/");
    assert_eq!(post(&guard, &url).await.unwrap_err(), RequestFailure::Unreachable);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let refused = RequestFailure::Refused(Refusal::Address(address::Class::Loopback));
    assert_eq!(post(&guard, &url).await.unwrap_err(), refused);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(is_untouched(&canary));
}

#[tokio::test]
async fn of_a_names_addresses_only_those_that_are_fine_are_dialled() {
    let (port, canary) = canary();
    let server = Server::new().await;
    let settings = Settings { allowed: "127.0.0.2".parse().unwrap(), ..Settings::default() };
    let guard = Guard::with_resolver(&settings, leads_to(&["127.0.0.1", "::1", "127.0.0.2"])).unwrap();
    let url = format!("http://mixed.example:{port}/");
    assert_eq!(post(&guard, &url).await.unwrap_err(), RequestFailure::Unreachable);
    assert!(is_untouched(&canary));
    // the first of two allowed addresses does not respond, so the second is used
    let guard = Guard::with_resolver(&loopback(), leads_to(&["127.0.0.3", "127.0.0.1"])).unwrap();
    let url = format!("http://two.example:{}/", server.port());
    let said = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (answered, (_, request)) = tokio::join!(post(&guard, &url), server.answer(said));
    assert_eq!(answered.unwrap().status, 204);
    assert!(request.contains(&format!("\r\nhost: two.example:{}\r\n", server.port())), "{request}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (port, canary) = canary();
    let server = Server::new().await;
    let guard = Guard::new(&loopback()).unwrap();
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "300 Choices"]
    {
        let said = format!(
            "HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:{port}/\r\nrefresh: 0; url=http://127.0.0.1:{port}/\r\nalt-svc: h2=\":{port}\"\r\ncontent-length: 0\r\n\r\n"
        );
        let url = server.url().replace("/hook", &format!("/{}", &status[..3]));
        // one connection each: the server responds once
        let guard = if status.starts_with("301") { &guard } else { &Guard::new(&loopback()).unwrap() };
        let (answered, _) = tokio::join!(post(guard, &url), server.answer(said.as_bytes()));
        assert_eq!(answered.unwrap().status.as_str(), &status[..3]);
        assert!(is_untouched(&canary), "{status}");
    }
}

#[tokio::test]
async fn plain_http_leads_only_into_allowed_networks_where_that_is_asked_for() {
    let check = |settings: &Settings, url: &str| {
        Guard::new(settings).unwrap().check_url(url, PlainHttp::WithinAllowed).map(drop)
    };
    let none = Settings::default();
    assert_eq!(check(&none, "http://example.com/"), Err(Refusal::PlainHttp));
    assert_eq!(check(&none, "http://1.1.1.1/"), Err(Refusal::PlainHttp));
    assert_eq!(check(&none, "https://example.com/"), Ok(()));
    assert_eq!(check(&loopback(), "http://127.0.0.1/"), Ok(()));
    assert_eq!(check(&loopback(), "http://localhost:9/"), Ok(()));
    assert_eq!(check(&loopback(), "http://1.1.1.1/"), Err(Refusal::PlainHttp));
    // a name may lead into an allowed network, which is known only at request time
    let guard = Guard::with_resolver(&loopback(), leads_to(&["1.1.1.1"])).unwrap();
    let target = guard.check_url("http://example.com/", PlainHttp::WithinAllowed).unwrap();
    let ask = HttpRequest { target, ..ask(&guard, "https://example.com/").unwrap() };
    assert_eq!(guard.send(ask).await.unwrap_err(), RequestFailure::Refused(Refusal::PlainHttp));
}

#[test]
fn the_proxies_of_the_environment_are_ignored() {
    const CHILD: &str = "FANFARE_TEST_ASKS";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Ok(url) = std::env::var(CHILD) {
        let guard = Guard::new(&loopback()).unwrap();
        let answered = runtime.block_on(post(&guard, &url)).unwrap();
        assert_eq!(answered.body, b"direct");
        let hostile = runtime.block_on(post(&guard, "http://10.0.0.1/")).unwrap_err();
        assert!(matches!(hostile, RequestFailure::Refused(_)));
        return;
    }
    let (port, canary) = canary();
    runtime.block_on(async {
        let server = Server::new().await;
        let proxy = format!("http://127.0.0.1:{port}");
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "egress::guard::tests::hostile::the_proxies_of_the_environment_are_ignored"]);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            child.env(name, &proxy).env(name.to_lowercase(), &proxy);
        }
        child.env(CHILD, server.url()).env("NO_PROXY", "").env("no_proxy", "");
        let child = tokio::task::spawn_blocking(move || child.output());
        let said = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ndirect";
        let (output, (_, request)) = tokio::join!(child, server.answer(said));
        let output = output.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    });
    assert!(is_untouched(&canary));
}
