//! Runs tasks in an order that a seed decides. One task runs at a time, and whenever it takes a lock, releases one or
//! waits, the seed chooses the next task. This is the approach of `shuttle`, which would have to replace tokio's
//! `Notify`, channels and clocks in the product too; this module knows only wakers and the engine's own locks.

use std::cell::RefCell;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, LockResult, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A mutex that behaves like the one of `std` outside of [`run`].
#[derive(Debug, Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

/// The guard of a [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<std::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        // blocked on the lock, it would keep the turn from the task that holds the lock
        while point() {
            match self.0.try_lock() {
                Ok(guard) => return Ok(MutexGuard(Some(guard))),
                Err(TryLockError::Poisoned(poisoned)) => return Err(wrapped(poisoned)),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.0.lock().map(|guard| MutexGuard(Some(guard))).map_err(wrapped)
    }
}

fn wrapped<'a, T>(poisoned: PoisonError<std::sync::MutexGuard<'a, T>>) -> PoisonError<MutexGuard<'a, T>> {
    PoisonError::new(MutexGuard(Some(poisoned.into_inner())))
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is released only in drop")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is released only in drop")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.0.take());
        point();
    }
}

/// A task with its name.
pub type Task<'a> = (&'static str, Pin<Box<dyn Future<Output = ()> + Send + 'a>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It can run.
    Ready,
    /// It waits for a wake-up.
    Waiting,
    Done,
}

struct Inner {
    states: Vec<State>,
    /// True for a task that was woken while it was running.
    woken: Vec<bool>,
    turn: Option<usize>,
    /// The number of turns so far.
    turns: u64,
    chance: fastrand::Rng,
    /// A task loses its turn with a probability of one in this number: long turns produce other orders than short ones.
    keeps: u32,
    /// True at the end: tasks are not blocked any more, and a task that would wait ends.
    is_over: bool,
    panicked: Option<&'static str>,
}

impl Inner {
    fn choose(&mut self) {
        let keeps = self.turn.filter(|number| self.states[*number] == State::Ready);
        if keeps.is_some() && self.chance.u32(..self.keeps) > 0 {
            return;
        }
        let numbered = self.states.iter().enumerate();
        let ready: Vec<_> = numbered.filter(|(_, state)| **state == State::Ready).collect();
        self.turns += 1;
        self.turn = self.chance.choice(ready).map(|(number, _)| number);
    }
}

struct Table {
    inner: std::sync::Mutex<Inner>,
    moved: Condvar,
}

impl Table {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state of this task and chooses the next one. Waits for this task's next turn, and returns true if it is
    /// to continue.
    fn leave(&self, number: usize, state: State) -> bool {
        let mut inner = self.lock();
        let is_woken = std::mem::take(&mut inner.woken[number]);
        inner.states[number] = if is_woken && state == State::Waiting { State::Ready } else { state };
        inner.choose();
        self.moved.notify_all();
        drop(inner);
        state != State::Done && self.has_turn(number)
    }

    /// Waits for this task's turn, and returns true if it is to continue.
    fn has_turn(&self, number: usize) -> bool {
        let is_others = |inner: &mut Inner| inner.turn != Some(number) && !inner.is_over;
        let inner = self.moved.wait_while(self.lock(), is_others);
        !inner.unwrap_or_else(PoisonError::into_inner).is_over
    }
}

thread_local! {
    /// The task of this thread.
    static ME: RefCell<Option<(Arc<Table>, usize)>> = const { RefCell::new(None) };
}

/// A point at which another task may continue. Returns true if this thread runs a scheduled task.
fn point() -> bool {
    let me = ME.with_borrow(Clone::clone);
    me.is_some_and(|(table, number)| !table.lock().is_over && table.leave(number, State::Ready))
}

struct Alarm(Arc<Table>, usize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let Self(table, number) = &*self;
        let mut inner = table.lock();
        if inner.states[*number] == State::Waiting {
            inner.states[*number] = State::Ready;
            if inner.turn.is_none() {
                inner.choose();
            }
            table.moved.notify_all();
        } else {
            inner.woken[*number] = true;
        }
    }
}

