//! From a record's bytes to checked series and samples.

use super::{Codec, EnvelopeError, NEXT_VALUE, NUMBERED_VALUE, SAME_VALUE, split_header};
use tidemark_encoding::times::Rows;
use tidemark_encoding::values::ValueColumn;
use tidemark_encoding::{DecodeError, Reader, compress};
use tidemark_model::limits::{
    MAX_DECOMPRESSED_RECORD_BYTES, MAX_LABEL_NAME_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS_PER_SERIES,
    MAX_METRIC_NAME_BYTES, MAX_SERIES_BYTES,
};
use tidemark_model::{Labels, Sample, SeriesId, series};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A decoded record. All of it was checked; its views cannot fail.
#[derive(Debug)]
pub struct Envelope {
    arrival_ms: i64,
    /// All texts, one after the other; `Span`s point into it.
    text: String,
    label_names: Vec<Span>,
    values: Vec<Value>,
    /// The values of all sets, by number.
    set_values: Vec<u32>,
    sets: Vec<Set>,
    metrics: Vec<Metric>,
    series: Vec<Series>,
    rows: Rows,
    /// The values of all samples, series by series.
    floats: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// A label: its value, and the number of its name.
#[derive(Clone, Copy, Debug)]
struct Value {
    name: u32,
    span: Span,
    /// Into the canonical encodings, which are needed only while decoding.
    canonical: Span,
}

#[derive(Clone, Copy, Debug)]
struct Set {
    span: Span,
    hash: u64,
    check: u64,
    bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Metric {
    span: Span,
    hash: u64,
    check: u64,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    metric: u32,
    set: u32,
    row: u32,
    /// The end of its values; they start where those of the series before end.
    end: u32,
}

/// One series of a decoded record.
#[derive(Clone, Copy, Debug)]
pub struct SeriesView<'e> {
    envelope: &'e Envelope,
    at: u32,
}

/// A second hash of a name and the canonical encoding of labels ([`series::write_canonical`]). It differs where two series
/// share a fingerprint. It is compared inside one process only and never stored.
#[must_use]
pub fn series_check(name: &str, canonical_labels: &[u8]) -> u64 {
    join(check(name.as_bytes()), check(canonical_labels))
}

fn check(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 1)
}

fn join(name: u64, labels: u64) -> u64 {
    // Not symmetric, so that a name and labels of the same bytes do not cancel each other.
    name.rotate_left(1) ^ labels
}

/// Decodes a record and checks all of it.
///
/// # Errors
/// When anything in it is not as the format says, or passes a limit.
pub fn decode(data: &[u8]) -> Result<Envelope, EnvelopeError> {
    let (header, rest) = split_header(data)?;
    let samples = header.samples as usize;
    match header.codec {
        Codec::Plain => decode_body(rest, samples),
        Codec::Zstd => decode_body(&compress::unzstd(rest, MAX_DECOMPRESSED_RECORD_BYTES)?, samples),
    }
}

fn decode_body(body: &[u8], samples: usize) -> Result<Envelope, EnvelopeError> {
    let reader = &mut Reader::new(body);
    let arrival_ms = reader.i64()?;
    let table = Table::decode(reader, samples)?;
    let shapes = Shapes::decode(reader, samples, table.label_names.len())?;
    let (sets, set_values) = decode_sets(reader, samples, &table, &shapes)?;
    let series_sets = decode_series(reader, samples, table.metrics.len(), &sets)?;
    let mut row_of = Vec::with_capacity(series_sets.len());
    let mut row = 0_i64;
    for _ in &series_sets {
        row = row.wrapping_add(reader.i64()?);
        row_of.push(u32::try_from(row).map_err(|_| DecodeError::OutOfRange("a row number"))?);
    }
    let rows = Rows::decode(reader, samples)?;
    let mut counts = Vec::with_capacity(row_of.len());
    let mut series = Vec::with_capacity(row_of.len());
    let mut end = 0;
    for ((metric, set), row) in series_sets.into_iter().zip(row_of) {
        // A number without a row gives no timestamps.
        let count = rows.get(row as usize).len();
        end += count;
        if count == 0 || end > samples {
            return Err(DecodeError::OutOfRange("the number of samples").into());
        }
        let name_bytes = table.metrics[metric as usize].span.len();
        if name_bytes + sets[set as usize].bytes as usize > MAX_SERIES_BYTES {
            return Err(DecodeError::OutOfRange("the size of a series").into());
        }
        counts.push(count as u32);
        series.push(Series {
            metric,
            set,
            row,
            end: end as u32,
        });
    }
    if end != samples {
        return Err(DecodeError::OutOfRange("the number of samples").into());
    }
    let column = ValueColumn::decode(reader, &counts)?;
    reader.clone().finish()?;
    let mut floats = Vec::with_capacity(samples);
    for index in 0..counts.len() {
        column.read(index, &mut floats);
    }
    Ok(Envelope {
        arrival_ms,
        text: table.text,
        label_names: table.label_names,
        values: table.values,
        set_values,
        sets,
        metrics: table.metrics,
        series,
        rows,
        floats,
    })
}

