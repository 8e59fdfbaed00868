//! What is asked of the decoders, whatever bytes they get: no panic, and what decodes survives being encoded and decoded
//! once more, bit for bit. `cargo fuzz` runs these functions, and so does `../tests/hostile.rs` with a bounded number of
//! mutations of valid bytes.

use tidemark_model::Sample;
use tidemark_tsdb::rollup::Rollup;
use tidemark_tsdb::segment::Entry;
use tidemark_tsdb::{chunk, rollup, segment};
use tidemark_wire::envelope;

/// A few bytes can stand for very many equal samples. They are decoded, but encoding them again would take most of the time.
const MAX_ENCODED: usize = 4_000;

/// The bytes of a segment.
pub fn segment(bytes: &[u8]) {
    let Ok(content) = entries(bytes) else { return };
    let samples: usize = content.iter().map(|(_, samples)| samples.len()).sum();
    if samples > MAX_ENCODED {
        return;
    }
    let borrowed: Vec<Entry<'_>> = content
        .iter()
        .map(|(reference, samples)| Entry {
            reference: *reference,
            samples,
        })
        .collect();
    let again = entries(&segment::encode(&borrowed));
    assert!(again.is_ok_and(|again| {
        again.len() == content.len()
            && again
                .iter()
                .zip(&content)
                .all(|(a, b)| a.0 == b.0 && same_samples(&a.1, &b.1))
    }));
}

/// The entries of a segment with their references.
fn entries(bytes: &[u8]) -> Result<Vec<(u32, Vec<Sample>)>, segment::SegmentError> {
    let segment = segment::decode(bytes)?;
    let mut entries = Vec::new();
    for (index, reference) in segment.references().iter().enumerate() {
        let mut samples = Vec::new();
        segment.read_entry(index, &mut samples);
        assert!(!samples.is_empty());
        entries.push((*reference, samples));
    }
    let samples: usize = entries.iter().map(|(_, samples)| samples.len()).sum();
    assert_eq!(samples, segment.sample_count());
    Ok(entries)
}

/// The bytes of a chunk.
pub fn chunk(bytes: &[u8]) {
    let mut samples = Vec::new();
    if chunk::decode(bytes, &mut samples).is_err() {
        assert!(samples.is_empty());
        return;
    }
    if samples.len() > MAX_ENCODED {
        return;
    }
    let mut again = Vec::new();
    for part in chunk::split(&samples) {
        assert!(chunk::decode(&part, &mut again).is_ok());
    }
    assert!(same_samples(&again, &samples));
}

/// The bytes of a rollup.
pub fn rollup(bytes: &[u8]) {
    let Ok(decoded) = rollup::decode(bytes) else { return };
    let again = rollup::decode(&rollup::encode(&decoded.rollup, decoded.resolution_ms));
    assert!(again.is_ok_and(|again| {
        again.resolution_ms == decoded.resolution_ms && bits(&again.rollup) == bits(&decoded.rollup)
    }));
}

/// The bytes of an envelope.
pub fn envelope(bytes: &[u8]) {
    let Ok(envelope) = envelope::decode(bytes) else { return };
    let mut samples = 0;
    for series in envelope.series() {
        let _ = (series.id(), series.check(), series.to_labels());
        samples += series.samples().count();
    }
    assert_eq!(samples, envelope.sample_count() as usize);
}

fn same_samples(a: &[Sample], b: &[Sample]) -> bool {
    let bits = |sample: &Sample| (sample.timestamp_ms, sample.value.to_bits());
    a.len() == b.len() && a.iter().map(bits).eq(b.iter().map(bits))
}

fn bits(rollup: &Rollup) -> Vec<[u64; 7]> {
    let mut all = vec![[rollup.first.to_bits(); 7]];
    all.extend(rollup.points.iter().map(|point| {
        [
            point.start_ms as u64,
            u64::from(point.count),
            point.sum.to_bits(),
            point.min.to_bits(),
            point.max.to_bits(),
            point.last.to_bits(),
            point.increase.to_bits(),
        ]
    }));
    all
}
