//! When all is quiet: nothing may be left undone, and everything must be equal.

use crate::blocks;
use crate::processes;
use crate::sim::{self, Faults};
use crate::stream::{Place, SimStream};
use crate::world::{Kind, Mapping, WANTS, World};
use std::sync::Arc;
use tidemark_model::DAY_MS;
use tidemark_tsdb::Store;
use tidemark_tsdb::stream::DeadLetter;

impl World {
    /// Everything comes to its end, without faults: then nothing may be left undone, and everything must be equal.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.sim.set_faults(Faults::default());
        self.sim.log("settles");
        loop {
            while !self.tasks.is_empty() {
                self.poll()?;
            }
            self.mappings.resize(self.stream.look(<[_]>::len), Mapping::default());
            for shard in 0..self.mappings.len() {
                self.deliver_of(shard);
            }
            if self.tasks.is_empty() {
                break;
            }
        }
        self.sim.land_all();
        self.settled_ms = self.sim.now_ms();
        self.tally.settled += 1;
        self.compact_to_the_end()?;
        self.check_everything()?;
        let oldest_ms = self.sim.now_ms() - self.layout.retention.longest_ms() - 3 * DAY_MS;
        self.model.forget_before(oldest_ms);
        Ok(())
    }

    fn run_all(&mut self) -> Result<(), String> {
        while !self.tasks.is_empty() {
            self.poll()?;
        }
        Ok(())
    }

    pub(crate) fn compact_to_the_end(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            // Leases of passes that died run out.
            self.sim.advance(400_000);
            let process = self.process("compact");
            let future = processes::compact(Arc::clone(&process), self.layout, 0, 300_000, None);
            self.start(&process, Kind::Compact, DAY_MS, future);
            self.run_all()?;
            if !self.work_left {
                return self.check_progress();
            }
        }
        Err("compaction comes to no end".to_owned())
    }

    /// Every bucket is compacted as far as it can be.
    fn check_progress(&self) -> Result<(), String> {
        for bucket in self.layout.buckets.all() {
            let progress = sim::finish(Box::pin(self.sim.store.progress(bucket))).map_err(|error| error.to_string())?;
            if !progress.dirty.is_empty() {
                return Err(format!(
                    "bucket {bucket} is dirty after all was compacted: {progress:?}"
                ));
            }
            // Clocks may be half a minute behind.
            let due_ms = self.sim.now_ms() - self.layout.grace_ms - self.layout.window.ms() - 60_000;
            if progress.compacted_before_ms.is_none_or(|before| before < due_ms) {
                return Err(format!("bucket {bucket} is not compacted up to {due_ms}: {progress:?}"));
            }
            if progress.rolled_before_ms.is_some_and(|before| before < due_ms - DAY_MS) {
                return Err(format!("bucket {bucket} is not rolled up to {due_ms}: {progress:?}"));
            }
        }
        Ok(())
    }

    /// Every metric as a whole and in part, by every warm reader and a cold one.
    fn check_everything(&mut self) -> Result<(), String> {
        let now_ms = self.sim.now_ms();
        let process = self.process("query");
        let cold = processes::reader(&process, self.layout);
        let mut readers = std::mem::take(&mut self.warm);
        readers.retain(|warm| !warm.process.is_old());
        readers.push(cold);
        for metric in self.workload.metrics.clone() {
            for want in WANTS {
                for at in 0..readers.len() {
                    let mut question = self.question(metric.clone());
                    question.want = want;
                    if at % 2 == 0 {
                        question.start_ms = now_ms - self.layout.retention.longest_ms() - DAY_MS;
                        question.end_ms = now_ms + 900_000;
                    }
                    let warm = readers.remove(0);
                    let process = Arc::clone(&warm.process);
                    self.start(&process, Kind::Ask, DAY_MS, processes::ask(warm, question));
                    self.run_all()?;
                    let asked = self.warm.pop().ok_or("a query came to no end")?;
                    readers.push(asked);
                }
            }
        }
        self.warm = readers;
        self.count_queue();
        self.run_all()?;
        let tick = self.sim.tick();
        let blocks = blocks::check(&self.sim, &self.layout, &self.model, tick, self.first_ms)?;
        self.tally.blocks_checked += blocks as u64;
        blocks::check_segments(&self.sim, &self.layout)?;
        self.check_letters()
    }

    /// Every record that is no envelope is among the dead letters, and no other.
    fn check_letters(&self) -> Result<(), String> {
        let letters = self.sim.store.dead_letters();
        self.stream.look(|shards| {
            for (number, shard) in shards.iter().enumerate() {
                for (at, taken) in shard.records.iter().enumerate() {
                    let place = Place { shard: number, at };
                    if !self.model.is_stored(place) {
                        return Err(format!("record {at} of shard {number} was not stored"));
                    }
                    let is_of = |letter: &&DeadLetter| {
                        letter.shard == SimStream::shard_id(number) && letter.sequence == taken.record.sequence
                    };
                    let found = letters.iter().any(|letter| is_of(&letter));
                    if found == taken.sound {
                        return Err(format!(
                            "record {at} of shard {number} is sound: {}, dead letter: {found}",
                            taken.sound
                        ));
                    }
                }
            }
            Ok(())
        })
    }
}
