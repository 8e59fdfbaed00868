//! The value column: the values of many series, each series with a few or many, lossless bit for bit.
//!
//! Most metrics are integers or decimals with a few digits, and change little from one sample to the next. A series whose
//! values are all `m / 10^e` *exactly* (the division gives the same bits back) is stored as the integers `m`: the first one,
//! then the differences, each in as many bits as the widest needs. Everything else is stored as its bits. -0.0, NaN and the
//! infinities are no decimals, so they take that way by themselves.
//!
//! One mode byte per series says which way was taken. The columns (modes, parameters, first integers, packed differences, raw
//! bits) lie one after the other, because bytes of one kind compress better together. `shared/tsdb/FORMAT.md` draws them.
//!
//! The measurements behind this are in PEERS 7 and 8: below 100 samples per series nothing tried was smaller.

use crate::bits::{self, BitWriter};
use crate::varint::{Reader, len_u64, put_bytes, put_i64, put_u64, unzigzag, zigzag};
use crate::{DecodeError, bits::MAX_WIDTH, decimal, decimal::POWERS};

const KIND_RAW: u8 = 0;
const KIND_RAW_CONSTANT: u8 = 1;
const KIND_CONSTANT: u8 = 2;
const KIND_DELTAS: u8 = 3;
const KIND_MASK: u8 = 0b11;
/// The integers are multiples of a power of two, whose exponent is a parameter.
const SHIFTED: u8 = 0b100;
const EXPONENT_SHIFT: u8 = 3;

/// Differences of either sign, zigzag.
const SCHEME_ZIGZAG: u8 = 0;
/// Differences that are never negative, as they are.
const SCHEME_RISING: u8 = 1;
/// Differences above the smallest one, which is stored.
const SCHEME_FRAME: u8 = 2;
const SCHEME_SHIFT: u8 = 6;

/// Encodes the value column.
#[derive(Clone, Debug, Default)]
pub struct ValueEncoder {
    modes: Vec<u8>,
    parameters: Vec<u8>,
    integers: Vec<u8>,
    packed: BitWriter,
    raw: Vec<u64>,
    scaled: Vec<i64>,
}

impl ValueEncoder {
    /// Appends the values of one series: at least one.
    pub fn push(&mut self, values: &[f64]) {
        let Some(first) = values.first() else { return };
        if let Some(scale) = decimal::scale(values, 0, &mut self.scaled) {
            self.push_integers(scale.exponent);
        } else if values.iter().all(|value| value.to_bits() == first.to_bits()) {
            self.modes.push(KIND_RAW_CONSTANT);
            self.raw.push(first.to_bits());
        } else {
            self.modes.push(KIND_RAW);
            self.raw.extend(values.iter().map(|value| value.to_bits()));
        }
    }

    fn push_integers(&mut self, exponent: u8) {
        let all = self.scaled.iter().fold(0, |all, value| all | *value);
        let first = self.scaled[0];
        let constant = self.scaled.iter().all(|value| *value == first);
        let mut mode = exponent << EXPONENT_SHIFT;
        let shift = if all == 0 { 0 } else { all.trailing_zeros() };
        if saves_a_byte(first, shift, if constant { 0 } else { self.scaled.len() - 1 }) {
            mode |= SHIFTED;
            self.parameters.push(shift as u8);
            for value in &mut self.scaled {
                *value >>= shift;
            }
        }
        put_i64(&mut self.integers, self.scaled[0]);
        if constant {
            self.modes.push(mode | KIND_CONSTANT);
        } else {
            self.modes.push(mode | KIND_DELTAS);
            self.push_deltas();
        }
    }

