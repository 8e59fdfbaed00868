//! Alerting and notifying, from the evaluation to the receivers, under all faults at once. The real ticks, the real dispatcher
//! and the real stores in memory run as many small processes, interleaved at every call, while calls fail, lose their answers and
//! are the last thing that their process does; messages come twice, late and in any order; receivers are out for hours; people
//! change everything meanwhile. Whatever a receiver takes is judged at once ([`truth`]), and everything when all is quiet ([`verdict`]).
//!
//! A run is a function of its seed. `TIDEMARK_SEED=… ` runs one again; `TIDEMARK_LOG=1` prints all of what came before the
//! failure. `make soak` runs fresh seeds for `SOAK_SECONDS`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic"
)]

mod alerts;
mod data;
mod executor;
mod facts;
mod judge;
mod lanes;
mod people;
mod queue;
#[path = "../simulation/random.rs"]
mod random;
mod receivers;
mod sim;
mod truth;
mod verdict;
mod world;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};
use world::{Tally, World};

/// How many fresh seeds a run of the tests tries.
const RUNS: u64 = 2_000;

/// Where the tests begin: what fails here fails again. `make soak` draws fresh ones.
const FIRST_SEED: u64 = 50_000;

/// Seeds that once failed, each with what was wrong.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        7,
        "an event that came back took the time that was noted for itself for another's wake: nobody came",
    ),
    (
        10,
        "what was acknowledged was repeated while its end was stored and not published yet",
    ),
    (
        15,
        "repetitions took every token of a slow rate limit, and an end was never told",
    ),
    (
        84,
        "both messages of an incident were late, and it was told to be over after its successor was told to fire",
    ),
    (
        3_917_474_656_188_945_196,
        "an end waited for its mute time while what began again was told, under a rule that had been edited",
    ),
    (
        668,
        "a wake that came back too early after a failure took itself for one that was under way: nobody came",
    ),
];

#[expect(clippy::disallowed_methods, reason = "a test that is asked to repeat a seed")]
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; when it fails, once more with a log.
fn run(seed: u64) -> (Tally, u64) {
    let mut world = World::new(seed, false);
    let Err(why) = world.run() else {
        return (world.tally, world.sim.fingerprint());
    };
    let mut world = World::new(seed, true);
    let again = world.run();
    let lines = world.sim.lines();
    let most = variable::<u8>("TIDEMARK_LOG").map_or(80, |_| usize::MAX);
    for line in lines.iter().skip(lines.len().saturating_sub(most)) {
        println!("{line}");
    }
    assert_eq!(
        again.as_ref(),
        Err(&why),
        "TIDEMARK_SEED={seed} is not the same run again"
    );
    panic!("TIDEMARK_SEED={seed}, step {}: {why}", world.tally.steps);
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
fn everybody_is_told_everything_once_and_in_order() {
    let given = variable("TIDEMARK_SEED");
    let first = given.unwrap_or(FIRST_SEED);
    println!("from TIDEMARK_SEED={first} on");
    let mut all = Tally::default();
    for at in 0..if given.is_some() { 1 } else { RUNS } {
        all += run(first.wrapping_add(at)).0;
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
    let mut all = Tally::default();
    let mut seed = variable("TIDEMARK_SEED").unwrap_or_else(fresh_seed);
    println!("seeds from TIDEMARK_SEED={seed} on");
    while begun.elapsed() < Duration::from_secs(seconds) {
        all += run(seed).0;
        seed = seed.wrapping_add(1);
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("{} s, next seed {seed}: {all:?}", begun.elapsed().as_secs());
        }
    }
    println!("in {} s: {all:?}", begun.elapsed().as_secs());
}

/// Goes on after a failure, and says how many seeds fail: to look at what a change of the code under test breaks.
#[test]
#[ignore = "a tool: it does not fail"]
fn survey() {
    let first: u64 = variable("TIDEMARK_SEED").unwrap_or(1);
    let count: u64 = variable("COUNT").unwrap_or(200);
    let begun = Instant::now();
    let mut all = Tally::default();
    let mut failed = 0;
    for seed in first..first.saturating_add(count) {
        let mut world = World::new(seed, false);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run())) {
            Ok(Ok(())) => all += world.tally,
            Ok(Err(why)) => {
                failed += 1;
                let why: String = why.chars().take(400).collect();
                println!("FAIL {seed} step {}: {why}", world.tally.steps);
            }
            Err(_) => {
                failed += 1;
                println!("FAIL {seed} panics");
            }
        }
    }
    println!("{failed} of {count} failed in {} s: {all:?}", begun.elapsed().as_secs());
}
