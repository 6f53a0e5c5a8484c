//! The writing half of the import: it stores the chunks in the order of the file, and several at once where the order
//! does not matter.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::chunk::Chunk;
use super::committed::Committed;
use super::fresh::Expectation;
use super::progress::FileProgress;
use super::reader::ReaderMessage;
use super::report::Assumed;
use super::store::{self, ChunkOutcome, StoredChunk};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};

/// The number of chunks that SQLite commits together. Phone numbers are in random order, so each commit rewrites most
/// pages of their index, and a commit of eight chunks writes little more than a commit of one. More chunks would block
/// other writers for longer.
const CHUNKS_IN_ONE_COMMIT: usize = 8;
/// The number of concurrent transactions on PostgreSQL, one for each chunk. While one is committed another is written,
/// if both create new clients that have no key in common. All other chunks are stored one by one, in the order of the
/// file.
const CHUNKS_AT_ONCE: usize = 2;

/// Stores the chunks of one file.
pub(super) struct Importer<'d> {
    pub(super) db: &'d Db,
    pub(super) clock: &'d Clock,
    pub(super) is_dry_run: bool,
    pub(super) expectation: Expectation,
}

impl Importer<'_> {
    /// Stores all chunks, and then the rows that waited for the end of the file.
    pub(super) async fn run(
        &self,
        mut messages: mpsc::Receiver<ReaderMessage>,
        done: &mut Committed,
        progress: impl Fn(FileProgress),
    ) -> Result<()> {
        let assumed = self.store_all(&mut messages, |chunk| progress(done.add(chunk))).await?;
        done.report.assumed = *assumed;
        if let Some(last) = done.last_chunk() {
            let stored = store::store(self.db, self.clock, last, self.is_dry_run).await?;
            done.add(stored);
        }
        Ok(())
    }

    /// Stores a chunk: concurrently with others if `is_beside`, else after them.
    async fn store(&self, mut chunk: Chunk, is_beside: bool) -> Result<ChunkOutcome> {
        if let Some(new) = &mut chunk.new
            && !self.db.is_single_node()
        {
            // assigned here, so that ids follow the order of the file although two chunks are stored concurrently
            new.identify();
        }
        let outcome = if is_beside {
            store::store_beside(self.db, self.clock, chunk).await
        } else {
            let stored = store::store(self.db, self.clock, chunk, self.is_dry_run).await;
            stored.map(|stored| ChunkOutcome::Stored(stored.into()))
        };
        if let Ok(ChunkOutcome::Stored(stored)) = &outcome {
            self.expectation.learn(stored.created, stored.updated);
        }
        outcome
    }

    /// Stores the chunks in their order, and calls `on_stored` with the result of each.
    async fn store_all(
        &self,
        messages: &mut mpsc::Receiver<ReaderMessage>,
        mut on_stored: impl FnMut(StoredChunk),
    ) -> Result<Box<Assumed>> {
        let is_queue = self.db.is_single_node();
        let at_once = if is_queue { CHUNKS_IN_ONE_COMMIT } else { CHUNKS_AT_ONCE };
        let mut under_way = FuturesOrdered::new();
        let (mut keys, mut waiting) = (ChunkKeys::default(), None);
        let (mut read, mut failed) = (None, None);
        loop {
            if let Some(chunk) = waiting.take_if(|chunk| is_queue || keys.admit(chunk)) {
                let is_beside = !is_queue && !under_way.is_empty();
                under_way.push_back(self.store(chunk, is_beside));
            }
            tokio::select! {
                // each chunk is passed to the database before the next is received, which keeps them in order
                biased;
                Some(outcome) = under_way.next() => match outcome {
                    Ok(ChunkOutcome::Known(chunk)) if failed.is_none() => {
                        under_way.push_front(self.store(*chunk, false));
                    }
                    outcome => {
                        keys.release();
                        match outcome {
                            Ok(ChunkOutcome::Stored(stored)) if failed.is_none() => on_stored(*stored),
                            // a chunk after a failed one may be stored all the same: its rows count, but its line is
                            // not the progress of the import
                            Ok(ChunkOutcome::Stored(stored)) => on_stored(StoredChunk { last_line: 0, ..*stored }),
                            Ok(ChunkOutcome::Known(_)) => {}
                            Err(why) => failed = failed.or(Some(why)),
                        }
                    }
                },
                message = messages.recv(),
                if read.is_none() && failed.is_none() && waiting.is_none() && under_way.len() < at_once => {
                    match message {
                        Some(ReaderMessage::Chunk(chunk)) => waiting = Some(chunk),
                        Some(ReaderMessage::End(assumed)) => read = Some(Ok(assumed)),
                        Some(ReaderMessage::Failed(why)) => read = Some(Err(why)),
                        // the reader always sends a last message, so without one it has panicked
                        None => read = Some(Err(died())),
                    }
                }
                // no chunk is being stored, and no more will arrive
                else => return failed.map_or(read.unwrap_or_else(|| Err(died())), Err),
            }
        }
    }
}

fn died() -> Error {
    Error::internal("the reader of an import panicked")
}

/// The keys of the chunks that are being stored, in their order: hashes of numbers and external ids. The entry is
/// `None` for a chunk that depends on other keys as well.
#[derive(Default)]
struct ChunkKeys {
    hasher: RandomState,
    under_way: VecDeque<Option<HashSet<u64>>>,
}

impl ChunkKeys {
    /// Adds the keys of a chunk if it can be stored concurrently with the others: it has no key in common with them,
    /// and nothing else identifies its rows.
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

    /// Removes the keys of the first chunk.
    fn release(&mut self) {
        self.under_way.pop_front();
    }

    /// Returns the keys of a chunk. Hashes are enough: a collision only costs time.
    fn keys(&self, chunk: &Chunk) -> Option<HashSet<u64>> {
        chunk.new.as_ref().filter(|new| new.len() == chunk.rows.len())?;
        let numbers = chunk.rows.iter().filter_map(|row| row.number).map(|n| self.hasher.hash_one(n));
        let ids = chunk.rows.iter().filter_map(|row| row.external_id()).map(|id| self.hasher.hash_one(id));
        Some(numbers.chain(ids).collect())
    }
}