    fn push_deltas(&mut self) {
        let (mut least, mut most, mut widest) = (i64::MAX, i64::MIN, 0);
        for pair in self.scaled.windows(2) {
            let delta = pair[1] - pair[0];
            least = least.min(delta);
            most = most.max(delta);
            widest |= zigzag(delta);
        }
        let count = self.scaled.len() - 1;
        let frame_width = bits::width((most - least) as u64);
        let frame_bits = frame_width as usize * count + 8 * len_u64(zigzag(least));
        let (plain_scheme, plain_width) = if least >= 0 {
            (SCHEME_RISING, bits::width(most as u64))
        } else {
            (SCHEME_ZIGZAG, bits::width(widest))
        };
        let (scheme, width) = if frame_bits < plain_width as usize * count {
            put_i64(&mut self.integers, least);
            (SCHEME_FRAME, frame_width)
        } else {
            (plain_scheme, plain_width)
        };
        self.parameters.push(width as u8 | scheme << SCHEME_SHIFT);
        for pair in self.scaled.windows(2) {
            let delta = pair[1] - pair[0];
            let stored = match scheme {
                SCHEME_ZIGZAG => zigzag(delta),
                SCHEME_RISING => delta as u64,
                _ => (delta - least) as u64,
            };
            self.packed.put(stored, width);
        }
    }

    /// Appends the columns. How many series there are and how many values each has is for the caller to store.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.modes);
        put_bytes(out, &self.parameters);
        put_bytes(out, &self.integers);
        put_u64(out, self.raw.len() as u64);
        // All first bytes, then all second ones, …: the bytes of sign and exponent are alike, those of the mantissa random.
        for plane in (0..8).rev() {
            out.extend(self.raw.iter().map(|raw| (raw >> (8 * plane)) as u8));
        }
        put_bytes(out, &self.packed.finish());
    }
}

/// Whether dropping the low bits of the first integer and of all deltas is worth the parameter that says how many.
fn saves_a_byte(first: i64, shift: u32, deltas: usize) -> bool {
    let saved = len_u64(zigzag(first)) - len_u64(zigzag(first >> shift));
    8 * saved + shift as usize * deltas > 8
}

/// A decoded value column. Its series are unpacked one by one, when they are read.
#[derive(Clone, Debug, Default)]
pub struct ValueColumn {
    series: Vec<SeriesValues>,
    packed: Box<[u8]>,
    raw: Vec<f64>,
}

#[derive(Clone, Debug)]
struct SeriesValues {
    count: u32,
    /// Into `raw`, or a bit of `packed`.
    at: u32,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Raw,
    RawConstant,
    Constant(f64),
    Deltas {
        first: i64,
        base: i64,
        exponent: u8,
        shift: u8,
        width: u8,
        zigzag: bool,
    },
}

impl ValueColumn {
    /// Reads the columns of as many series as `counts` has entries, each with that many values, at least one.
    ///
    /// What is allocated is bounded by the number of counts and the length of the input; the values themselves take memory
    /// only when they are read.
    ///
    /// # Errors
    /// When anything is missing, left over within the columns, or out of range.
    pub fn decode(reader: &mut Reader<'_>, counts: &[u32]) -> Result<Self, DecodeError> {
        let modes = reader.take(counts.len())?;
        let mut parameters = Reader::new(reader.bytes()?);
        let mut integers = Reader::new(reader.bytes()?);
        let raw_count = reader.count(reader.rest().len() / 8, "the number of raw values")?;
        let raw = decode_planes(reader.take(raw_count * 8)?, raw_count);
        let packed: Box<[u8]> = reader.bytes()?.into();
        let mut series = Vec::with_capacity(counts.len());
        let (mut raw_at, mut packed_at) = (0_usize, 0_usize);
        for (mode, count) in modes.iter().zip(counts) {
            let form = Form::decode(*mode, &mut parameters, &mut integers)?;
            let (at, end) = match form {
                Form::Raw => (&mut raw_at, *count as usize),
                Form::RawConstant => (&mut raw_at, 1),
                Form::Constant(_) => (&mut packed_at, 0),
                Form::Deltas { width, .. } => {
                    let deltas = (*count as usize)
                        .checked_sub(1)
                        .ok_or(DecodeError::OutOfRange("a count"))?;
                    (&mut packed_at, deltas.saturating_mul(usize::from(width)))
                }
            };
            series.push(SeriesValues {
                count: *count,
                at: u32::try_from(*at).map_err(|_| DecodeError::OutOfRange("the size of the values"))?,
                form,
            });
            *at = at.saturating_add(end);
            if raw_at > raw_count || packed_at > packed.len() * 8 {
                return Err(DecodeError::Truncated);
            }
        }
        parameters.finish()?;
        integers.finish()?;
        if raw_at != raw_count || packed_at.div_ceil(8) != packed.len() {
            return Err(DecodeError::Trailing);
        }
        Ok(Self { series, packed, raw })
    }

