//! A small executor: one step of one task at a time, in an order of chance.

use crate::sim::{Process, Sim};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Whether a task has something to do.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What one process does.
struct Task<T> {
    process: Arc<Process>,
    /// When the platform ends it.
    until_ms: i64,
    ready: Arc<Ready>,
    future: Pin<Box<dyn Future<Output = T>>>,
}

/// Runs tasks: one step of one of them at a time.
pub(crate) struct Executor<T> {
    tasks: Vec<Task<T>>,
}

/// What became of a task.
pub(crate) struct Ended<T> {
    pub(crate) process: Arc<Process>,
    /// Nothing when its process died.
    pub(crate) value: Option<T>,
}

impl<T> Executor<T> {
    pub(crate) fn new() -> Self {
        Self { tasks: Vec::new() }
    }

    pub(crate) fn spawn(&mut self, process: &Arc<Process>, limit_ms: i64, future: Pin<Box<dyn Future<Output = T>>>) {
        self.tasks.push(Task {
            process: Arc::clone(process),
            until_ms: process.sim.now_ms() + limit_ms,
            ready: Arc::new(Ready(AtomicBool::new(true))),
            future,
        });
    }

    /// When the next of them runs out of time.
    pub(crate) fn next_limit(&self) -> Option<i64> {
        self.tasks.iter().map(|task| task.until_ms).min()
    }

    /// Ends those whose time is over.
    pub(crate) fn end_overdue(&mut self, now_ms: i64) -> Vec<Ended<T>> {
        let (over, left): (Vec<_>, Vec<_>) = self.tasks.drain(..).partition(|task| task.until_ms <= now_ms);
        self.tasks = left;
        over.into_iter()
            .map(|task| {
                task.process.kill();
                Ended {
                    process: task.process,
                    value: None,
                }
            })
            .collect()
    }

    /// One step of one that has something to do; nothing when there is none. The inner answer is there when it ended.
    pub(crate) fn step(&mut self, sim: &Sim) -> Option<Option<Ended<T>>> {
        let ready: Vec<usize> = (0..self.tasks.len())
            .filter(|&at| self.tasks[at].ready.0.load(Ordering::Relaxed))
            .collect();
        if ready.is_empty() {
            return None;
        }
        let at = ready[sim.draw(|random| random.below(ready.len()))];
        let task = &mut self.tasks[at];
        task.ready.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.ready));
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        let value = match polled {
            _ if task.process.has_crashed() => None,
            Poll::Ready(value) => Some(value),
            Poll::Pending => return Some(None),
        };
        let task = self.tasks.remove(at);
        Some(Some(Ended {
            process: task.process,
            value,
        }))
    }
}
