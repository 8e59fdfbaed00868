//! One measurement.

/// The NaN that Prometheus writes where a series ends (its `StaleNaN`, `model/value/value.go`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A value at a time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value: any bit pattern, NaN and the staleness marker included.
    pub value: f64,
}

impl PartialEq for Sample {
    /// Bit for bit, so that NaN equals itself and 0.0 differs from -0.0: this is about storage, not arithmetic.
    fn eq(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms && self.value.to_bits() == other.value.to_bits()
    }
}

/// Whether a value marks the end of a series rather than a measurement.
#[must_use]
pub fn is_stale_marker(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
