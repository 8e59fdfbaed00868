//! Every limit of the system, in one place, each with its reason.

/// The largest request body after base64 decoding, in bytes. API Gateway hands a Lambda function at most 6 MB of event,
/// and base64 takes a third of it; plain text may use nearly all of it.
pub const MAX_BODY_BYTES: usize = 6_000_000;

/// The largest request body after decompression, in bytes: a 6 MB gzip body can expand a thousandfold, and the function
/// has 512 MB.
pub const MAX_DECOMPRESSED_BODY_BYTES: usize = 32_000_000;

/// The most samples in one request. The smallest sample in JSON takes about 24 bytes, so that a body of plain JSON
/// cannot hold more than this; it bounds the work that a compressed body can cause.
pub const MAX_SAMPLES_PER_REQUEST: usize = 250_000;

/// The longest metric name, in bytes. Generated names stay below 200; a name is part of a DynamoDB key (2,048 bytes).
pub const MAX_METRIC_NAME_BYTES: usize = 512;

/// The longest label name, in bytes.
pub const MAX_LABEL_NAME_BYTES: usize = 256;

/// The longest label value, in bytes. Twice the longest value that Amazon Managed Prometheus takes.
pub const MAX_LABEL_VALUE_BYTES: usize = 2_048;

/// The most labels of one series, without the metric name.
pub const MAX_LABELS_PER_SERIES: usize = 64;

/// The most bytes of all names and values of one series together, so that one series always fits a catalog item (400 KB)
/// many times over.
pub const MAX_SERIES_BYTES: usize = 32_768;

/// The most matchers of one label filter: one for each label that a series may have.
pub const MAX_MATCHERS_PER_FILTER: usize = MAX_LABELS_PER_SERIES;

/// The longest pattern of a matcher, in bytes. Dashboards spell lists of values out as `a|b|c`; a request line and its headers
/// have 10,240 bytes on API Gateway, so that a longer one could not be asked for anyway.
pub const MAX_PATTERN_BYTES: usize = 8_192;

/// The most bytes that a compiled pattern may take, since a few characters can stand for megabytes (`(\w{100}){100}`) and every rule's
/// patterns are compiled on each tick.
pub const MAX_PATTERN_PROGRAM_BYTES: usize = 1 << 20;

/// The most bytes of all names and values of one label filter together. No series has more, and a rule's filter is part of
/// every event, which must fit a message of 256 KiB.
pub const MAX_FILTER_BYTES: usize = MAX_SERIES_BYTES;

/// How far a timestamp may lie in the future, in milliseconds: clocks of agents drift, and ten minutes is what
/// Prometheus' remote-write receivers allow.
pub const MAX_FUTURE_MS: i64 = 10 * 60 * 1_000;

/// The most errors that an ingest answer lists. All are counted in `rejected`; a body of bad samples must not become an
/// answer that passes the 6 MB of a Lambda response.
pub const MAX_REPORTED_ERRORS: usize = 1_000;

/// The most samples and aggregates that one query may read: those of 1,000 series over a day at 15 s are 5.8 million. They are
/// read window by window and never held together, so that this bounds a query's time and not its memory.
pub const MAX_SAMPLES_PER_QUERY: usize = 10_000_000;

/// The most samples that one selection may hold in memory, as rules do: 32 MB.
pub const MAX_SELECTED_SAMPLES: usize = 2_000_000;

/// The most samples that a consumer holds at once: with their series about 64 MB. A run of records that holds more is
/// stored in several steps, since a few bytes of a constant series can stand for very many samples.
pub const MAX_SAMPLES_PER_FLUSH: u64 = 1_000_000;

/// The most steps of one query: the limit of Prometheus, and more than a screen has pixels.
pub const MAX_STEPS_PER_QUERY: i64 = 11_000;

/// The most results of one query, over all its pages: 1,000 series over a day in steps of a minute are 1.4 million. Each takes
/// some 70 bytes until the first page is written.
pub const MAX_RESULTS_PER_QUERY: usize = 2_000_000;

/// The most series that one query may select.
pub const MAX_SERIES_PER_QUERY: usize = 100_000;

/// The most bytes that an answer may hold: a Lambda response is at most 6 MB, and headers and JSON escapes need room.
pub const MAX_RESPONSE_BYTES: usize = 5_000_000;

/// The longest range of one query, in milliseconds: a year, the longest that anything is kept, and a day.
pub const MAX_QUERY_RANGE_MS: i64 = 366 * 86_400_000;

/// The most entries in one page of a list.
pub const MAX_PAGE_SIZE: usize = 1_000;

/// The page of a list when the caller names no limit.
pub const DEFAULT_PAGE_SIZE: usize = 100;

/// The most alert rules. All of them are read on each tick; beyond this they are to be sharded over invocations.
pub const MAX_RULES: usize = 10_000;