/// Runs all tasks in the order of this seed, until all have ended, or `is_over` returns true while all of them wait. A
/// wake-up may also come from outside, within `patience`.
///
/// # Errors
/// The names of the tasks that wait forever or panicked.
pub fn run(
    seed: u64,
    tasks: Vec<Task<'_>>,
    patience: Duration,
    is_over: impl Fn() -> bool,
) -> Result<(), String> {
    let names: Vec<_> = tasks.iter().map(|(name, _)| *name).collect();
    let mut inner = Inner {
        states: vec![State::Ready; tasks.len()],
        woken: vec![false; tasks.len()],
        turn: None,
        turns: 0,
        chance: fastrand::Rng::with_seed(seed),
        keeps: [1, 4, 20, 100][usize::try_from(seed % 4).unwrap_or_default()],
        is_over: false,
        panicked: None,
    };
    inner.choose();
    let table = Arc::new(Table { inner: std::sync::Mutex::new(inner), moved: Condvar::new() });
    let runtime = tokio::runtime::Handle::try_current().ok();
    std::thread::scope(|threads| {
        for (number, (name, task)) in tasks.into_iter().enumerate() {
            let (table, runtime) = (Arc::clone(&table), runtime.clone());
            threads.spawn(move || {
                let _entered = runtime.as_ref().map(|runtime| runtime.enter());
                go(&table, number, name, task);
            });
        }
        supervise(&table, patience, is_over)
            .map_err(|waiting| {
                let names: Vec<_> = waiting.into_iter().map(|number| names[number]).collect();
                format!("seed {seed}: {} wait forever", names.join(", "))
            })
            .and_then(|panicked| panicked.map_or(Ok(()), |name| Err(format!("seed {seed}: {name} panicked"))))
    })
}

/// Runs one task, from its first turn to its end.
fn go(
    table: &Arc<Table>,
    number: usize,
    name: &'static str,
    mut task: Pin<Box<dyn Future<Output = ()> + Send + '_>>,
) {
    ME.set(Some((Arc::clone(table), number)));
    let waker = Waker::from(Arc::new(Alarm(Arc::clone(table), number)));
    let mut goes_on = table.has_turn(number);
    while goes_on {
        match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker)))) {
            Ok(Poll::Pending) => goes_on = table.leave(number, State::Waiting),
            Ok(Poll::Ready(())) => break,
            Err(_) => {
                table.lock().panicked = Some(name);
                break;
            }
        }
    }
    // its destructors must not be blocked
    ME.set(None);
    drop(task);
    table.leave(number, State::Done);
}

/// Waits for the end. Returns the name of a task that panicked, or fails with the tasks that wait forever.
fn supervise(
    table: &Table,
    patience: Duration,
    is_over: impl Fn() -> bool,
) -> Result<Option<&'static str>, Vec<usize>> {
    let mut inner = table.lock();
    let outcome = loop {
        let of = |state| inner.states.iter().enumerate().filter(move |(_, s)| **s == state).map(|(n, _)| n);
        if inner.panicked.is_some() || of(State::Waiting).count() + of(State::Ready).count() == 0 {
            break Ok(inner.panicked);
        }
        if inner.turn.is_some() || of(State::Ready).count() > 0 {
            inner = table.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let (waiting, turns): (Vec<_>, _) = (of(State::Waiting).collect(), inner.turns);
        drop(inner);
        let ends = is_over();
        inner = table.lock();
        if ends {
            break Ok(None);
        }
        // some tasks may have had their turns and wait again when this thread checks
        let nobody = |inner: &mut Inner| inner.turns == turns;
        let waited = table.moved.wait_timeout_while(inner, patience, nobody);
        let (now, result) = waited.unwrap_or_else(PoisonError::into_inner);
        inner = now;
        if result.timed_out() {
            break Err(waiting);
        }
    };
    inner.is_over = true;
    table.moved.notify_all();
    outcome
}