impl Span {
    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The symbol table.
struct Table {
    text: String,
    label_names: Vec<Span>,
    /// For each label name the number of its first value, and one more at the end.
    first_values: Vec<u32>,
    values: Vec<Value>,
    metrics: Vec<Metric>,
    canonical: Vec<u8>,
}

impl Table {
    fn decode(reader: &mut Reader<'_>, samples: usize) -> Result<Self, EnvelopeError> {
        // Everything in the table is used by a sample. And each name, value and metric takes a byte at least, which bounds
        // what a claim can ask for.
        let most = (samples * MAX_LABELS_PER_SERIES).min(reader.rest().len());
        let name_count = reader.count(most, "the number of label names")?;
        let mut cursor = Cursor::default();
        let mut label_names = Vec::with_capacity(name_count);
        let mut first_values = Vec::with_capacity(name_count + 1);
        let mut value_count = 0_usize;
        for _ in 0..name_count {
            label_names.push(cursor.span(reader, 1, MAX_LABEL_NAME_BYTES)?);
            first_values.push(value_count as u32);
            value_count += reader.count(most - value_count, "the number of label values")?;
        }
        first_values.push(value_count as u32);
        let mut values = Vec::with_capacity(value_count);
        for name in 0..name_count {
            for _ in first_values[name]..first_values[name + 1] {
                values.push(Value {
                    name: name as u32,
                    span: cursor.span(reader, 0, MAX_LABEL_VALUE_BYTES)?,
                    canonical: Span { start: 0, end: 0 },
                });
            }
        }
        let metric_count = reader.count(samples.min(reader.rest().len()), "the number of metrics")?;
        let mut spans = Vec::with_capacity(metric_count);
        for _ in 0..metric_count {
            spans.push(cursor.span(reader, 1, MAX_METRIC_NAME_BYTES)?);
        }
        let text = std::str::from_utf8(reader.take(cursor.end as usize)?).map_err(|_| EnvelopeError::NotUtf8)?;
        let mut table = Self {
            text: text.to_owned(),
            label_names,
            first_values,
            values,
            metrics: Vec::with_capacity(metric_count),
            canonical: Vec::new(),
        };
        table.check_texts(&spans)?;
        table.encode_canonical()?;
        Ok(table)
    }

    /// Checks that no span cuts a character and that the label names ascend, and hashes the metric names.
    fn check_texts(&mut self, metrics: &[Span]) -> Result<(), EnvelopeError> {
        let text = |span: &Span| self.text.get(span.range()).ok_or(EnvelopeError::NotUtf8);
        let mut before = "";
        for span in &self.label_names {
            let name = text(span)?;
            // The first one is not empty, by its length.
            if name <= before {
                return Err(DecodeError::OutOfRange("the order of label names").into());
            }
            before = name;
        }
        for value in &self.values {
            text(&value.span)?;
        }
        for span in metrics {
            let name = text(span)?;
            self.metrics.push(Metric {
                span: *span,
                hash: series::hash_name(name),
                check: check(name.as_bytes()),
            });
        }
        Ok(())
    }

