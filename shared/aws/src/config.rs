//! What a function is told by its environment: read once at the cold start, validated, and passed on as values.

use crate::store::Tables;
use aws_credential_types::Credentials;
use ipnet::IpNet;
use std::fmt;
use std::str::FromStr;
use tidemark_model::{Buckets, DAY_MS, WindowLength};
use tidemark_tsdb::{Layout, Retention};

/// The memory of a function when nobody names it, in MB: the least that a function of Tidemark is given by itself.
const DEFAULT_MEMORY_MB: usize = 256;

/// The part of a function's memory that a reader may keep decoded data in. The rest is for the request: two million samples and
/// an answer of 6 MB, and twice that while it is written.
const CACHE_SHARE: usize = 3;

/// The shortest time between the end of a window and its compaction, in seconds: well above how far the functions' clocks may
/// differ, and above the time that a batch waits to be flushed.
const LEAST_GRACE_SECONDS: i64 = 600;

/// The longest that anything is kept, in days: as far as one query reaches.
const LONGEST_RETENTION_DAYS: i64 = tidemark_model::limits::MAX_QUERY_RANGE_MS / DAY_MS - 1;

/// A variable that a function cannot start with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable} {reason}")]
pub struct ConfigError {
    /// The variable's name.
    pub variable: &'static str,
    /// What is wrong with its value. Never the value of a secret.
    pub reason: String,
}

