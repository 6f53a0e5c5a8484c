//! Reading request bodies: each has a deadline and a minimum rate, and all together have a memory limit.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, web};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::error::{Error, Result};

/// The time limit of a body that is kept in memory.
const DEADLINE: Duration = Duration::from_secs(120);
/// The time in which a sender must send at least [`LEAST`] bytes.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least number of bytes in [`PATIENCE`], unless the body ends.
const LEAST: usize = 10 * 1024;
/// Bytes of each body that do not count against the common memory, so that large bodies do not block small ones.
const FREE: usize = 16 * 1024;
/// The size of the pieces in which a body is received. A buffer of the announced size would use memory that the
/// allocator keeps even if the body is refused, and a growing buffer would use more memory than the body has bytes.
const PIECE: usize = 64 * 1024;
/// The unit in which memory is counted.
const UNIT: usize = 1024;

/// The memory of the bodies of all requests in progress; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct BodyMemory {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl BodyMemory {
    /// Limits all bodies together to `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes / UNIT)), bytes }
    }

    /// Increases the reservation of a body to `length` bytes.
    fn grow(&self, room: &mut Option<OwnedSemaphorePermit>, length: usize) -> Result<()> {
        let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = length.saturating_sub(FREE).div_ceil(UNIT);
        let Some(missing) = needed.checked_sub(held).filter(|missing| *missing > 0) else { return Ok(()) };
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.free).try_acquire_many_owned(missing).map_err(|_| {
            Error::Busy(format!(
                "the bodies of other requests use all {} MiB of body memory, and nothing was changed; retry after 1 s",
                self.bytes / (1024 * 1024)
            ))
        })?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

/// The reserved memory of a body, kept with its request until the response is complete.
struct MemoryPermit(#[expect(dead_code, reason = "held, not used")] Option<OwnedSemaphorePermit>);

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::TooSlow`], [`Error::Busy`] if the bodies of other requests use all memory, and
/// [`Error::Malformed`] for an incomplete body.
pub async fn read(request: HttpRequest, mut payload: web::Payload, most: usize) -> Result<web::BytesMut> {
    let memory = request.app_data::<web::Data<BodyMemory>>().cloned();
    let mut body = Pieces::new(announced(&request).unwrap_or_default());
    let (mut pace, mut room, began) = (Pace::new(), None, Instant::now());
    while let Some(chunk) = pace.next(&mut payload).await? {
        let length = body.length + chunk.len();
        if length > most {
            return Err(Error::TooLarge(format!("the body is larger than {most} bytes")));
        }
        if began.elapsed() > DEADLINE {
            return Err(Error::TooSlow(format!("the body did not arrive within {} s", DEADLINE.as_secs())));
        }
        if let Some(memory) = &memory {
            memory.grow(&mut room, length)?;
        }
        body.extend(&chunk);
    }
    request.extensions_mut().insert(MemoryPermit(room));
    Ok(body.whole())
}

/// A body that is being received.
struct Pieces {
    full: Vec<web::BytesMut>,
    last: web::BytesMut,
    length: usize,
}

impl Pieces {
    fn new(announced: usize) -> Self {
        Self { full: Vec::new(), last: web::BytesMut::with_capacity(announced.min(PIECE)), length: 0 }
    }

    fn extend(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            if self.last.len() == PIECE {
                let next = web::BytesMut::with_capacity(PIECE);
                self.full.push(std::mem::replace(&mut self.last, next));
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.last.len()));
            self.last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Joins the pieces; each is freed once it is copied.
    fn whole(self) -> web::BytesMut {
        if self.full.is_empty() {
            return self.last;
        }
        let mut whole = web::BytesMut::with_capacity(self.length);
        for piece in self.full.into_iter().chain([self.last]) {
            whole.extend_from_slice(&piece);
        }
        whole
    }
}

fn announced(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Enforces the minimum rate of a sender, over the time spent waiting for it.
pub struct Pace {
    waited: Duration,
    received: usize,
}

impl Pace {
    /// Starts the measurement.
    pub fn new() -> Self {
        Self { waited: Duration::ZERO, received: 0 }
    }

    /// Returns the next piece of a body; none at its end.
    ///
    /// # Errors
    /// [`Error::TooSlow`], and [`Error::Malformed`] for an incomplete body.
    pub async fn next(&mut self, payload: &mut web::Payload) -> Result<Option<web::Bytes>> {
        loop {
            let began = Instant::now();
            let piece = timeout(PATIENCE.saturating_sub(self.waited), payload.next()).await;
            self.waited += began.elapsed();
            let piece = match piece {
                Ok(None) => return Ok(None),
                Ok(Some(Err(e))) => {
                    return Err(Error::Malformed(format!("the body could not be read: {e}")));
                }
                Ok(Some(Ok(piece))) => Some(piece),
                Err(_) => None,
            };
            self.received += piece.as_ref().map_or(0, web::Bytes::len);
            if self.waited >= PATIENCE {
                if self.received < LEAST {
                    return Err(Error::TooSlow(format!(
                        "the body arrived too slowly: fewer than {LEAST} bytes in {} s",
                        PATIENCE.as_secs()
                    )));
                }
                *self = Self::new();
            }
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_a_memory_that_small_ones_do_not_need() {
        let memory = BodyMemory::new(1024 * 1024);
        let (mut large, mut other, mut small) = (None, None, None);
        memory.grow(&mut large, 600 * 1024).unwrap();
        memory.grow(&mut large, 700 * 1024).unwrap();
        assert!(matches!(memory.grow(&mut other, 500 * 1024), Err(Error::Busy(_))));
        memory.grow(&mut small, FREE).unwrap();
        assert!(small.is_none(), "a small one takes no room");
        drop(large);
        memory.grow(&mut other, 500 * 1024).unwrap();
        assert_eq!(memory.free.available_permits(), 1024 - (500 - 16));
    }
    #[test]
    fn what_comes_in_chunks_of_any_length_is_whole_in_the_end() {
        for (length, chunk) in
            [(0, 1), (10, 3), (PIECE, PIECE), (PIECE + 1, 7), (5 * PIECE + 17, 100_000), (3 * PIECE, 1)]
        {
            let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            for announced in [0, length, 100 * length] {
                let mut body = Pieces::new(announced);
                sent.chunks(chunk).for_each(|bytes| body.extend(bytes));
                assert_eq!(body.length, length);
                assert!(body.full.iter().all(|piece| piece.len() == PIECE));
                assert!(body.whole() == sent, "{length} in chunks of {chunk}");
            }
        }
    }
}