    /// Appends the values of the series at `index`; nothing when there is none.
    pub fn read(&self, index: usize, out: &mut Vec<f64>) {
        let Some(series) = self.series.get(index) else { return };
        let (at, count) = (series.at as usize, series.count as usize);
        match series.form {
            Form::Raw => out.extend_from_slice(&self.raw[at..at + count]),
            Form::RawConstant => out.extend(std::iter::repeat_n(self.raw[at], count)),
            Form::Constant(value) => out.extend(std::iter::repeat_n(value, count)),
            Form::Deltas {
                first,
                base,
                exponent,
                shift,
                width,
                zigzag,
            } => {
                let mut integer = first;
                let power = POWERS[usize::from(exponent)];
                out.push((integer << shift) as f64 / power);
                for step in 1..count {
                    let stored = bits::get(&self.packed, at + (step - 1) * usize::from(width), u32::from(width));
                    let delta = if zigzag { unzigzag(stored) } else { stored as i64 };
                    integer = integer.wrapping_add(delta).wrapping_add(base);
                    out.push((integer << shift) as f64 / power);
                }
            }
        }
    }
}

impl Form {
    fn decode(mode: u8, parameters: &mut Reader<'_>, integers: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let exponent = mode >> EXPONENT_SHIFT;
        let kind = mode & KIND_MASK;
        if matches!(kind, KIND_RAW | KIND_RAW_CONSTANT) {
            return match mode {
                KIND_RAW => Ok(Self::Raw),
                KIND_RAW_CONSTANT => Ok(Self::RawConstant),
                _ => Err(DecodeError::OutOfRange("a mode")),
            };
        }
        if usize::from(exponent) >= POWERS.len() {
            return Err(DecodeError::OutOfRange("a decimal exponent"));
        }
        let shift = if mode & SHIFTED == 0 { 0 } else { parameters.u8()? };
        if shift > 63 {
            return Err(DecodeError::OutOfRange("a shift"));
        }
        let first = integers.i64()?;
        if kind == KIND_CONSTANT {
            return Ok(Self::Constant((first << shift) as f64 / POWERS[usize::from(exponent)]));
        }
        let parameter = parameters.u8()?;
        let width = parameter & ((1 << SCHEME_SHIFT) - 1);
        if u32::from(width) > MAX_WIDTH {
            return Err(DecodeError::OutOfRange("a width"));
        }
        let (zigzag, base) = match parameter >> SCHEME_SHIFT {
            SCHEME_ZIGZAG => (true, 0),
            SCHEME_RISING => (false, 0),
            SCHEME_FRAME => (false, integers.i64()?),
            _ => return Err(DecodeError::OutOfRange("a scheme")),
        };
        Ok(Self::Deltas {
            first,
            base,
            exponent,
            shift,
            width,
            zigzag,
        })
    }
}

fn decode_planes(planes: &[u8], count: usize) -> Vec<f64> {
    let plane = |which: usize| planes[which * count..(which + 1) * count].iter();
    let mut bits: Vec<u64> = vec![0; count];
    for which in 0..8 {
        for (value, byte) in bits.iter_mut().zip(plane(which)) {
            *value = *value << 8 | u64::from(*byte);
        }
    }
    bits.into_iter().map(f64::from_bits).collect()
}

#[cfg(test)]
pub(crate) mod tests;
