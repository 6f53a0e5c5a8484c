//! A cheap HTTP client, because it shares the cores with the measured service. Its requests are prepared bytes, and it
//! parses only the necessary parts of a response.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// The placeholder for a number in a request.
pub const PLACE: &str = "#######";

/// A request that is built once and sent many times, with different numbers in its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Request {
    /// Builds a POST of JSON. `headers` are whole lines.
    pub fn post(path: &str, headers: &str, body: &str) -> Self {
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let places = text.match_indices(PLACE).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), places }
    }

    /// Returns the request with this number: its placeholders get numbers that no other request has.
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        let first = number * self.places.len() as u64;
        for (at, mut rest) in self.places.iter().zip(first..) {
            for digit in self.bytes.iter_mut().skip(*at).take(PLACE.len()).rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.bytes
    }
}

/// The parsed parts of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// The id at the end of `Location`.
    pub made: Option<Uuid>,
    /// The bytes of head and body.
    pub length: usize,
}

impl Answer {
    /// Parses the head of a response, or returns `None` while it is incomplete.
    ///
    /// # Errors
    /// When the head is malformed.
    pub fn read(bytes: &[u8]) -> std::result::Result<Option<Self>, &'static str> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok());
        let mut lines = head.ok_or("the head of a response is not text")?.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let (mut retry_after, mut made, mut length) = (None, None, None);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse::<usize>().ok();
            } else if name.eq_ignore_ascii_case("retry-after") {
                retry_after = value.parse().ok();
            } else if name.eq_ignore_ascii_case("location") {
                made = value.rsplit('/').next().and_then(|id| id.parse().ok());
            }
        }
        let status = status.ok_or("a response has no status")?;
        let length = end + 4 + length.ok_or("a response has no Content-Length")?;
        Ok(Some(Self { status, retry_after, made, length }))
    }
}

/// A kept-alive connection.
pub struct Connection {
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, answer: Vec::new() })
    }

    /// Sends a request and reads its response.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.socket.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.socket.read_buf(&mut self.answer).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the service closed a connection"));
            }
            let read = Answer::read(&self.answer).map_err(|why| Error::new(ErrorKind::InvalidData, why))?;
            if let Some(answer) = read.filter(|answer| self.answer.len() >= answer.length) {
                return Ok(answer);
            }
        }
    }

    /// Returns the last response's bytes, for an error message.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}