/// The longest rule name, in bytes: it is part of a key.
pub const MAX_RULE_NAME_BYTES: usize = 200;

/// The longest `duration_seconds` and `window_seconds` of a rule: the raw retention.
pub const MAX_RULE_SECONDS: u64 = 7 * 86_400;

/// The most result rows of one rule that become instances on one tick. A rule that matches more says so in its state;
/// a storm of pages helps nobody.
pub const MAX_INSTANCES_PER_RULE: usize = 1_000;

/// The longest `interval_seconds` of a rule: a day. A rule that is looked at less often is a report.
pub const MAX_INTERVAL_SECONDS: u64 = 86_400;

/// The most labels that a rule gives its alerts. A series has up to [`MAX_LABELS_PER_SERIES`] of its own.
pub const MAX_ALERT_LABELS_PER_RULE: usize = 32;

/// The most bytes of all names and values of a rule's own labels together: they are part of each of its events and of each alert in a
/// notification.
pub const MAX_ALERT_LABELS_BYTES: usize = 8_192;

/// The most notification channels of one rule.
pub const MAX_CHANNELS_PER_RULE: usize = 16;

/// The most bytes of all channels of a rule together, with their settings, in JSON: they are part of each of its events, which must fit a
/// message of 256 KiB beside labels and annotations.
pub const MAX_CHANNELS_BYTES: usize = 16_384;

/// The longest `group_wait_seconds`: a first page that waits for longer than a quarter of an hour is a report. It is also what SQS delays a
/// message by at most.
pub const MAX_GROUP_WAIT_SECONDS: u64 = 900;

/// The longest `group_interval_seconds`: a week.
pub const MAX_GROUP_INTERVAL_SECONDS: u64 = 7 * 86_400;

/// The shortest `repeat_interval_seconds`: rules are evaluated once a minute, so that nothing new can be said more often.
pub const MIN_REPEAT_INTERVAL_SECONDS: u64 = 60;

/// The longest `repeat_interval_seconds`: 30 days. What is told less often is not to be repeated at all.
pub const MAX_REPEAT_INTERVAL_SECONDS: u64 = 30 * 86_400;

/// The most mute times that one route names: each is looked at for each notification.
pub const MAX_MUTE_TIMES_PER_ROUTE: usize = 16;

/// The longest name of who acknowledges or resolves an alert, in bytes: an address of mail has at most 254.
pub const MAX_AUTHOR_BYTES: usize = 254;

/// The longest comment on an acknowledgement or a resolve, in bytes: it is kept in the alert, in its outbox and in the history.
pub const MAX_COMMENT_BYTES: usize = 2_048;

/// The most annotations of one rule, and the most bytes of one annotation's template.
pub const MAX_ANNOTATIONS_PER_RULE: usize = 32;

/// See [`MAX_ANNOTATIONS_PER_RULE`].
pub const MAX_ANNOTATION_BYTES: usize = 4_096;

/// The largest Kinesis record that ingest writes, in bytes: the stream takes 1 MiB of data and partition key together.
pub const MAX_RECORD_BYTES: usize = 1_000_000;

/// The largest record after decompression, in bytes: a poison record must not take the consumer's memory.
pub const MAX_DECOMPRESSED_RECORD_BYTES: usize = 64_000_000;

/// The largest segment item, in bytes, with its keys: DynamoDB takes 400 KB (409,600 bytes).
pub const MAX_SEGMENT_ITEM_BYTES: usize = 380_000;

/// The most buckets. Each open window of each bucket is one DynamoDB partition key to read.
pub const MAX_BUCKETS: u16 = 4_096;

/// The most series in one segment: decoding takes some 40 bytes of memory for each.
pub const MAX_SEGMENT_SERIES: usize = 100_000;

/// The most samples in one segment. A constant series takes a few bytes however many samples it has, so that the size of an
/// item alone would not bound the work of reading it.
pub const MAX_SEGMENT_SAMPLES: usize = 1_000_000;

/// The largest segment after decompression, in bytes: 380 KB unpack to more only when they were made to.
pub const MAX_DECOMPRESSED_SEGMENT_BYTES: usize = 8_000_000;

/// The largest block item (a chunk or a rollup), in bytes, with its keys: DynamoDB takes 400 KB (409,600 bytes).
pub const MAX_BLOCK_ITEM_BYTES: usize = 380_000;

/// The most samples in one part of a chunk. A constant series takes a few bytes however many samples it has; unpacked they
/// take 1.6 MB, and as much again while they are.
pub const MAX_CHUNK_SAMPLES: usize = 100_000;

/// The most points in one rollup: a day of one-minute points is 1,440. At the 65 bytes that a point takes at worst, they stay
/// below what an item holds.
pub const MAX_ROLLUP_POINTS: usize = 4_000;
