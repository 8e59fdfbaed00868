use super::*;
use proptest::prelude::*;

#[test]
fn a_bomb_is_stopped_at_the_cap() {
    let zeros = vec![0; 10_000_000];
    let packed = zstd(&zeros, 3).unwrap();
    assert!(packed.len() < 2_000);
    assert_eq!(unzstd(&packed, 1_000), Err(CompressError::TooLarge { cap: 1_000 }));
    assert_eq!(unzstd_body(&packed, 1_000), Err(CompressError::TooLarge { cap: 1_000 }));
    assert_eq!(
        gunzip(&gzip(&zeros).unwrap(), 1_000),
        Err(CompressError::TooLarge { cap: 1_000 })
    );
}

#[test]
fn exactly_the_cap_passes() {
    let bytes = vec![7; 5_000];
    assert_eq!(unzstd(&zstd(&bytes, 1).unwrap(), 5_000).unwrap(), bytes);
    assert_eq!(unzstd_body(&zstd(&bytes, 1).unwrap(), 5_000).unwrap(), bytes);
    assert_eq!(gunzip(&gzip(&bytes).unwrap(), 5_000).unwrap(), bytes);
    assert!(unzstd(&zstd(&bytes, 1).unwrap(), 4_999).is_err());
    assert!(gunzip(&gzip(&bytes).unwrap(), 4_999).is_err());
}

#[test]
fn what_unpacks_a_thousandfold_gets_its_memory_step_by_step_and_arrives() {
    let zeros = vec![0; 3_000_000];
    assert_eq!(unzstd(&zstd(&zeros, 3).unwrap(), 3_000_000).unwrap(), zeros);
}

#[test]
fn a_size_that_is_claimed_and_not_delivered_is_refused() {
    // A frame header that claims 4 GB of content, then an empty last block.
    let lie = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00];
    assert_eq!(
        unzstd(&lie, 64_000_000),
        Err(CompressError::TooLarge { cap: 64_000_000 })
    );
    assert_eq!(unzstd(&lie, usize::MAX), Err(CompressError::Broken));
}

#[test]
fn several_gzip_members_and_zstd_frames_are_one_body() {
    let two = [gzip(b"ab").unwrap(), gzip(b"cd").unwrap()].concat();
    assert_eq!(gunzip(&two, 10).unwrap(), b"abcd");
    let two = [zstd(b"ab", 1).unwrap(), zstd(b"cd", 1).unwrap()].concat();
    assert_eq!(unzstd_body(&two, 10).unwrap(), b"abcd");
}

#[test]
fn an_empty_input_is_broken_and_an_empty_content_is_not() {
    assert_eq!(unzstd(&[], 10), Err(CompressError::Broken));
    assert_eq!(unzstd(&zstd(&[], 3).unwrap(), 10).unwrap(), []);
    assert_eq!(gunzip(&gzip(&[]).unwrap(), 10).unwrap(), []);
}

proptest! {
    #[test]
    fn any_bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), level in 1..6) {
        prop_assert_eq!(unzstd(&zstd(&bytes, level).unwrap(), bytes.len()).unwrap(), bytes);
    }

    #[test]
    fn any_bytes_unpack_to_an_error_or_to_at_most_the_cap(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for out in [unzstd(&bytes, 1_000), unzstd_body(&bytes, 1_000), gunzip(&bytes, 1_000)].into_iter().flatten() {
            prop_assert!(out.len() <= 1_000);
        }
    }

    #[test]
    fn a_cut_body_is_broken(bytes in proptest::collection::vec(any::<u8>(), 1..500), keep in 0.0..1.0) {
        for packed in [zstd(&bytes, 1).unwrap(), gzip(&bytes).unwrap()] {
            let cut = &packed[..(packed.len() as f64 * keep) as usize];
            prop_assert!(unzstd(cut, 1_000).is_err());
            prop_assert!(gunzip(cut, 1_000).is_err() || cut.is_empty());
            prop_assert!(unzstd_body(cut, 1_000).is_err() || cut.is_empty());
        }
    }
}