    /// Encodes each label once as series ids want it, so that a set is hashed by copying few pieces.
    fn encode_canonical(&mut self) -> Result<(), DecodeError> {
        let bytes_of = |value: &Value| 8 + self.label_names[value.name as usize].len() + value.span.len();
        let bytes = self.values.iter().map(bytes_of).sum();
        if bytes > MAX_DECOMPRESSED_RECORD_BYTES {
            return Err(DecodeError::OutOfRange("the size of the labels"));
        }
        self.canonical.reserve(bytes);
        for value in &mut self.values {
            let start = self.canonical.len() as u32;
            let name = &self.text[self.label_names[value.name as usize].range()];
            let pair = (name, &self.text[value.span.range()]);
            series::write_canonical(&mut self.canonical, std::iter::once(pair));
            let end = self.canonical.len() as u32;
            value.canonical = Span { start, end };
        }
        Ok(())
    }
}

/// Gives each text its place.
#[derive(Default)]
struct Cursor {
    end: u32,
}

impl Cursor {
    fn span(&mut self, reader: &mut Reader<'_>, least: usize, most: usize) -> Result<Span, DecodeError> {
        let length = reader.count(most, "the length of a text")?;
        if length < least {
            return Err(DecodeError::OutOfRange("the length of a text"));
        }
        let start = self.end;
        self.end = start
            .checked_add(length as u32)
            .ok_or(DecodeError::OutOfRange("the length of all texts"))?;
        Ok(Span { start, end: self.end })
    }
}

/// Which label names sets have.
struct Shapes {
    spans: Vec<Span>,
    names: Vec<u32>,
}

impl Shapes {
    fn decode(reader: &mut Reader<'_>, samples: usize, label_names: usize) -> Result<Self, DecodeError> {
        let count = reader.count(samples.min(reader.rest().len()), "the number of label shapes")?;
        let mut shapes = Self {
            spans: Vec::with_capacity(count),
            names: Vec::new(),
        };
        for _ in 0..count {
            let start = shapes.names.len() as u32;
            let length = reader.count(MAX_LABELS_PER_SERIES, "the number of labels")?;
            let mut least = 0;
            for _ in 0..length {
                let name = reader.count(label_names, "a label name")? + least;
                if name >= label_names {
                    return Err(DecodeError::OutOfRange("a label name"));
                }
                shapes.names.push(name as u32);
                // Ascending, and so without repetition.
                least = name + 1;
            }
            shapes.spans.push(Span {
                start,
                end: shapes.names.len() as u32,
            });
        }
        Ok(shapes)
    }
}

/// The label sets, and the values of all of them.
fn decode_sets(
    reader: &mut Reader<'_>,
    samples: usize,
    table: &Table,
    shapes: &Shapes,
) -> Result<(Vec<Set>, Vec<u32>), DecodeError> {
    let count = reader.count(samples.min(reader.rest().len()), "the number of label sets")?;
    let mut sets = Vec::with_capacity(count);
    let mut set_values = Vec::with_capacity(count * 4);
    // For each name: the value of the last set that had it, and the next one that no set has had.
    let mut states: Vec<(Option<u32>, u32)> = table.first_values.iter().map(|first| (None, *first)).collect();
    let mut canonical = Vec::with_capacity(1_024);
    let mut all_bytes = 0;
    for _ in 0..count {
        let shape = reader.count(shapes.spans.len(), "a label shape")?;
        let shape = shapes
            .spans
            .get(shape)
            .ok_or(DecodeError::OutOfRange("a label shape"))?;
        let start = set_values.len() as u32;
        canonical.clear();
        for name in &shapes.names[shape.range()] {
            let (last, next) = &mut states[*name as usize];
            let value = match reader.u64()? {
                SAME_VALUE => last.ok_or(DecodeError::OutOfRange("a label value"))?,
                NEXT_VALUE => {
                    *next += 1;
                    *next - 1
                }
                code => {
                    let number = u32::try_from(code - NUMBERED_VALUE).unwrap_or(u32::MAX);
                    table.first_values[*name as usize].saturating_add(number)
                }
            };
            if value >= table.first_values[*name as usize + 1] {
                return Err(DecodeError::OutOfRange("a label value"));
            }
            *last = Some(value);
            set_values.push(value);
            canonical.extend_from_slice(&table.canonical[table.values[value as usize].canonical.range()]);
        }
        let end = set_values.len() as u32;
        let bytes = canonical.len() - 8 * (end - start) as usize;
        // The work of hashing all sets is bounded as the record is, though a set may name long values in few bytes.
        all_bytes += canonical.len();
        if bytes > MAX_SERIES_BYTES || all_bytes > MAX_DECOMPRESSED_RECORD_BYTES {
            return Err(DecodeError::OutOfRange("the size of the label sets"));
        }
        sets.push(Set {
            span: Span { start, end },
            hash: xxh3_64(&canonical),
            check: check(&canonical),
            bytes: bytes as u32,
        });
    }
    Ok((sets, set_values))
}

/// For each series its metric and its label set.
fn decode_series(
    reader: &mut Reader<'_>,
    samples: usize,
    metrics: usize,
    sets: &[Set],
) -> Result<Vec<(u32, u32)>, DecodeError> {
    let mut series = Vec::new();
    for metric in 0..metrics {
        let count = reader.count(samples - series.len(), "the number of series")?;
        series.extend(std::iter::repeat_n((metric as u32, 0), count));
    }
    let mut expected = 0_i64;
    for (_, set) in &mut series {
        let number = expected.wrapping_add(reader.i64()?);
        *set = u32::try_from(number)
            .ok()
            .filter(|number| (*number as usize) < sets.len())
            .ok_or(DecodeError::OutOfRange("a label set"))?;
        expected = number + 1;
    }
    Ok(series)
}

impl Envelope {
    /// When ingest took the request, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn arrival_ms(&self) -> i64 {
        self.arrival_ms
    }

