//! How sample values are read from and written to JSON: numbers, and the strings `"NaN"`, `"+Inf"`, `"-Inf"` for what
//! JSON has no number for, as in Prometheus' HTTP API.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// Why a text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a number and none of the three strings.
    #[error("must be a number, or one of the strings \"NaN\", \"+Inf\", \"-Inf\"")]
    NotANumber,
    /// A JSON number beyond the largest double.
    #[error("is larger than a 64-bit float can hold")]
    OutOfRange,
}

/// Reads a JSON number's text, correctly rounded.
///
/// # Errors
/// When it is not a number, or is finite in decimal but not as a double.
pub fn parse_number(text: &str) -> Result<f64, ValueError> {
    // Rust's parser also takes "inf", "nan" and "+1", which are no JSON.
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') || text.ends_with(|c: char| c.is_ascii_alphabetic())
    {
        return Err(ValueError::NotANumber);
    }
    let value: f64 = text.parse().map_err(|_| ValueError::NotANumber)?;
    if value.is_finite() {
        Ok(value)
    } else {
        Err(ValueError::OutOfRange)
    }
}

/// Reads the contents of a JSON string.
///
/// # Errors
/// When it is none of the three strings.
pub fn parse_string(text: &str) -> Result<f64, ValueError> {
    match text {
        "NaN" => Ok(f64::NAN),
        "+Inf" | "Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        _ => Err(ValueError::NotANumber),
    }
}

/// The string for a value that JSON has no number for.
#[must_use]
pub fn special_name(value: f64) -> Option<&'static str> {
    match value {
        v if v.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// Writes a value; for `#[serde(with = "value")]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match special_name(*value) {
        Some(name) => serializer.serialize_str(name),
        None => serializer.serialize_f64(*value),
    }
}

/// Reads a value; for `#[serde(with = "value")]`.
///
/// # Errors
/// When it is neither a number nor one of the three strings.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    use serde::de::Error as _;
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrName<'a> {
        Number(f64),
        #[serde(borrow)]
        Name(Cow<'a, str>),
    }
    match NumberOrName::deserialize(deserializer).map_err(|_| D::Error::custom(ValueError::NotANumber))? {
        NumberOrName::Number(value) => Ok(value),
        NumberOrName::Name(name) => parse_string(&name).map_err(D::Error::custom),
    }
}

/// A value that is written as this module says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JsonF64(pub f64);

impl Serialize for JsonF64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for JsonF64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_to_the_last_bit() {
        for text in [
            "0.1",
            "-0.0",
            "5e-324",
            "1e308",
            "1.7976931348623157e308",
            "123456789.123456789",
            "-1E-5",
        ] {
            assert_eq!(
                parse_number(text).unwrap().to_bits(),
                text.parse::<f64>().unwrap().to_bits(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_json_number_is_refused() {
        for text in ["inf", "nan", "+1", "infinity", "", "-inf", "-nan", "true", "1x"] {
            assert_eq!(parse_number(text), Err(ValueError::NotANumber), "{text}");
        }
        assert_eq!(parse_number("1e400"), Err(ValueError::OutOfRange));
    }

    #[test]
    fn the_three_names_are_read_and_no_other() {
        assert!(parse_string("NaN").unwrap().is_nan());
        assert_eq!(parse_string("+Inf"), Ok(f64::INFINITY));
        assert_eq!(parse_string("-Inf"), Ok(f64::NEG_INFINITY));
        assert_eq!(parse_string("1"), Err(ValueError::NotANumber));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            let back = match special_name(value) {
                Some(name) => parse_string(name).unwrap(),
                None => parse_number(&format!("{value:e}")).unwrap(),
            };
            prop_assert!(back.to_bits() == bits || value.is_nan() && back.is_nan());
        }
    }
}
