use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tidemark_testkit::mix::Mix;

fn sample(timestamp_ms: i64, value: f64) -> Sample {
    Sample { timestamp_ms, value }
}

/// Series with their samples, and entries over them.
type Content = Vec<(Reference, Vec<Sample>)>;

fn entries(content: &Content) -> Vec<Entry<'_>> {
    content
        .iter()
        .map(|(reference, samples)| Entry {
            reference: *reference,
            samples,
        })
        .collect()
}

fn read(parts: &[Vec<u8>]) -> Content {
    let mut content = Content::new();
    for part in parts {
        let segment = decode(part).unwrap();
        let mut samples = 0;
        let mut references = segment.references().to_vec();
        references.dedup();
        for reference in references {
            let mut read = Vec::new();
            assert!(segment.read(reference, &mut read));
            samples += read.len();
            match content.last_mut() {
                Some((last, known)) if *last == reference => known.extend(read),
                _ => content.push((reference, read)),
            }
        }
        assert_eq!(segment.sample_count(), samples);
    }
    content
}

/// 1,000 series of the mix with four samples each.
fn mix(series: usize, samples: usize) -> Content {
    let mut mix = Mix::new(series / 10, 1_767_225_600_000);
    let scrapes = mix.scrapes(samples);
    let series = scrapes.iter().enumerate().map(|(at, samples)| {
        let samples = samples.iter().map(|(at, value)| sample(*at, *value)).collect();
        (3_000 + at as Reference, samples)
    });
    series.collect()
}

fn any_content() -> impl Strategy<Value = Content> {
    let value = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1_000_i64..100_000).prop_map(|m| m as f64 / 100.0),
        proptest::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            5e-324,
            1e308
        ]),
        Just(f64::from_bits(tidemark_model::STALE_NAN_BITS)),
    ];
    let time = prop_oneof![
        any::<i64>(),
        (0_i64..9).prop_map(|step| 1_767_225_600_000 + step * 15_000),
        Just(i64::MIN),
        Just(i64::MAX)
    ];
    let samples = vec((time, value), 1..8);
    proptest::collection::btree_map(any::<Reference>(), samples, 0..30).prop_map(|content| {
        let samples = |samples: Vec<(i64, f64)>| samples.into_iter().map(|(at, value)| sample(at, value)).collect();
        content
            .into_iter()
            .map(|(reference, all)| (reference, samples(all)))
            .collect()
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|two| (two[0] * 16 + two[1]) as u8).collect()
}

/// The segment with its body as it is.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    match bytes[1] {
        ZSTD => [
            &[VERSION, PLAIN][..],
            &compress::unzstd(&bytes[2..], MAX_DECOMPRESSED_SEGMENT_BYTES).unwrap(),
        ]
        .concat(),
        _ => bytes.to_vec(),
    }
}

/// These bytes are in tables: a change must not break reading them. `FORMAT.md` explains them.
#[test]
fn golden_vectors() {
    let content = vec![
        (7, vec![sample(1_000, 5.0), sample(16_000, 5.0), sample(31_002, 5.0)]),
        (8, vec![sample(1_000, 0.5), sample(16_000, 0.75), sample(31_002, 0.25)]),
        (300, vec![sample(1_005, 4_096_000.0), sample(16_005, 8_192_000.0)]),
        (
            301,
            vec![
                sample(1_005, -0.0),
                sample(16_005, f64::from_bits(0x7ff0_0000_0000_0002)),
            ],
        ),
        (302, vec![sample(1_005, f64::INFINITY), sample(16_005, f64::INFINITY)]),
    ];
    assert_eq!(hex(&unpacked(&encode(&entries(&content)))), hex(&unhex(GOLDEN)));
    assert_eq!(read(&[unhex(GOLDEN)]), content);
    assert_eq!(read(&[unhex(GOLDEN_ZSTD)]), content);
}

const GOLDEN: &str = "
    01 00
    05 07 01 a402 01 01  00 00 02 00 00
    02 03 02 d00f 03 28 b0ea01 00 04 00
    02 13 07 00 01  03 07 0f 47  04 0a 64 fa01
    03 807f7f 00f0f0 000000 000000 000000 000000 000000 000200
    03 b2711f";

/// What zstd makes of a body may differ from version to version, but each must be read.
const GOLDEN_ZSTD: &str = "010128b52ffd2044e501005403050701a40201010000020000020302d00f0328b0ea01000400021307000103070f47040a64fa0103807f7f00f0f000020003b2711f0100ef4019";

#[test]
fn a_flush_of_the_mix_takes_less_than_three_bytes_per_sample() {
    let content = mix(1_000, 4);
    let parts = split(&entries(&content));
    assert_eq!(parts.len(), 1);
    let per_sample = parts[0].len() as f64 / 4_000.0;
    assert!(per_sample < 2.3, "{per_sample}");
    assert_eq!(read(&parts), content);
}

#[test]
fn no_samples_need_no_segment() {
    assert_eq!(split(&[]), Vec::<Vec<u8>>::new());
    let empty = Entry {
        reference: 1,
        samples: &[],
    };
    assert_eq!(split(&[empty]), Vec::<Vec<u8>>::new());
    assert_eq!(decode(&encode(&[])).unwrap().sample_count(), 0);
}

