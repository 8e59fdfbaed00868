//! Pages of lists: the `limit` and `next_token` of a request.

use crate::answer::invalid;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidemark_model::limits;
use tidemark_wire::ApiError;

/// Reads `limit`. `None` when it is not given.
///
/// # Errors
/// When it is no number from 1 to `max`.
pub fn limit(text: Option<&str>, max: usize) -> Result<Option<usize>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(limit) if (1..=max).contains(&limit) => Ok(Some(limit)),
        _ if max == usize::MAX => Err(invalid("limit", "must be a number above 0")),
        _ => Err(invalid("limit", format!("must be a number from 1 to {max}"))),
    }
}

/// Wraps a place in a list so that it passes through a URL unchanged. It is no secret and grants nothing.
#[must_use]
pub fn token(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// The reverse of [`token`].
///
/// # Errors
/// When the text is no token.
pub fn open(token: &str) -> Result<String, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong_token())?;
    String::from_utf8(bytes).map_err(|_| wrong_token())
}

/// The answer to a token that this list did not give.
#[must_use]
pub fn wrong_token() -> ApiError {
    invalid("next_token", "is not a token that this list gave")
}

/// One page of a sorted list of names, and the token of the next.
///
/// # Errors
/// When the token is not one that this list gave.
pub fn of_names(
    names: Vec<String>,
    limit: Option<usize>,
    next_token: Option<&str>,
) -> Result<(Vec<String>, Option<String>), ApiError> {
    let after = next_token.map(open).transpose()?;
    let rest = names
        .into_iter()
        .filter(|name| after.as_ref().is_none_or(|after| name > after));
    let limit = limit.unwrap_or(usize::MAX);
    let (mut page, mut bytes) = (Vec::new(), 0);
    for name in rest {
        // Escapes take at most six bytes for one.
        bytes += 6 * name.len() + 3;
        if page.len() == limit || (!page.is_empty() && bytes > limits::MAX_RESPONSE_BYTES) {
            return Ok((page.clone(), page.last().map(|last: &String| token(last))));
        }
        page.push(name);
    }
    Ok((page, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_without_a_gap_or_a_repeat() {
        let names: Vec<String> = ["a", "b", "ü", "z"].map(String::from).to_vec();
        let mut seen = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let (page, token) = of_names(names.clone(), Some(2), next.as_deref()).unwrap();
            seen.extend(page);
            next = token;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(seen, names);
    }

    #[test]
    fn a_page_never_passes_the_size_of_an_answer() {
        let names: Vec<String> = (0..4_000).map(|at| format!("{at:0500}")).collect();
        let (page, next) = of_names(names.clone(), None, None).unwrap();
        assert!(page.iter().map(String::len).sum::<usize>() < limits::MAX_RESPONSE_BYTES);
        let (rest, _) = of_names(names.clone(), None, next.as_deref()).unwrap();
        assert_eq!(rest[0], names[page.len()]);
    }

    #[test]
    fn a_limit_of_zero_or_beyond_the_most_is_refused() {
        assert!(limit(Some("0"), 10).is_err());
        assert!(limit(Some("11"), 10).is_err());
        assert!(limit(Some("x"), usize::MAX).is_err());
        assert_eq!(limit(Some("10"), 10).unwrap(), Some(10));
        assert_eq!(limit(None, 10).unwrap(), None);
    }

    #[test]
    fn a_foreign_token_is_refused() {
        for token in ["?", "####", "_w"] {
            assert!(open(token).is_err(), "{token}");
        }
    }
}
