//! What begins: requests, batches, operators, compactors, queries.

use crate::processes;
use crate::processes::Question;
use crate::stream::Place;
use crate::values::{FUNCTIONS, Parameters};
use crate::world::{HOUR_MS, Kind, Mapping, WANTS, World};
use std::sync::Arc;
use tidemark_model::DAY_MS;
use tidemark_tsdb::drain::QueueStats;
use tidemark_tsdb::plan::Want;

impl World {
    pub(crate) fn push(&mut self) {
        let process = self.process("ingest");
        let now_ms = process.now_ms();
        let workload = &mut self.workload;
        let pushes = self.sim.draw(|random| workload.request(random, now_ms));
        if pushes.is_empty() {
            return;
        }
        let arrived = Arc::clone(&self.arrived);
        let producer = processes::producer(&process, &self.stream, self.stale_maps, arrived);
        let json = self.chance(0.2);
        let pushes = pushes.into_iter().map(|(at, sample)| {
            let source = &self.workload.sources[at];
            (source.metric.clone(), source.labels.clone(), sample)
        });
        let future = processes::ingest(producer, self.layout, pushes.collect(), json);
        self.start(&process, Kind::Ingest, 10_000, future);
    }

    /// A record that is no envelope.
    pub(crate) fn poison(&mut self) {
        let (key, length) = self
            .sim
            .draw(|random| (u128::from(random.next()) << 64, random.below(30)));
        let data = (0..length).map(|at| (at * 37) as u8).collect();
        let place = self.stream.append(&self.sim, key, data);
        self.arrived.lock().unwrap().push(place);
        self.take_arrived();
    }

    /// The event source mapping delivers a batch of a shard.
    pub(crate) fn deliver(&mut self) {
        let shards = self.stream.look(<[_]>::len);
        self.mappings.resize(shards, Mapping::default());
        let shard = self.draw(shards);
        self.deliver_of(shard);
    }

    pub(crate) fn deliver_of(&mut self, shard: usize) {
        let mapping = self.mappings[shard];
        let next = |shard: usize| self.mappings[shard].next;
        let ready = self.stream.look(|shards| shards[shard].parents.clone());
        let ready = ready.iter().all(|parent| self.stream.is_finished(*parent, &next));
        let waiting = self.stream.look(|shards| shards[shard].records.len()) - mapping.next;
        if mapping.running || !ready || waiting == 0 {
            return;
        }
        let most = mapping.most.unwrap_or(usize::MAX).min(waiting);
        let count = self.sim.draw(|random| random.magnitude(1, 12)) as usize;
        let range = mapping.next..mapping.next + count.min(most);
        self.mappings[shard].running = true;
        self.sandboxes.retain(|sandbox| !sandbox.process.is_old());
        let sandbox = if self.sandboxes.is_empty() || self.chance(0.1) {
            let process = self.process("consume");
            processes::consumer(&process, self.layout, self.stale_maps.then_some(&self.stream))
        } else {
            let at = self.draw(self.sandboxes.len());
            self.sandboxes.swap_remove(at)
        };
        let process = Arc::clone(&sandbox.process);
        process.log(&format!("is given records {range:?} of shard {shard}"));
        let records = self.stream.look(|shards| {
            let records = &shards[shard].records[range.clone()];
            records.iter().map(|taken| taken.record.clone()).collect::<Vec<_>>()
        });
        self.start(
            &process,
            Kind::Consume(shard),
            60_000,
            processes::flush(sandbox, shard, range, records),
        );
    }

    pub(crate) fn operate(&mut self) {
        let process = self.process("operator");
        let hurry = self.chance(0.3);
        let steps = self.draw(8);
        let back_ms = self.sim.draw(|random| random.magnitude(1, DAY_MS));
        let again = self.chance(0.5) && self.replays;
        let from_ms = again.then_some(self.sim.now_ms() - back_ms);
        process.log(&format!("stores what waits, from {from_ms:?}"));
        let from = from_ms.map(|from_ms| (from_ms, Arc::clone(&self.model.replayed)));
        let future = processes::drain(&process, &self.stream, self.layout, from, hurry.then_some(steps));
        self.start(&process, Kind::Operate, 300_000, future);
    }

    pub(crate) fn compact(&mut self) {
        let process = self.process("compact");
        let hurry = self.chance(0.2);
        let steps = self.draw(30);
        let first = self.draw(usize::from(self.layout.buckets.count())) as u16;
        // Some leave no lease behind that is worth the name, so that passes overlap.
        let lease_ms = self.sim.draw(|random| random.magnitude(1, 300_000));
        let future = processes::compact(
            Arc::clone(&process),
            self.layout,
            first,
            lease_ms,
            hurry.then_some(steps),
        );
        self.start(&process, Kind::Compact, 300_000, future);
    }

