//! What an on-call person may trust, as stories: samples are pushed, rules evaluated, people told, on a fake clock and in one process,
//! through all of the real code. [`language`] says how a story is written, [`world`] how it is played.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic"
)]

mod deeds;
mod expected;
mod language;
mod parts;
mod time;
mod verdict;
mod world;

mod delivery;
mod lifecycle;
mod recovery;
mod routing;
mod suppression;
