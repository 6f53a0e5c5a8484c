//! A client that costs little, because it shares the cores with what it measures: its requests are bytes that were made
//! before, and of an answer it reads no more than it has to know.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Stands in a request where a number is written.
pub const PLACE: &str = "#######";

/// A request that is made once and sent many times, with other numbers in its places each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Request {
    /// A POST of JSON. `headers` are whole lines.
    pub fn post(path: &str, headers: &str, body: &str) -> Self {
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let places = text.match_indices(PLACE).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), places }
    }

    /// The request with this number: in its places are numbers that no other has.
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

/// What is read of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Seconds.
    pub retry_after: Option<u64>,
    /// The id at the end of `Location`.
    pub made: Option<Uuid>,
    /// Bytes of head and body.
    pub length: usize,
}

impl Answer {
    /// Reads the head of an answer; none while it is not all there.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(bytes: &[u8]) -> std::result::Result<Option<Self>, &'static str> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok());
        let mut lines = head.ok_or("an answer's head is no text")?.split("\r\n");
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
        let status = status.ok_or("an answer has no status")?;
        let length = end + 4 + length.ok_or("an answer does not say how long it is")?;
        Ok(Some(Self { status, retry_after, made, length }))
    }
}

/// A connection that is kept.
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

    /// Sends a request and reads its answer.
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

    /// The last answer's bytes, for a complaint.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}