/// Whose account and which endpoint.
#[derive(Clone, Debug)]
pub struct Account {
    /// `AWS_REGION`.
    pub region: String,
    /// `AWS_ENDPOINT_URL`: a local stack instead of AWS.
    pub endpoint_url: Option<String>,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`. Redacted in `Debug`.
    pub credentials: Credentials,
}

/// Where samples are stored, and how storage is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `SEGMENTS_TABLE`.
    pub segments_table: String,
    /// `CATALOG_TABLE`.
    pub catalog_table: String,
    /// `METRICS_TABLE`.
    pub metrics_table: String,
    /// `AGGREGATES_TABLE`.
    pub aggregates_table: String,
    /// `BUCKETS`.
    pub buckets: Buckets,
    /// `WINDOW_SECONDS`.
    pub window: WindowLength,
    /// `RAW_RETENTION_DAYS`, `MINUTE_RETENTION_DAYS` and `HOUR_RETENTION_DAYS`.
    pub retention: Retention,
    /// `COMPACTION_GRACE_SECONDS`, in milliseconds.
    pub grace_ms: i64,
}

impl Storage {
    /// The names of the tables, for the store.
    #[must_use]
    pub fn tables(&self) -> Tables {
        Tables {
            segments: self.segments_table.clone(),
            catalog: self.catalog_table.clone(),
            metrics: self.metrics_table.clone(),
            aggregates: self.aggregates_table.clone(),
        }
    }

    /// How storage is divided, and how long each part of it lives.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            buckets: self.buckets,
            window: self.window,
            retention: self.retention,
            grace_ms: self.grace_ms,
        }
    }
}

/// The configuration of `ingest`.
#[derive(Clone, Debug)]
pub struct Ingest {
    /// Whose account and which endpoint.
    pub account: Account,
    /// `STREAM_NAME`.
    pub stream_name: String,
    /// `BUCKETS`.
    pub buckets: Buckets,
    /// `RAW_RETENTION_DAYS`, in milliseconds: older samples are refused.
    pub raw_retention_ms: i64,
}

/// The configuration of `consume`.
#[derive(Clone, Debug)]
pub struct Consume {
    /// Whose account and which endpoint.
    pub account: Account,
    /// `STREAM_NAME`.
    pub stream_name: String,
    /// Where samples are stored.
    pub storage: Storage,
    /// `DEAD_LETTER_QUEUE_URL`.
    pub dead_letter_queue_url: String,
}

/// The configuration of `query`.
#[derive(Clone, Debug)]
pub struct Query {
    /// Whose account and which endpoint.
    pub account: Account,
    /// Where samples are stored.
    pub storage: Storage,
    /// `CACHE_TABLE`.
    pub cache_table: String,
    /// How much a reader may keep in memory, by `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`.
    pub cache_bytes: usize,
}

/// The configuration of `admin`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Whose account and which endpoint.
    pub account: Account,
    /// `STREAM_NAME`.
    pub stream_name: String,
    /// Where samples are stored.
    pub storage: Storage,
    /// `ALERTS_TABLE`.
    pub alerts_table: String,
    /// `CACHE_TABLE`.
    pub cache_table: String,
    /// `ALERTS_TOPIC_ARN`.
    pub alerts_topic_arn: String,
    /// `DEAD_LETTER_QUEUE_URL`.
    pub dead_letter_queue_url: String,
    /// `NOTIFY_QUEUE_URL`.
    pub notify_queue_url: String,
    /// `NOTIFY_DEAD_LETTER_QUEUE_URL`.
    pub notify_dead_letter_queue_url: String,
    /// `WEBHOOK_ALLOWED_CIDRS`.
    pub webhook_allowed_cidrs: Vec<IpNet>,
    /// How much a reader may keep in memory, by `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`.
    pub cache_bytes: usize,
}

/// The configuration of `compact`.
#[derive(Clone, Debug)]
pub struct Compact {
    /// Whose account and which endpoint.
    pub account: Account,
    /// Where samples are stored.
    pub storage: Storage,
}

/// The configuration of `evaluate`.
#[derive(Clone, Debug)]
pub struct Evaluate {
    /// Whose account and which endpoint.
    pub account: Account,
    /// Where samples are stored.
    pub storage: Storage,
    /// `ALERTS_TABLE`.
    pub alerts_table: String,
    /// `ALERTS_TOPIC_ARN`.
    pub alerts_topic_arn: String,
    /// `EVALUATE_QUEUE_URL`.
    pub evaluate_queue_url: String,
    /// How much a reader may keep in memory, by `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`.
    pub cache_bytes: usize,
}

/// The configuration of `notify`.
#[derive(Clone, Debug)]
pub struct Notify {
    /// Whose account and which endpoint.
    pub account: Account,
    /// `ALERTS_TABLE`.
    pub alerts_table: String,
    /// `NOTIFY_QUEUE_URL`.
    pub notify_queue_url: String,
    /// `NOTIFY_DEAD_LETTER_QUEUE_URL`.
    pub notify_dead_letter_queue_url: String,
    /// `WEBHOOK_ALLOWED_CIDRS`.
    pub webhook_allowed_cidrs: Vec<IpNet>,
}

/// One `from_env` per function, and `read` for a lookup of any kind.
macro_rules! from_env {
    ($($config:ident { $($field:ident: $part:ident),* $(,)? })*) => {$(
        impl $config {
            /// Reads and validates the process's environment.
            ///
            /// # Errors
            /// With the first variable that is missing or wrong.
            pub fn from_env() -> Result<Self, ConfigError> {
                Self::read(&environment)
            }

            /// Reads and validates variables from a lookup.
            ///
            /// # Errors
            /// With the first variable that is missing or wrong.
            pub fn read(variables: &dyn Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
                let raw = Raw(variables);
                Ok(Self { $($field: raw.$part()?),* })
            }
        }
    )*};
}

from_env! {
    Ingest { account: account, stream_name: stream_name, buckets: buckets, raw_retention_ms: raw_retention_ms }
    Consume {
        account: account, stream_name: stream_name, storage: storage, dead_letter_queue_url: dead_letter_queue_url,
    }
    Compact { account: account, storage: storage }
    Query { account: account, storage: storage, cache_table: cache_table, cache_bytes: cache_bytes }
    Admin {
        account: account, stream_name: stream_name, storage: storage, alerts_table: alerts_table,
        cache_table: cache_table, alerts_topic_arn: alerts_topic_arn, dead_letter_queue_url: dead_letter_queue_url,
        notify_queue_url: notify_queue_url, notify_dead_letter_queue_url: notify_dead_letter_queue_url,
        webhook_allowed_cidrs: webhook_allowed_cidrs, cache_bytes: cache_bytes,
    }
    Evaluate {
        account: account, storage: storage, alerts_table: alerts_table, alerts_topic_arn: alerts_topic_arn,
        evaluate_queue_url: evaluate_queue_url, cache_bytes: cache_bytes,
    }
    Notify {
        account: account, alerts_table: alerts_table, notify_queue_url: notify_queue_url,
        notify_dead_letter_queue_url: notify_dead_letter_queue_url, webhook_allowed_cidrs: webhook_allowed_cidrs,
    }
}

impl Account {
    /// Reads and validates the account's part of the process's environment, for tools and tests.
    ///
    /// # Errors
    /// With the first variable that is missing or wrong.
    pub fn from_env() -> Result<Self, ConfigError> {
        Raw(&environment).account()
    }
}

/// `LOG_LEVEL`, as it stands there.
pub(crate) fn log_level() -> Option<String> {
    environment("LOG_LEVEL")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment, once per cold start"
)]
fn environment(variable: &'static str) -> Option<String> {
    std::env::var(variable).ok()
}

/// The variables before validation.
struct Raw<'a>(&'a dyn Fn(&'static str) -> Option<String>);

impl Raw<'_> {
    fn optional(&self, variable: &'static str) -> Option<String> {
        (self.0)(variable)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    fn required(&self, variable: &'static str) -> Result<String, ConfigError> {
        self.optional(variable)
            .ok_or_else(|| refuse(variable, "is not set or empty"))
    }

    fn number<T: FromStr + PartialOrd + fmt::Display>(
        &self,
        variable: &'static str,
        least: T,
        most: T,
    ) -> Result<T, ConfigError> {
        let text = self.required(variable)?;
        match text.parse::<T>() {
            Ok(number) if number >= least && number <= most => Ok(number),
            _ => Err(refuse(
                variable,
                format!("is `{text}`; it must be a whole number from {least} to {most}"),
            )),
        }
    }

    /// The name of a table or stream, as AWS allows it.
    fn name(&self, variable: &'static str) -> Result<String, ConfigError> {
        let name = self.required(variable)?;
        let sound = name.len() <= 255
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if sound {
            Ok(name)
        } else {
            Err(refuse(
                variable,
                format!("is `{name}`; a name has at most 255 of the characters a-z A-Z 0-9 _ . -"),
            ))
        }
    }

    fn url(&self, variable: &'static str) -> Result<String, ConfigError> {
        check_url(variable, self.required(variable)?)
    }

    fn account(&self) -> Result<Account, ConfigError> {
        let endpoint_url = self.optional("AWS_ENDPOINT_URL");
        Ok(Account {
            region: self.required("AWS_REGION")?,
            endpoint_url: endpoint_url.map(|url| check_url("AWS_ENDPOINT_URL", url)).transpose()?,
            credentials: Credentials::new(
                self.required("AWS_ACCESS_KEY_ID")?,
                self.required("AWS_SECRET_ACCESS_KEY")?,
                self.optional("AWS_SESSION_TOKEN"),
                None,
                "environment",
            ),
        })
    }

    fn storage(&self) -> Result<Storage, ConfigError> {
        Ok(Storage {
            segments_table: self.name("SEGMENTS_TABLE")?,
            catalog_table: self.name("CATALOG_TABLE")?,
            metrics_table: self.name("METRICS_TABLE")?,
            aggregates_table: self.name("AGGREGATES_TABLE")?,
            buckets: self.buckets()?,
            window: self.window()?,
            retention: self.retention()?,
            grace_ms: self.number("COMPACTION_GRACE_SECONDS", LEAST_GRACE_SECONDS, 86_400)? * 1_000,
        })
    }

    fn window(&self) -> Result<WindowLength, ConfigError> {
        const VARIABLE: &str = "WINDOW_SECONDS";
        let seconds = self.number(VARIABLE, 3_600, WindowLength::MAX_SECONDS)?;
        WindowLength::from_seconds(seconds).ok_or_else(|| {
            refuse(
                VARIABLE,
                format!("is `{seconds}`; a window must be whole hours that divide a day"),
            )
        })
    }

    fn retention(&self) -> Result<Retention, ConfigError> {
        let raw_ms = self.raw_retention_ms()?;
        let minute_ms = self.longer_retention_ms("MINUTE_RETENTION_DAYS", ("RAW_RETENTION_DAYS", raw_ms))?;
        let hour_ms = self.longer_retention_ms("HOUR_RETENTION_DAYS", ("MINUTE_RETENTION_DAYS", minute_ms))?;
        Ok(Retention {
            raw_ms,
            minute_ms,
            hour_ms,
        })
    }

    /// A coarser tier is what is left of a finer one, so that it must live at least as long.
    fn longer_retention_ms(
        &self,
        variable: &'static str,
        (finer, finer_ms): (&'static str, i64),
    ) -> Result<i64, ConfigError> {
        let days = self.number(variable, 1, LONGEST_RETENTION_DAYS)?;
        if days * DAY_MS < finer_ms {
            let finer_days = finer_ms / DAY_MS;
            return Err(refuse(
                variable,
                format!("is `{days}`; it must be at least {finer}, which is {finer_days}"),
            ));
        }
        Ok(days * DAY_MS)
    }

    fn cache_bytes(&self) -> Result<usize, ConfigError> {
        const VARIABLE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
        let megabytes = match self.optional(VARIABLE) {
            Some(_) => self.number(VARIABLE, 1, 1_000_000)?,
            None => DEFAULT_MEMORY_MB,
        };
        Ok(megabytes * 1_000_000 / CACHE_SHARE)
    }

    fn stream_name(&self) -> Result<String, ConfigError> {
        self.name("STREAM_NAME")
    }

    fn buckets(&self) -> Result<Buckets, ConfigError> {
        let count = self.number("BUCKETS", 1, tidemark_model::limits::MAX_BUCKETS)?;
        Buckets::new(count).ok_or_else(|| refuse("BUCKETS", "is no number of buckets"))
    }

    fn raw_retention_ms(&self) -> Result<i64, ConfigError> {
        // Segments live as long: with every window of an hour there are 720 partitions of each bucket then.
        Ok(self.number("RAW_RETENTION_DAYS", 1, 30)? * DAY_MS)
    }

    fn dead_letter_queue_url(&self) -> Result<String, ConfigError> {
        self.url("DEAD_LETTER_QUEUE_URL")
    }

    fn evaluate_queue_url(&self) -> Result<String, ConfigError> {
        self.url("EVALUATE_QUEUE_URL")
    }

    fn notify_queue_url(&self) -> Result<String, ConfigError> {
        self.url("NOTIFY_QUEUE_URL")
    }

    fn notify_dead_letter_queue_url(&self) -> Result<String, ConfigError> {
        self.url("NOTIFY_DEAD_LETTER_QUEUE_URL")
    }

    fn alerts_table(&self) -> Result<String, ConfigError> {
        self.name("ALERTS_TABLE")
    }

    fn cache_table(&self) -> Result<String, ConfigError> {
        self.name("CACHE_TABLE")
    }

    fn alerts_topic_arn(&self) -> Result<String, ConfigError> {
        let arn = self.required("ALERTS_TOPIC_ARN")?;
        let parts: Vec<&str> = arn.split(':').collect();
        if parts.len() == 6 && parts[0] == "arn" && parts[2] == "sns" {
            Ok(arn)
        } else {
            Err(refuse(
                "ALERTS_TOPIC_ARN",
                format!("is `{arn}`; it must be the ARN of an SNS topic"),
            ))
        }
    }

    fn webhook_allowed_cidrs(&self) -> Result<Vec<IpNet>, ConfigError> {
        let variable = "WEBHOOK_ALLOWED_CIDRS";
        let text = self.optional(variable).unwrap_or_default();
        text.split(',')
            .map(str::trim)
            .filter(|range| !range.is_empty())
            .map(|range| {
                range.parse().map_err(|_| {
                    refuse(
                        variable,
                        format!("holds `{range}`; ranges look like 10.0.0.0/8 or fd00::/8"),
                    )
                })
            })
            .collect()
    }
}

fn check_url(variable: &'static str, url: String) -> Result<String, ConfigError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace)) {
        Ok(url)
    } else {
        Err(refuse(
            variable,
            format!("is `{url}`; it must be an http or https address"),
        ))
    }
}

fn refuse(variable: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError {
        variable,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
