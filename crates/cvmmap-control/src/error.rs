// SPDX-License-Identifier: MPL-2.0

//! What goes wrong with a request, by name.

use std::time::Duration;

use crate::proto::ErrorCode;

/// Why a request has no answer, or a bad one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ControlError {
    #[error("no connection to the NATS server {url}{}", reason.as_ref().map_or(String::new(), |why| format!(": {why}")))]
    NotConnected { url: String, reason: Option<String> },
    #[error("nobody answers '{subject}'")]
    NoResponders { subject: String },
    #[error("no answer from '{subject}' within {} ms", after.as_millis())]
    TimedOut { subject: String, after: Duration },
    #[error("'{subject}' answers {code}{}", if message.is_empty() { String::new() } else { format!(": {}", printable(message)) })]
    Refused { subject: String, code: Code, message: String },
    #[error("the answer of '{subject}' cannot be read: {why}")]
    Malformed { subject: String, why: String },
    #[error("request to '{subject}' failed: {why}")]
    Failed { subject: String, why: String },
}

impl ControlError {
    /// A short name in kebab-case, for programs: the contract's name of an error code where there is one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotConnected { .. } => "not-connected",
            Self::NoResponders { .. } => "no-responders",
            Self::TimedOut { .. } => "timeout",
            Self::Refused { code, .. } => code.name(),
            Self::Malformed { .. } => "malformed",
            Self::Failed { .. } => "failed",
        }
    }

    /// The code of an answer that is a refusal.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Refused { code, .. } => Some(code.0),
            _ => None,
        }
    }
}

/// An error code as it came, known or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    /// The contract's name in kebab-case; `unknown-code` for a number that it does not have.
    pub fn name(self) -> &'static str {
        match ErrorCode::try_from(self.0) {
            Ok(ErrorCode::Ok) => "ok",
            Ok(ErrorCode::UnknownCmd) => "unknown-cmd",
            Ok(ErrorCode::Error) => "error",
            Ok(ErrorCode::Unsupported) => "unsupported",
            Ok(ErrorCode::InvalidPayload) => "invalid-payload",
            Ok(ErrorCode::OutOfRange) => "out-of-range",
            Ok(ErrorCode::Timeout) => "timeout",
            Err(_) => "unknown-code",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// A text without control characters: what others wrote must not steer a terminal, or begin lines of its own.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_names_and_say_what_failed() {
        let refused = |code, message: &str| ControlError::Refused {
            subject: "cvmmap.a.producer.source.seek".into(),
            code: Code(code),
            message: message.into(),
        };
        assert_eq!(refused(5, "").name(), "out-of-range");
        assert_eq!(refused(99, "").name(), "unknown-code");
        assert_eq!(refused(2, "busy").to_string(), "'cvmmap.a.producer.source.seek' answers error (2): busy");
        assert!(refused(2, "a\x1b[2Jb\n").to_string().ends_with("error (2): a\u{fffd}[2Jb\u{fffd}"));
        let away = ControlError::NotConnected { url: "nats://h:1".into(), reason: Some("refused".into()) };
        assert_eq!(away.to_string(), "no connection to the NATS server nats://h:1: refused");
    }
}
