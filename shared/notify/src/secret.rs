//! References to secrets, and who reads them. A secret is never stored by Tidemark, never logged and never part of an error.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

mod memory;

pub use memory::MemorySecrets;

/// Where a secret lies: `ssm:<parameter name>` in SSM Parameter Store, or `secretsmanager:<name or ARN>`, optionally with
/// `#<key>` for one field of a secret that is a JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// A parameter, decrypted.
    Parameter {
        /// Its name.
        name: String,
    },
    /// A secret of Secrets Manager.
    Secret {
        /// Its name or ARN.
        name: String,
        /// The field of its JSON object.
        key: Option<String>,
    },
}

/// A text is no reference. It does not say which: it may be the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a reference to a secret: `ssm:<parameter>` or `secretsmanager:<name>[#<key>]`")]
pub struct NoReference;

/// The longest reference, in bytes: an ARN of Secrets Manager and a key.
pub const MAX_REFERENCE_BYTES: usize = 2_048;

impl FromStr for SecretRef {
    type Err = NoReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = |name: &str| {
            !name.is_empty()
                && text.len() <= MAX_REFERENCE_BYTES
                && !name.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        if let Some(name) = text.strip_prefix("ssm:").filter(|name| good(name)) {
            return Ok(Self::Parameter { name: name.to_owned() });
        }
        let rest = text.strip_prefix("secretsmanager:").ok_or(NoReference)?;
        let (name, key) = rest
            .split_once('#')
            .map_or((rest, None), |(name, key)| (name, Some(key)));
        if !good(name) || key.is_some_and(str::is_empty) {
            return Err(NoReference);
        }
        Ok(Self::Secret {
            name: name.to_owned(),
            key: key.map(str::to_owned),
        })
    }
}

impl TryFrom<String> for SecretRef {
    type Error = NoReference;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter { name } => write!(f, "ssm:{name}"),
            Self::Secret { name, key: None } => write!(f, "secretsmanager:{name}"),
            Self::Secret { name, key: Some(key) } => write!(f, "secretsmanager:{name}#{key}"),
        }
    }
}

/// A secret could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none of this name, or it may not be read, or it has no such field: it stays so until somebody changes something.
    #[error("the secret {reference} cannot be read: {reason}")]
    Unusable {
        /// Which.
        reference: SecretRef,
        /// Why; never its value.
        reason: String,
    },
    /// The service did not answer.
    #[error("the secret {reference} could not be read now: {reason}")]
    Unavailable {
        /// Which.
        reference: SecretRef,
        /// Why.
        reason: String,
    },
}

/// Who reads secrets: SSM and Secrets Manager (`tidemark-aws`), [`crate::MemorySecrets`] in memory.
pub trait Secrets: Send + Sync {
    /// The secret's present value. It may be as old as a few minutes: implementations remember.
    fn read(&self, reference: &SecretRef) -> impl Future<Output = Result<SecretString, SecretError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_they_are_written() {
        for text in [
            "ssm:/tidemark/slack",
            "ssm:slack",
            "secretsmanager:tidemark/pagerduty",
            "secretsmanager:tidemark/hooks#url",
            "secretsmanager:arn:aws:secretsmanager:eu-west-1:000000000000:secret:tidemark/x-AbCdEf#key",
        ] {
            let reference: SecretRef = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            let json = serde_json::to_string(&reference).unwrap();
            assert_eq!(serde_json::from_str::<SecretRef>(&json).unwrap(), reference);
        }
    }

    #[test]
    fn what_is_no_reference_is_not_repeated_in_the_error() {
        let long = format!("ssm:{}", "x".repeat(MAX_REFERENCE_BYTES));
        for text in [
            "",
            "s3cret",
            "https://hooks.example.org/s3cret",
            "ssm:",
            "ssm:a b",
            "ssm:a\nb",
            "SSM:/x",
            "secretsmanager:",
            "secretsmanager:#key",
            "secretsmanager:name#",
            &long,
        ] {
            let error = text.parse::<SecretRef>().unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{text}");
            let error = serde_json::from_value::<SecretRef>(text.into()).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
