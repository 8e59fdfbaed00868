//! Kinesis: where records go ([`KinesisSink`]), which shard takes them, and how they are read back
//! ([`KinesisStream`]).

mod reader;
mod shards;
mod sink;

pub use reader::KinesisStream;
pub use sink::KinesisSink;
