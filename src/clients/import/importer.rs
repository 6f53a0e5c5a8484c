//! The storing half: hands the chunks to the database in the order of the file, and several at once where that changes
//! nothing.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::fresh::Expectation;
use super::reader::{Chunk, Message};
use super::report::Assumed;
use super::store::{self, Outcome, Stored};
use super::{Done, Progress};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};

/// SQLite commits so many together: numbers come in any order, so that each commit writes most pages of their index
/// anew, and one commit of eight chunks writes little more than one of one. More would keep other writers waiting for
/// longer.
const CHUNKS_IN_ONE_COMMIT: usize = 8;
/// PostgreSQL has one transaction for each chunk. While one is committed another is written, if both make new clients
/// that have nothing in common; all others go one by one, in the order of the file.
const CHUNKS_AT_ONCE: usize = 2;

/// Stores the chunks of one file.
pub(super) struct Importer<'d> {
    pub(super) db: &'d Db,
    pub(super) clock: &'d Clock,
    pub(super) is_dry_run: bool,
    pub(super) expectation: Expectation,
}

impl Importer<'_> {
    /// Stores all chunks, and then the rows that waited for the end.
    pub(super) async fn run(
        &self,
        mut messages: mpsc::Receiver<Message>,
        done: &mut Done,
        progress: impl Fn(Progress),
    ) -> Result<()> {
        let assumed = self.store_all(&mut messages, |chunk| progress(done.add(chunk))).await?;
        done.report.assumed = *assumed;
        if let Some(last) = done.last_chunk() {
            let stored = store::store(self.db, self.clock, last, self.is_dry_run).await?;
            done.add(stored);
        }
        Ok(())
    }

    /// Hands a chunk to the database: beside others that are under way, or behind them.
    async fn store(&self, mut chunk: Chunk, is_beside: bool) -> Result<Outcome> {
        if let Some(new) = &mut chunk.new
            && !self.db.is_single_node()
        {
            // here, so that ids follow the file where two chunks are stored side by side
            new.identify();
        }
        let outcome = if is_beside {
            store::store_beside(self.db, self.clock, chunk).await
        } else {
            let stored = store::store(self.db, self.clock, chunk, self.is_dry_run).await;
            stored.map(|stored| Outcome::Stored(stored.into()))
        };
        if let Ok(Outcome::Stored(stored)) = &outcome {
            self.expectation.learn(stored.created, stored.updated);
        }
        outcome
    }

    /// Stores the chunks in their order, and tells what became of each.
    async fn store_all(
        &self,
        messages: &mut mpsc::Receiver<Message>,
        mut on_stored: impl FnMut(Stored),
    ) -> Result<Box<Assumed>> {
        let is_queue = self.db.is_single_node();
        let at_once = if is_queue { CHUNKS_IN_ONE_COMMIT } else { CHUNKS_AT_ONCE };
        let mut under_way = FuturesOrdered::new();
        let (mut keys, mut waiting) = (Keys::default(), None);
        let (mut read, mut failed) = (None, None);
        loop {
            if let Some(chunk) = waiting.take_if(|chunk| is_queue || keys.admit(chunk)) {
                let is_beside = !is_queue && !under_way.is_empty();
                under_way.push_back(self.store(chunk, is_beside));
            }
            tokio::select! {
                // each chunk is handed to the database before the next is taken, which keeps them in order
                biased;
                Some(outcome) = under_way.next() => match outcome {
                    Ok(Outcome::Known(chunk)) if failed.is_none() => {
                        under_way.push_front(self.store(*chunk, false));
                    }
                    outcome => {
                        keys.release();
                        match outcome {
                            Ok(Outcome::Stored(stored)) if failed.is_none() => on_stored(*stored),
                            // one behind a chunk that failed is stored all the same: it counts, but it is not how far
                            // this came
                            Ok(Outcome::Stored(stored)) => on_stored(Stored { last_line: 0, ..*stored }),
                            Ok(Outcome::Known(_)) => {}
                            Err(why) => failed = failed.or(Some(why)),
                        }
                    }
                },
                message = messages.recv(),
                if read.is_none() && failed.is_none() && waiting.is_none() && under_way.len() < at_once => {
                    match message {
                        Some(Message::Chunk(chunk)) => waiting = Some(chunk),
                        Some(Message::End(assumed)) => read = Some(Ok(assumed)),
                        Some(Message::Failed(why)) => read = Some(Err(why)),
                        // it says how it ends, so it did not end well
                        None => read = Some(Err(died())),
                    }
                }
                // nothing is under way, and no more will come
                else => return failed.map_or(read.unwrap_or_else(|| Err(died())), Err),
            }
        }
    }
}

fn died() -> Error {
    Error::internal("the reader of an import died")
}

/// The numbers and external ids of the chunks that are under way, in their order; none of one that depends on more.
#[derive(Default)]
struct Keys {
    hasher: RandomState,
    under_way: VecDeque<Option<HashSet<u64>>>,
}

impl Keys {
    /// Adds those of a chunk, if it can be under way beside the others: it has nothing in common with them, and its rows
    /// are known by nothing else.
    fn admit(&mut self, chunk: &Chunk) -> bool {
        let keys = self.keys(chunk);
        let is_apart = |others: &Option<HashSet<u64>>| match (&keys, others) {
            (Some(keys), Some(others)) => keys.is_disjoint(others),
            _ => false,
        };
        let is_admitted = self.under_way.iter().all(is_apart);
        if is_admitted {
            self.under_way.push_back(keys);
        }
        is_admitted
    }

    /// Removes those of the first chunk.
    fn release(&mut self) {
        self.under_way.pop_front();
    }

    /// Hashes are enough: two that are equal by chance cost some time.
    fn keys(&self, chunk: &Chunk) -> Option<HashSet<u64>> {
        chunk.new.as_ref().filter(|new| new.len() == chunk.rows.len())?;
        let numbers = chunk.rows.iter().filter_map(|row| row.number).map(|n| self.hasher.hash_one(n));
        let ids = chunk.rows.iter().filter_map(|row| row.external_id()).map(|id| self.hasher.hash_one(id));
        Some(numbers.chain(ids).collect())
    }
}
