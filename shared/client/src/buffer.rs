//! The bounded queue between `push` and the sender. It holds encoded samples in the order of their pushes and makes room
//! by dropping the oldest: after a long outage the newest data is what people look at.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How much may wait, and how much makes a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_samples: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) interval: Duration,
    pub(crate) buffer_samples: usize,
    pub(crate) buffer_bytes: usize,
}

/// When the next batch is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    At(Instant),
    /// Nothing waits.
    Never,
}

#[derive(Debug)]
pub(crate) struct Buffer {
    limits: Limits,
    queue: VecDeque<Box<str>>,
    bytes: usize,
    /// Samples that were taken and are neither settled nor put back. They do not count against the limits.
    in_flight: usize,
    pushed: u64,
    /// Since when the oldest sample waits for its first attempt.
    waiting_since: Option<Instant>,
    /// The oldest samples had an attempt already, so nothing is gained by waiting for more.
    overdue: bool,
}

impl Buffer {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            in_flight: 0,
            pushed: 0,
            waiting_since: None,
            overdue: false,
        }
    }

    /// Adds the newest sample and returns how many of the oldest were dropped for it.
    pub(crate) fn push(&mut self, sample: Box<str>, now: Instant) -> usize {
        self.pushed += 1;
        self.bytes += sample.len();
        self.queue.push_back(sample);
        self.waiting_since.get_or_insert(now);
        self.drop_oldest()
    }

    /// Takes the oldest samples: at most `samples`, at most the batch's bytes, but at least one if there is any.
    pub(crate) fn take(&mut self, samples: usize, now: Instant) -> Vec<Box<str>> {
        let mut batch = Vec::with_capacity(samples.min(self.queue.len()));
        let mut bytes = 0;
        while batch.len() < samples
            && let Some(sample) = self
                .queue
                .pop_front_if(|s| batch.is_empty() || bytes + s.len() <= self.limits.batch_bytes)
        {
            bytes += sample.len();
            batch.push(sample);
        }
        self.bytes -= bytes;
        self.in_flight += batch.len();
        self.overdue = false;
        self.waiting_since = (!self.queue.is_empty()).then_some(now);
        batch
    }

    /// The last batch taken is done with: accepted or refused.
    pub(crate) fn settle(&mut self) {
        self.in_flight = 0;
    }

    /// The last batch taken has to be sent again. Returns how many samples found no room any more.
    pub(crate) fn put_back(&mut self, batch: Vec<Box<str>>, now: Instant) -> usize {
        self.in_flight = 0;
        for sample in batch.into_iter().rev() {
            self.bytes += sample.len();
            self.queue.push_front(sample);
        }
        self.overdue = true;
        self.waiting_since.get_or_insert(now);
        self.drop_oldest()
    }

    /// Empties the queue and returns how many samples it held, those in flight included.
    pub(crate) fn abandon(&mut self) -> usize {
        let abandoned = self.unsettled();
        self.queue.clear();
        self.bytes = 0;
        self.in_flight = 0;
        self.waiting_since = None;
        abandoned
    }

    pub(crate) fn due(&self) -> Due {
        let full = self.queue.len() >= self.limits.batch_samples || self.bytes >= self.limits.batch_bytes;
        match self.waiting_since {
            None => Due::Never,
            Some(_) if full || self.overdue => Due::Now,
            Some(since) => Due::At(since + self.limits.interval),
        }
    }

    /// Samples that were pushed and are neither accepted nor refused nor dropped.
    pub(crate) fn unsettled(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    /// How many samples were ever pushed.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many of the samples pushed first are done with. The order of pushes is kept, so this is a watermark.
    pub(crate) fn settled(&self) -> u64 {
        self.pushed - self.unsettled() as u64
    }

    fn drop_oldest(&mut self) -> usize {
        let mut dropped = 0;
        while (self.queue.len() > self.limits.buffer_samples || self.bytes > self.limits.buffer_bytes)
            && let Some(sample) = self.queue.pop_front()
        {
            self.bytes -= sample.len();
            dropped += 1;
        }
        if self.queue.is_empty() {
            self.waiting_since = None;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer() -> Buffer {
        Buffer::new(Limits {
            batch_samples: 3,
            batch_bytes: 10,
            interval: Duration::from_secs(10),
            buffer_samples: 5,
            buffer_bytes: 20,
        })
    }

    fn contents(batch: &[Box<str>]) -> Vec<&str> {
        batch.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn a_full_buffer_drops_the_oldest() {
        let (mut buffer, now) = (buffer(), Instant::now());
        let dropped: usize = ["a", "b", "c", "d", "e", "f", "g"]
            .map(|s| buffer.push(s.into(), now))
            .iter()
            .sum();
        assert_eq!(dropped, 2);
        assert_eq!(contents(&buffer.take(9, now)), ["c", "d", "e", "f", "g"]);
    }

    #[test]
    fn the_buffers_bytes_are_bounded_too() {
        let (mut buffer, now) = (buffer(), Instant::now());
        buffer.push("12345678".into(), now);
        buffer.push("12345678".into(), now);
        assert_eq!(buffer.push("12345".into(), now), 1);
        assert_eq!(buffer.unsettled(), 2);
    }

    #[test]
    fn a_batch_ends_at_its_bytes_but_holds_at_least_one_sample() {
        let (mut buffer, now) = (buffer(), Instant::now());
        buffer.push("a sample of more than ten".get(..15).unwrap().into(), now);
        buffer.push("b".into(), now);
        assert_eq!(buffer.take(3, now).len(), 1);
        assert_eq!(contents(&buffer.take(3, now)), ["b"]);
    }

    #[test]
    fn what_is_put_back_comes_first_again_and_is_the_first_to_be_dropped() {
        let (mut buffer, now) = (buffer(), Instant::now());
        for s in ["a", "b", "c"] {
            buffer.push(s.into(), now);
        }
        let batch = buffer.take(2, now);
        for s in ["d", "e", "f"] {
            buffer.push(s.into(), now);
        }
        assert_eq!(buffer.settled(), 0);
        assert_eq!(buffer.put_back(batch, now), 1);
        assert_eq!(buffer.settled(), 1);
        assert_eq!(buffer.due(), Due::Now);
        assert_eq!(contents(&buffer.take(9, now)), ["b", "c", "d", "e", "f"]);
        buffer.settle();
        assert_eq!(buffer.settled(), 6);
    }

    #[test]
    fn a_batch_is_due_when_full_or_when_its_first_sample_waited_long_enough() {
        let (mut buffer, now) = (buffer(), Instant::now());
        assert_eq!(buffer.due(), Due::Never);
        buffer.push("a".into(), now);
        buffer.push("b".into(), now + Duration::from_secs(1));
        assert_eq!(buffer.due(), Due::At(now + Duration::from_secs(10)));
        buffer.push("c".into(), now + Duration::from_secs(2));
        assert_eq!(buffer.due(), Due::Now);
        buffer.take(3, now);
        assert_eq!(buffer.due(), Due::Never);
    }
}
