//! Kinesis: where records go ([`KinesisSink`]), which shard takes them ([`ShardMap`]), and how they are read back
//! ([`KinesisStream`]).

mod reader;
mod shards;
mod sink;

pub use reader::KinesisStream;
pub use shards::ShardMap;
pub use sink::{KinesisSink, SinkError};
