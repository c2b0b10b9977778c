// SPDX-License-Identifier: MPL-2.0

//! Where the NATS server is. The password stays in here.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

/// The server that is asked where nobody said another.
pub const DEFAULT_URL: &str = "nats://localhost:4222";

/// Names another server for whatever was not told of one; empty: none.
pub const URL_VARIABLE: &str = "CVMMAP_NATS_URL";

/// The value of [`URL_VARIABLE`], or else [`DEFAULT_URL`].
pub fn default_url() -> String {
    std::env::var(URL_VARIABLE).unwrap_or_else(|_| DEFAULT_URL.into())
}

/// A server's address that passed the rules. Displays without its credentials.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl(Url);

/// A value that is no server's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{url}': {rule}")]
pub struct UrlError {
    /// The value, without what may be a password.
    pub url: String,
    /// The rule that it breaks.
    pub rule: String,
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    /// `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]`, or `tls://`.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let fail = |rule: &str| UrlError { url: redacted(text), rule: rule.into() };
        let url = Url::parse(text).map_err(|error| fail(&error.to_string()))?;
        if !matches!(url.scheme(), "nats" | "tls") {
            return Err(fail("it is nats://HOST[:PORT] or tls://HOST[:PORT], or empty"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(fail("it names no host"));
        }
        if url.port() == Some(0) {
            return Err(fail("port 0 is no server's"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(fail("nothing follows HOST[:PORT]"));
        }
        Ok(Self(url))
    }
}

/// What a server's address says about who we are.
#[derive(PartialEq, Eq)]
pub(crate) enum Credentials {
    None,
    Token(String),
    User(String, String),
}

impl ServerUrl {
    /// What stands before the `@`, for the client library alone: it does not look there itself.
    pub(crate) fn credentials(&self) -> Credentials {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        match (self.0.username(), self.0.password()) {
            ("", None) => Credentials::None,
            (token, None) => Credentials::Token(plain(token)),
            (user, Some(password)) => Credentials::User(plain(user), plain(password)),
        }
    }

    /// Where its socket is, to look whether it is there.
    pub(crate) fn socket_address(&self) -> (String, u16) {
        // IPv6 addresses stand in brackets in a URL.
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        (host.into(), self.0.port().unwrap_or(4222))
    }

    /// Nothing may be sent in clear.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme() == "tls"
    }

    /// Without the credentials.
    pub(crate) fn address(&self) -> String {
        let mut url = self.0.clone();
        // Refused for addresses without a host alone, and there is one.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(redacted(self.0.as_str()).trim_end_matches('/'))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Leaves out whatever stands before an `@`, also where the rest is no URL.
fn redacted(text: &str) -> String {
    let Some((head, host)) = text.rsplit_once('@') else { return text.into() };
    let scheme = head.split_once("://").map_or("", |(scheme, _)| scheme);
    if scheme.is_empty() { format!("***@{host}") } else { format!("{scheme}://***@{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_server_is_refused_by_a_rule() {
        for (text, rule) in [
            ("localhost:4222", "it is nats://"),
            ("localhost", "relative URL"),
            ("http://localhost", "it is nats://"),
            ("nats://", "names no host"),
            ("nats://:4222", "empty host"),
            ("nats://h:99999", "invalid port"),
            ("nats://h:0", "port 0"),
            ("nats://h/path", "nothing follows"),
            ("nats://h?x=1", "nothing follows"),
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}': ")) && error.contains(rule), "{error}");
        }
    }

    #[test]
    fn no_text_of_it_has_the_password() {
        let url: ServerUrl = "nats://user:hunter2@host:4223".parse().unwrap();
        assert_eq!((url.to_string(), format!("{url:?}")), ("nats://***@host:4223".into(), url.to_string()));
        assert!(url.credentials() == Credentials::User("user".into(), "hunter2".into()));
        assert_eq!(url.address(), "nats://host:4223");
        assert_eq!(url.socket_address(), ("host".into(), 4223));
        assert_eq!("tls://[::1]".parse::<ServerUrl>().unwrap().socket_address(), ("::1".into(), 4222));
        assert!(
            "nats://t%40ken@h".parse::<ServerUrl>().unwrap().credentials()
                == Credentials::Token("t@ken".into())
        );
        for wrong in ["http://user:hunter2@host", "user:hunter2@host", "nats://user:hunter2@host:x"] {
            let error = wrong.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(DEFAULT_URL.parse::<ServerUrl>().unwrap().to_string(), DEFAULT_URL);
    }
}
