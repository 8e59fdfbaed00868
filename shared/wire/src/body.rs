//! HTTP bodies as they arrive: compressed or not, with a cap on what they become.

use std::borrow::Cow;
use tidemark_encoding::{CompressError, compress};
use tidemark_model::limits::{MAX_BODY_BYTES, MAX_DECOMPRESSED_BODY_BYTES};

/// How much of an unknown encoding's name the answer repeats.
const MAX_SHOWN_ENCODING: usize = 64;

/// Why a request body is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body as sent is too large.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The most bytes.
        limit: usize,
    },
    /// The body grows too large when decompressed.
    #[error("the body is larger than {limit} bytes after decompression")]
    TooLargeDecompressed {
        /// The most bytes.
        limit: usize,
    },
    /// The body holds too many samples.
    #[error("the body holds more than {limit} samples")]
    TooManySamples {
        /// The most samples.
        limit: usize,
    },
    /// A `Content-Encoding` that is not read here.
    #[error("the content encoding `{encoding}` is not supported; use identity, gzip or zstd")]
    UnsupportedEncoding {
        /// What the request said.
        encoding: String,
    },
    /// The body is not what its `Content-Encoding` says.
    #[error("the body is not valid {encoding}")]
    BrokenCompression {
        /// What the request said.
        encoding: &'static str,
    },
    /// The body is not UTF-8.
    #[error("the body is not UTF-8: invalid byte at offset {at}")]
    NotUtf8 {
        /// The first bad byte.
        at: usize,
    },
    /// The body is not JSON, or its outermost value is not an object of the known forms.
    #[error("the body is not the expected JSON: {reason} at line {line} column {column}")]
    NotJson {
        /// What was expected or found.
        reason: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// The body is an object, but of neither form.
    #[error("the body must be one metric with `name` and `value`, or an object with an array `metrics`")]
    NoMetrics,
}

/// Undoes a request's `Content-Encoding`: none, `identity`, `gzip` or `zstd`.
///
/// # Errors
/// When the encoding is another one, the body is not what it says, or too large before or after.
pub fn decode_body<'a>(bytes: &'a [u8], content_encoding: Option<&str>) -> Result<Cow<'a, [u8]>, BodyError> {
    if bytes.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLarge { limit: MAX_BODY_BYTES });
    }
    let encoding = content_encoding.unwrap_or("").trim();
    let is = |name: &str| encoding.eq_ignore_ascii_case(name);
    if encoding.is_empty() || is("identity") {
        return Ok(Cow::Borrowed(bytes));
    }
    let (name, unpacked) = if is("gzip") || is("x-gzip") {
        ("gzip", compress::gunzip(bytes, MAX_DECOMPRESSED_BODY_BYTES))
    } else if is("zstd") {
        ("zstd", compress::unzstd_body(bytes, MAX_DECOMPRESSED_BODY_BYTES))
    } else {
        return Err(BodyError::UnsupportedEncoding {
            encoding: encoding.chars().take(MAX_SHOWN_ENCODING).collect(),
        });
    };
    match unpacked {
        Ok(body) => Ok(Cow::Owned(body)),
        Err(CompressError::Broken) => Err(BodyError::BrokenCompression { encoding: name }),
        Err(CompressError::TooLarge { cap }) => Err(BodyError::TooLargeDecompressed { limit: cap }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_undone() {
        let body = b"{\"metrics\":[]}".repeat(100);
        let gzip = compress::gzip(&body).unwrap();
        let zstd = compress::zstd(&body, 1).unwrap();
        for (bytes, encoding) in [
            (&body, None),
            (&body, Some("")),
            (&body, Some("identity")),
            (&gzip, Some("gzip")),
            (&gzip, Some(" GZIP ")),
            (&gzip, Some("x-gzip")),
            (&zstd, Some("zstd")),
        ] {
            assert_eq!(decode_body(bytes, encoding).unwrap(), &body[..], "{encoding:?}");
        }
    }

    #[test]
    fn an_unknown_encoding_is_named_but_not_at_any_length() {
        for (encoding, shown) in [
            ("br", "br".to_owned()),
            ("gzip, zstd", "gzip, zstd".to_owned()),
            (&*"x".repeat(1_000), "x".repeat(MAX_SHOWN_ENCODING)),
        ] {
            let error = BodyError::UnsupportedEncoding { encoding: shown };
            assert_eq!(decode_body(b"{}", Some(encoding)), Err(error));
        }
    }

    #[test]
    fn a_body_that_is_too_large_or_grows_too_large_or_is_broken_is_refused() {
        let large = vec![b' '; MAX_BODY_BYTES + 1];
        assert_eq!(
            decode_body(&large, None),
            Err(BodyError::TooLarge { limit: MAX_BODY_BYTES })
        );
        assert!(decode_body(&large[1..], None).is_ok());
        let bomb = vec![0; MAX_DECOMPRESSED_BODY_BYTES + 1];
        let limit = MAX_DECOMPRESSED_BODY_BYTES;
        for (packed, encoding) in [
            (compress::gzip(&bomb).unwrap(), "gzip"),
            (compress::zstd(&bomb, 1).unwrap(), "zstd"),
        ] {
            let refused = decode_body(&packed, Some(encoding));
            assert_eq!(refused, Err(BodyError::TooLargeDecompressed { limit }));
            let refused = decode_body(&packed[..packed.len() / 2], Some(encoding));
            assert_eq!(refused, Err(BodyError::BrokenCompression { encoding }));
        }
    }
}