    /// Somebody looks at the queue.
    pub(crate) fn count_queue(&mut self) {
        let process = self.process("statistics");
        let future = processes::count(&process, &self.stream, self.queue());
        self.start(&process, Kind::Ask, 30_000, future);
    }

    /// How many samples were taken, and how many of them are not stored.
    fn queue(&self) -> (u64, u64) {
        let (mut taken, mut waiting) = (0, 0);
        self.stream.look(|shards| {
            for (shard, of) in shards.iter().enumerate() {
                for (at, record) in of.records.iter().enumerate() {
                    let samples = record.samples.len() as u64;
                    taken += samples;
                    waiting += if self.model.is_stored(Place { shard, at }) {
                        0
                    } else {
                        samples
                    };
                }
            }
        });
        (taken, waiting)
    }

    /// Every sample is counted once: as stored or as waiting. What was stored before is not waiting; more may be stored than is
    /// known, by a consumer that died before it could say so.
    pub(crate) fn counted(&self, (taken, waiting): (u64, u64), stats: &QueueStats) -> Result<(), String> {
        let (now_taken, _) = self.queue();
        let by_partition: u64 = stats.events_by_partition.values().sum();
        let right = (taken..=now_taken).contains(&stats.total_events)
            && stats.complete
            && by_partition <= stats.total_events
            && stats.unconsumed_events <= waiting + now_taken - taken;
        if right {
            return Ok(());
        }
        Err(format!(
            "of {taken} to {now_taken} samples, of which at most {waiting} waited, are told {stats:?}"
        ))
    }

    /// A query, by a process that is warm or not.
    pub(crate) fn ask(&mut self) {
        self.warm.retain(|warm| !warm.process.is_old());
        let warm = if self.warm.is_empty() || self.chance(0.2) {
            let process = self.process("query");
            processes::reader(&process, self.layout)
        } else {
            let at = self.draw(self.warm.len());
            self.warm.swap_remove(at)
        };
        let metric = self.sim.draw(|random| random.pick(&self.workload.metrics).clone());
        let question = self.question(metric);
        let process = Arc::clone(&warm.process);
        if self.chance(0.5) {
            self.start(&process, Kind::Ask, 30_000, processes::ask(warm, question));
            return;
        }
        let parameters = self.parameters(&question);
        let (cache, fresh) = (Arc::clone(&self.cache), self.chance(0.05));
        self.start(
            &process,
            Kind::Ask,
            30_000,
            processes::ask_api(warm, cache, parameters, fresh),
        );
    }

    /// A query of the API, most often one that was asked before.
    fn parameters(&mut self, question: &Question) -> Parameters {
        if !self.asked.is_empty() && self.chance(0.7) {
            let at = self.draw(self.asked.len());
            return self.asked[at].clone();
        }
        let (step_s, function, by_host) = self.sim.draw(|random| {
            let step_s = match question.want {
                Want::Step(step_ms) => Some(step_ms / 1_000),
                Want::Finest | Want::Samples => None,
            };
            (step_s, *random.pick(&FUNCTIONS), random.chance(0.5))
        });
        // No more steps than a query may have.
        let most_ms = step_s.map_or(i64::MAX, |step_s| step_s * 1_000 * 10_000);
        let range = (
            question.start_ms.max(question.end_ms.saturating_sub(most_ms)),
            question.end_ms,
        );
        let parameters = Parameters::new(&question.metric, range, step_s, function, by_host);
        if self.asked.len() == 6 {
            let at = self.draw(6);
            self.asked.swap_remove(at);
        }
        self.asked.push(parameters.clone());
        parameters
    }

    /// A question for some range, most often a recent one.
    pub(crate) fn question(&self, metric: String) -> Question {
        let now_ms = self.sim.now_ms();
        let longest_ms = self.layout.retention.longest_ms() + DAY_MS;
        self.sim.draw(|random| {
            let mut end_ms = now_ms + 600_000 - random.magnitude(1, longest_ms);
            let mut start_ms = end_ms - random.magnitude(1, longest_ms);
            if random.chance(0.5) {
                start_ms -= start_ms.rem_euclid(HOUR_MS);
                end_ms -= end_ms.rem_euclid(HOUR_MS) + random.between(0, 1);
            }
            Question {
                metric,
                start_ms,
                end_ms: end_ms.max(start_ms),
                want: *random.pick(&WANTS),
                counter: random.chance(0.5),
            }
        })
    }
}
