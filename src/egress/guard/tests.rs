use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

mod answers;
mod hostile;
mod limits;

/// A scripted server on loopback.
struct Server(TcpListener);

impl Server {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.0.local_addr().unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    async fn accept(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }

    /// Accepts a connection, reads a request, and sends this.
    async fn answer(&self, said: &[u8]) -> (TcpStream, String) {
        let mut socket = self.accept().await;
        let request = read(&mut socket).await;
        // the client may have closed after it received enough
        let _ = socket.write_all(said).await;
        (socket, request)
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

fn loopback() -> Settings {
    Settings { allowed: "127.0.0.0/8,::1".parse().unwrap(), ..Settings::default() }
}

/// A resolver that returns these addresses for every name.
fn leads_to(addresses: &[&str]) -> Resolver {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Arc::new(move |_| Ok(addresses.clone()))
}

fn ask(guard: &Guard, url: &str) -> Result<HttpRequest, Refusal> {
    Ok(HttpRequest {
        method: Method::POST,
        target: guard.check_url(url, PlainHttp::Anywhere)?,
        headers: HeaderMap::new(),
        body: "hello".into(),
        most_body: 1024,
        timeout: None,
        body_timeout: Duration::from_secs(10),
    })
}

async fn post(guard: &Guard, url: impl AsRef<str>) -> Result<HttpResponse, RequestFailure> {
    guard.send(ask(guard, url.as_ref()).map_err(RequestFailure::Refused)?).await
}
