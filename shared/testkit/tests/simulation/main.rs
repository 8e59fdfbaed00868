//! The storage engine compared with a plain model of it: the real ingest, consumers, operators, compactors and readers run over
//! the store in memory on a fake clock, interleaved at every call, while faults of all kinds are about. After each answer, and
//! whenever all is quiet, everything is compared ([`model`], [`tiers`], [`values`], [`settle`]).
//!
//! A run is a function of its seed. `TIDEMARK_SEED=… ` runs one again; `TIDEMARK_LOG=1` prints more of what came before the
//! failure. `make soak` runs fresh seeds for `SOAK_SECONDS`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic"
)]

mod blocks;
mod model;
mod processes;
mod random;
mod settle;
mod sim;
mod starts;
mod store;
mod stream;
mod tiers;
mod values;
mod workload;
mod world;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};
use world::{Tally, World};

/// How many things happen in one run.
const STEPS: u64 = 20_000;

/// Seeds that once failed, each with what was wrong.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        2039,
        "the first compaction left out what the raw retention had passed by then",
    ),
    (
        15_005_226_975_171_586_069,
        "a minute block outlived that a staleness marker left no minute with two samples",
    ),
];

#[expect(clippy::disallowed_methods, reason = "a test that is asked to repeat a seed")]
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; on a failure everything that is needed to understand it is printed.
fn run(seed: u64) -> (Tally, u64) {
    let mut world = World::new(seed);
    let outcome = world.run(STEPS);
    if let Err(why) = outcome {
        let lines = if variable::<u8>("TIDEMARK_LOG").is_some() {
            usize::MAX
        } else {
            60
        };
        for line in world.sim.last_lines(lines) {
            println!("{line}");
        }
        panic!("TIDEMARK_SEED={seed}, step {}: {why}", world.tally.steps);
    }
    (world.tally, world.sim.fingerprint())
}

fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[test]
fn what_once_failed_does_not_fail_again() {
    for (seed, what) in REGRESSIONS {
        println!("TIDEMARK_SEED={seed}: {what}");
        run(*seed);
    }
}

#[test]
fn every_answer_is_that_of_the_model() {
    let given = variable("TIDEMARK_SEED");
    let count = if given.is_some() { 1 } else { 12 };
    let mut all = Tally::default();
    for _ in 0..count {
        let seed = given.unwrap_or_else(fresh_seed);
        println!("TIDEMARK_SEED={seed}");
        let (tally, _) = run(seed);
        println!("{tally:?}");
        all += tally;
    }
    println!("in all: {all:?}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let seed = variable("TIDEMARK_SEED").unwrap_or_else(fresh_seed);
    println!("TIDEMARK_SEED={seed}");
    assert_eq!(run(seed), run(seed));
}

#[test]
#[ignore = "runs for minutes: make soak"]
fn soak() {
    let seconds = variable("SOAK_SECONDS").unwrap_or(600);
    let (begun, mut told) = (Instant::now(), Instant::now());
    let (mut runs, mut all) = (0, Tally::default());
    let mut seed = variable("TIDEMARK_SEED").unwrap_or_else(fresh_seed);
    println!("seeds from TIDEMARK_SEED={seed} on");
    while begun.elapsed() < Duration::from_secs(seconds) {
        all += run(seed).0;
        runs += 1;
        seed = seed.wrapping_add(1);
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!(
                "{} s, {runs} runs, next seed {seed}: {all:?}",
                begun.elapsed().as_secs()
            );
        }
    }
    println!("{runs} runs in {} s: {all:?}", begun.elapsed().as_secs());
}
