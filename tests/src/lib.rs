//! The end-to-end and acceptance tests of Tidemark, and the programs that show it (`tidemark-demo`) and measure it.

pub mod harness;