    /// How many samples are inside.
    #[must_use]
    pub fn sample_count(&self) -> u32 {
        // Decoding has compared it with the header's, which is a u32.
        self.floats.len() as u32
    }

    /// The series, those of one metric next to each other.
    pub fn series(&self) -> impl ExactSizeIterator<Item = SeriesView<'_>> {
        (0..self.series.len() as u32).map(|at| SeriesView { envelope: self, at })
    }
}

impl<'e> SeriesView<'e> {
    fn series(&self) -> &'e Series {
        &self.envelope.series[self.at as usize]
    }

    /// The fingerprint, computed from the name and labels inside.
    #[must_use]
    pub fn id(&self) -> SeriesId {
        let series = self.series();
        SeriesId {
            name: self.envelope.metrics[series.metric as usize].hash,
            labels: self.envelope.sets[series.set as usize].hash,
        }
    }

    /// What [`series_check`] gives for the series.
    #[must_use]
    pub fn check(&self) -> u64 {
        let series = self.series();
        let name = self.envelope.metrics[series.metric as usize].check;
        join(name, self.envelope.sets[series.set as usize].check)
    }

    /// The metric name.
    #[must_use]
    pub fn name(&self) -> &'e str {
        let envelope = self.envelope;
        &envelope.text[envelope.metrics[self.series().metric as usize].span.range()]
    }

    /// The labels in ascending order of their names.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&'e str, &'e str)> + use<'e> {
        let envelope = self.envelope;
        let set = envelope.sets[self.series().set as usize].span.range();
        envelope.set_values[set].iter().map(|value| {
            let value = envelope.values[*value as usize];
            let name = envelope.label_names[value.name as usize];
            (&envelope.text[name.range()], &envelope.text[value.span.range()])
        })
    }

    /// An owned copy of the labels.
    #[must_use]
    pub fn to_labels(&self) -> Labels {
        // Decoding has checked that the names ascend, so that this never falls back.
        Labels::from_pairs(self.labels()).unwrap_or_default()
    }

    /// How many samples the series has in this record: at least one.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.timestamps().len()
    }

    /// The samples in the order of their arrival. Of two with one timestamp the later holds.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample> + use<'e> {
        let end = self.series().end as usize;
        let timestamps = self.timestamps();
        let values = &self.envelope.floats[end - timestamps.len()..end];
        timestamps.iter().zip(values).map(|(timestamp_ms, value)| Sample {
            timestamp_ms: *timestamp_ms,
            value: *value,
        })
    }

    fn timestamps(&self) -> &'e [i64] {
        self.envelope.rows.get(self.series().row as usize)
    }
}