#[test]
fn only_the_series_asked_for_is_read() {
    let content = mix(100, 4);
    let segment = decode(&encode(&entries(&content))).unwrap();
    let mut out = vec![sample(1, 1.0)];
    assert!(!segment.read(2_999, &mut out));
    assert!(!segment.read(Reference::MAX, &mut out));
    assert_eq!(out.len(), 1);
    assert!(segment.read(3_042, &mut out));
    assert_eq!(out[1..], content[42].1);
}

#[test]
fn entries_out_of_order_or_of_one_series_twice_keep_the_order_of_their_samples() {
    let (first, second, third) = ([sample(1, 1.0)], [sample(1, 2.0), sample(2, 3.0)], [sample(9, 9.0)]);
    let entry = |reference, samples| Entry { reference, samples };
    let bytes = encode(&[entry(5, &first[..]), entry(5, &second[..]), entry(2, &third[..])]);
    let segment = decode(&bytes).unwrap();
    assert_eq!(segment.references(), [2, 5, 5]);
    let mut out = Vec::new();
    assert!(segment.read(5, &mut out));
    assert_eq!(out, [&first[..], &second[..]].concat());
}

#[test]
fn what_passes_the_item_limit_is_split_even_inside_a_series() {
    let mut bits = 1_u64;
    let mut noise = |count: usize| -> Vec<Sample> {
        let next = |at| {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            sample(at as i64 * 1_000, f64::from_bits(bits))
        };
        (0..count).map(next).collect()
    };
    let content = vec![(1, noise(10)), (2, noise(100_000)), (3, noise(10))];
    let parts = split(&entries(&content));
    assert!((3..=4).contains(&parts.len()), "{}", parts.len());
    assert!(parts.iter().all(|part| part.len() < MAX_SEGMENT_ITEM_BYTES));
    assert_eq!(read(&parts), content);
    assert_eq!(parts, split(&entries(&content)));
}

#[test]
fn more_samples_than_a_segment_may_hold_are_split_however_small_they_are() {
    let content = vec![(
        1,
        (0..MAX_SEGMENT_SAMPLES as i64 + 1).map(|at| sample(at, 1.0)).collect(),
    )];
    let parts = split(&entries(&content));
    assert_eq!(parts.len(), 2);
    assert_eq!(read(&parts), content);
}

#[test]
fn what_the_format_does_not_allow_is_an_error() {
    let body = |bytes: &[u8]| decode(&[&[VERSION, PLAIN], bytes].concat());
    // One series 1, row 0; one row of one timestamp 0; one constant 1.
    assert!(body(&[1, 1, 0, 1, 1, 0, 0, 0, 2, 0, 1, 2, 0, 0]).is_ok());
    assert!(
        body(&[1, 1, 2, 1, 1, 0, 0, 0, 2, 0, 1, 2, 0, 0]).is_err(),
        "a row that there is not"
    );
    assert!(
        body(&[1, 1, 1, 1, 1, 0, 0, 0, 2, 0, 1, 2, 0, 0]).is_err(),
        "a row before the first"
    );
    assert!(
        body(&[1, 1, 0, 1, 1, 0, 0, 0, 2, 0, 1, 2, 0, 0, 0]).is_err(),
        "bytes left over"
    );
    assert!(
        body(&[1, 1, 0, 1, 1, 0, 0, 0, 2, 0, 2, 2, 0, 0, 0]).is_err(),
        "an integer left over"
    );
    assert!(
        body(&[2, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]).is_err(),
        "a reference beyond 32 bits"
    );
    assert_eq!(decode(&[]).unwrap_err(), DecodeError::Truncated.into());
    assert_eq!(decode(&[9, 0]).unwrap_err(), SegmentError::Version(9));
    assert_eq!(decode(&[1, 9]).unwrap_err(), SegmentError::Encoding(9));
}

#[test]
fn a_segment_of_few_bytes_with_very_many_samples_is_refused() {
    // 100,000 series that share one row of 100 timestamps: 10 million samples in some hundred bytes.
    let row: Vec<Sample> = (0..100).map(|at| sample(at, 1.0)).collect();
    let content: Content = (0..100_000).map(|reference| (reference, row.clone())).collect();
    let bytes = encode(&entries(&content));
    assert!(bytes.len() < 1_000);
    assert_eq!(
        decode(&bytes).unwrap_err(),
        DecodeError::OutOfRange("the number of samples").into()
    );
    assert_eq!(split(&entries(&content)).len(), 16);
    let bomb = compress::zstd(&vec![0; MAX_DECOMPRESSED_SEGMENT_BYTES + 1], 3).unwrap();
    assert!(matches!(
        decode(&[&[1, 1][..], &bomb].concat()),
        Err(SegmentError::Compression(_))
    ));
}

proptest! {
    #[test]
    fn samples_survive_bit_for_bit(content in any_content()) {
        prop_assert_eq!(read(&split(&entries(&content))), content);
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        bytes.splice(0..0, [VERSION, PLAIN]);
        let _ = decode(&bytes);
    }

    #[test]
    fn broken_segments_never_panic(
        content in any_content(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<proptest::sample::Index>(),
    ) {
        for part in split(&entries(&content)) {
            let plain = unpacked(&part);
            for mut bytes in [part, plain] {
                prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
                for (at, byte) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                if let Ok(segment) = decode(&bytes) {
                    let mut out = Vec::new();
                    for index in 0..segment.references().len() {
                        segment.read_entry(index, &mut out);
                    }
                    prop_assert_eq!(out.len(), segment.sample_count());
                }
            }
        }
    }
}
