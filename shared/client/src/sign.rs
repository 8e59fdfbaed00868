//! AWS Signature Version 4, for an API that is deployed with `ApiAuthorization=AWS_IAM`.

use crate::Error;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use std::time::SystemTime;

/// The name of API Gateway's HTTP endpoints as a service.
const SERVICE: &str = "execute-api";

/// Signs requests with the credentials that the environment held when the client was built.
#[derive(Debug)]
pub(crate) struct Signer {
    region: String,
    service: &'static str,
    credentials: Credentials,
}

/// Why a request could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the request could not be signed")]
pub(crate) struct SignError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Signer {
    /// Takes credentials from the environment as every AWS tool does.
    pub(crate) fn from_env(region: String) -> Result<Self, Error> {
        let key = variable("AWS_ACCESS_KEY_ID").ok_or(Error::MissingCredentials("AWS_ACCESS_KEY_ID"))?;
        let secret = variable("AWS_SECRET_ACCESS_KEY").ok_or(Error::MissingCredentials("AWS_SECRET_ACCESS_KEY"))?;
        let credentials = Credentials::new(key, secret, variable("AWS_SESSION_TOKEN"), None, "environment");
        Ok(Self {
            region,
            service: SERVICE,
            credentials,
        })
    }

    /// The headers to add to a request. `headers` are those to cover besides `host`, which the URL gives.
    pub(crate) fn headers(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<(String, String)>, SignError> {
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| SignError(e.into()))?
            .into();
        let request = SignableRequest::new(method, url, headers.iter().copied(), SignableBody::Bytes(body))
            .map_err(|e| SignError(e.into()))?;
        let (instructions, _signature) = sign(request, &params).map_err(|e| SignError(e.into()))?.into_parts();
        Ok(instructions
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

#[expect(clippy::disallowed_methods, reason = "read once, when the client is built")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// Key, secret and time (2015-08-30T12:36:00Z) of all of AWS' published examples.
    fn example_signer(service: &'static str, token: Option<&str>) -> Signer {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", secret, token.map(str::to_owned), None, "example");
        Signer {
            region: "us-east-1".to_owned(),
            service,
            credentials,
        }
    }

    fn example_time() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }

    fn authorization(headers: &[(String, String)]) -> &str {
        &headers.iter().find(|(name, _)| name == "authorization").unwrap().1
    }

    /// AWS' signing test suite, `post-sts-header-before`.
    #[test]
    fn a_session_token_is_signed_as_in_the_published_vector() {
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoI\
                     YRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp\
                     75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9F\
                     X9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let signer = example_signer("service", Some(token));
        let headers = signer
            .headers("POST", "https://example.amazonaws.com/", &[], b"", example_time())
            .unwrap();
        assert_eq!(
            authorization(&headers),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        );
        assert!(headers.contains(&("x-amz-security-token".to_owned(), token.to_owned())));
        assert!(headers.contains(&("x-amz-date".to_owned(), "20150830T123600Z".to_owned())));
    }

    /// AWS' signing test suite as first published, `post-x-www-form-urlencoded`: a body and a covered header.
    #[test]
    fn a_body_and_its_type_are_signed_as_in_the_published_vector() {
        let headers = example_signer("service", None)
            .headers(
                "POST",
                "https://example.amazonaws.com/",
                &[("content-type", "application/x-www-form-urlencoded")],
                b"Param1=value1",
                example_time(),
            )
            .unwrap();
        assert_eq!(
            authorization(&headers),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }
}
