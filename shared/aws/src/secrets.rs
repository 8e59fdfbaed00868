//! Where secrets are read: SSM Parameter Store and Secrets Manager, by reference.

use crate::pace::Pace;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidemark_notify::secret::{SecretError, SecretRef, Secrets};

/// How long a secret is remembered: what is changed is used by everybody after this.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long a secret is good for while its service does not answer: a page must not fail because a parameter cannot be read again.
const GOOD_WITHOUT_ANSWER: Duration = Duration::from_secs(3_600);

/// The most secrets that are remembered.
const MOST_REMEMBERED: usize = 1_000;

/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(4);

/// Codes that will be the same until somebody changes something, and what they mean.
const LASTING: [(&str, &str); 11] = [
    ("ParameterNotFound", "it does not exist"),
    ("ParameterVersionNotFound", "it has no such version"),
    ("ResourceNotFoundException", "it does not exist"),
    ("AccessDeniedException", "access is denied"),
    ("AccessDenied", "access is denied"),
    ("InvalidKeyId", "its key cannot be used"),
    ("DecryptionFailure", "its key cannot be used"),
    ("ValidationException", "the service does not take its name"),
    ("InvalidParameterException", "the service does not take its name"),
    ("InvalidRequestException", "it is marked for deletion"),
    ("KMSAccessDeniedException", "its key cannot be used"),
];

/// Reads secrets, and remembers them for some minutes. Share one per process.
pub struct SecretReader {
    ssm: aws_sdk_ssm::Client,
    secretsmanager: aws_sdk_secretsmanager::Client,
    pace: Pace,
    remembered: Mutex<HashMap<SecretRef, Remembered>>,
}

struct Remembered {
    at: Instant,
    value: SecretString,
}

/// Shows no secret.
impl fmt::Debug for SecretReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretReader")
    }
}

impl SecretReader {
    /// A reader.
    #[must_use]
    pub fn new(ssm: aws_sdk_ssm::Client, secretsmanager: aws_sdk_secretsmanager::Client) -> Self {
        Self::with(ssm, secretsmanager, Pace::real())
    }

    /// A reader with another clock.
    #[must_use]
    pub fn with(ssm: aws_sdk_ssm::Client, secretsmanager: aws_sdk_secretsmanager::Client, pace: Pace) -> Self {
        Self {
            ssm,
            secretsmanager,
            pace,
            remembered: Mutex::default(),
        }
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<SecretRef, Remembered>> {
        // Entries are whole whoever panicked.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A secret that was read so recently.
    fn recall(&self, reference: &SecretRef, within: Duration) -> Option<SecretString> {
        let now = self.pace.now();
        let remembered = self.remembered();
        let known = remembered.get(reference)?;
        (now.saturating_duration_since(known.at) < within).then(|| known.value.clone())
    }

    fn remember(&self, reference: &SecretRef, value: &SecretString) {
        let at = self.pace.now();
        let mut remembered = self.remembered();
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        let value = value.clone();
        remembered.insert(reference.clone(), Remembered { at, value });
    }

    async fn fetch(&self, reference: &SecretRef) -> Result<SecretString, SecretError> {
        let attempts = self.pace.within(READ_LIMIT);
        let text = match reference {
            SecretRef::Parameter { name } => {
                let call = self.ssm.get_parameter().name(name).with_decryption(true).send();
                let read = attempts.run(Box::pin(call)).await;
                let read = answered(reference, read)?;
                read.parameter.and_then(|parameter| parameter.value)
            }
            SecretRef::Secret { name, .. } => {
                let call = self.secretsmanager.get_secret_value().secret_id(name).send();
                let read = attempts.run(Box::pin(call)).await;
                answered(reference, read)?.secret_string
            }
        };
        let text = text.ok_or_else(|| unusable(reference, "it is no text"))?;
        let value = match reference {
            SecretRef::Secret { key: Some(key), .. } => field(reference, &SecretString::from(text), key)?,
            _ => SecretString::from(text),
        };
        if value.expose_secret().is_empty() {
            return Err(unusable(reference, "it is empty"));
        }
        Ok(value)
    }
}

impl Secrets for SecretReader {
    async fn read(&self, reference: &SecretRef) -> Result<SecretString, SecretError> {
        if let Some(known) = self.recall(reference, REMEMBERED) {
            return Ok(known);
        }
        match self.fetch(reference).await {
            Ok(value) => {
                self.remember(reference, &value);
                Ok(value)
            }
            Err(unavailable @ SecretError::Unavailable { .. }) => {
                let known = self.recall(reference, GOOD_WITHOUT_ANSWER).ok_or(unavailable)?;
                tracing::warn!(%reference, "a secret cannot be read again; the last known one is used");
                Ok(known)
            }
            Err(unusable) => {
                self.remembered().remove(reference);
                Err(unusable)
            }
        }
    }
}

/// What a service said, without its words: they might quote what it was asked.
fn answered<T, E: ProvideErrorMetadata>(
    reference: &SecretRef,
    read: Option<Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, SecretError> {
    let reason = match read {
        Some(Ok(answer)) => return Ok(answer),
        None | Some(Err(SdkError::TimeoutError(_))) => "no answer in time".to_owned(),
        Some(Err(SdkError::ServiceError(answer))) => {
            let code = answer.err().code().unwrap_or("no code");
            if let Some((_, meaning)) = LASTING.iter().find(|(lasting, _)| *lasting == code) {
                return Err(unusable(reference, meaning));
            }
            format!("the service answered {}: {code}", answer.raw().status().as_u16())
        }
        Some(Err(_)) => "the service was not reached".to_owned(),
    };
    Err(SecretError::Unavailable {
        reference: reference.clone(),
        reason,
    })
}

/// A field of a secret that is a JSON object.
fn field(reference: &SecretRef, secret: &SecretString, key: &str) -> Result<SecretString, SecretError> {
    // serde's own words would quote the secret.
    let object: Value =
        serde_json::from_str(secret.expose_secret()).map_err(|_| unusable(reference, "it is no JSON object"))?;
    match object.get(key) {
        Some(Value::String(text)) => Ok(SecretString::from(text.clone())),
        Some(_) => Err(unusable(reference, "its field is no text")),
        None => Err(unusable(reference, "it has no such field")),
    }
}

fn unusable(reference: &SecretRef, reason: &str) -> SecretError {
    SecretError::Unusable {
        reference: reference.clone(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
