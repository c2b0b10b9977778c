// SPDX-License-Identifier: MPL-2.0

//! Target names: which producer a name or a `cvmmap://` URI means, and what is derived from it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The URI scheme of targets, without the colon.
pub const SCHEME: &str = "cvmmap";
/// The namespace used where a target names none.
pub const DEFAULT_NAMESPACE: &str = "cvmmap";
/// The folder of the sync socket used where a target names none.
pub const DEFAULT_PREFIX: &str = "/tmp";
/// Longest instance name, in bytes.
pub const MAX_INSTANCE: usize = 23;
/// Longest namespace, in bytes.
pub const MAX_NAMESPACE: usize = 32;
/// Longest socket path, in bytes (`sun_path` less its NUL).
pub const MAX_SOCKET_PATH: usize = 107;

/// Why a target name was refused; every message carries the offending value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum TargetError {
    #[error("target is empty: give NAME or cvmmap://INSTANCE[@PREFIX][?namespace=NS]")]
    Empty,
    #[error("'{0}': plain cvmmap instance names hold none of '@', '?' and '/'; use cvmmap://{0} for a URI")]
    NotPlain(String),
    #[error("'{0}' is not a cvmmap:// URI")]
    Scheme(String),
    #[error(
        "instance '{0}' does not match [A-Za-z0-9][A-Za-z0-9._-]{{0,22}} (1 to 23 bytes, a letter or digit first)"
    )]
    Instance(String),
    #[error(
        "namespace '{0}' does not match [A-Za-z0-9][A-Za-z0-9._-]{{0,31}} (1 to 32 bytes, a letter or digit first)"
    )]
    Namespace(String),
    #[error("'{0}' holds more than one '@'")]
    ManyPrefixes(String),
    #[error("prefix '{0}' is not an absolute path")]
    RelativePrefix(String),
    #[error("prefix '{prefix}' {rule}")]
    Prefix { prefix: String, rule: &'static str },
    #[error("query '{query}' {rule}; only ?namespace=NS is known")]
    Query { query: String, rule: &'static str },
    #[error("socket path '{path}' is {} bytes, at most 107 fit", path.len())]
    SocketPath { path: String },
}

/// A producer's name, and all that is derived from it. Equal targets name the same producer.
///
/// ```
/// let target: cvmmap_ipc::Target = "cvmmap://camera0@/run/cvmmap?namespace=zed".parse()?;
/// assert_eq!(target.shm_name(), "zed_camera0");
/// assert_eq!(target.zmq_endpoint(), "ipc:///run/cvmmap/zed_camera0");
/// # Ok::<(), cvmmap_ipc::TargetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    instance: String,
    namespace: String,
    prefix: String,
}

impl Target {
    /// The producer's own name; also the label of its messages.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The namespace, `cvmmap` unless the target says otherwise.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The folder of the sync socket, without a trailing slash (so empty for the root).
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `NAMESPACE_INSTANCE`, from which all the other names are made.
    pub fn base_name(&self) -> String {
        format!("{}_{}", self.namespace, self.instance)
    }

    /// The name of the POSIX shared memory segment, without the leading slash.
    pub fn shm_name(&self) -> String {
        self.base_name()
    }

    /// The path of the sync socket.
    pub fn socket_path(&self) -> PathBuf {
        PathBuf::from(format!("{}/{}", self.prefix, self.base_name()))
    }

    /// The ZeroMQ endpoint at which the producer publishes its sync messages.
    pub fn zmq_endpoint(&self) -> String {
        format!("ipc://{}/{}", self.prefix, self.base_name())
    }

    /// The key under which the producer is found over NATS.
    pub fn nats_target_key(&self) -> String {
        nats_key(&self.base_name())
    }

    fn new(instance: &str, namespace: &str, prefix: &str) -> Result<Self, TargetError> {
        if !is_name(instance, MAX_INSTANCE) {
            return Err(TargetError::Instance(instance.into()));
        }
        if !is_name(namespace, MAX_NAMESPACE) {
            return Err(TargetError::Namespace(namespace.into()));
        }
        let target = Self {
            instance: instance.into(),
            namespace: namespace.into(),
            prefix: checked_prefix(prefix)?.into(),
        };
        let path = format!("{}/{}", target.prefix, target.base_name());
        if path.len() > MAX_SOCKET_PATH {
            return Err(TargetError::SocketPath { path });
        }
        Ok(target)
    }
}

/// The NATS target key of a producer with this base name, which its segment has too: `_` for each `.`.
pub fn nats_key(base_name: &str) -> String {
    base_name.replace('.', "_")
}

/// The file path behind an `ipc://` endpoint; `None` for other transports and abstract sockets.
pub fn ipc_path(endpoint: &str) -> Option<&Path> {
    endpoint.strip_prefix("ipc://").filter(|path| path.starts_with('/')).map(Path::new)
}

/// The folder of an `ipc://` endpoint is not there, or not for us.
#[derive(Debug, thiserror::Error)]
#[error("the folder '{folder}' of sync endpoint '{endpoint}' cannot be reached: {source}")]
pub struct UnreachableFolder {
    folder: String,
    endpoint: String,
    source: std::io::Error,
}

/// Checks that a socket can lie where an endpoint says; ZeroMQ itself would retry for ever.
pub(crate) fn check_folder(endpoint: &str) -> Result<(), UnreachableFolder> {
    let Some(folder) = ipc_path(endpoint).and_then(Path::parent) else { return Ok(()) };
    // The '.' makes a file in the place of the folder an error.
    std::fs::metadata(folder.join(".")).map(drop).map_err(|source| UnreachableFolder {
        folder: folder.display().to_string(),
        endpoint: endpoint.into(),
        source,
    })
}

fn is_name(name: &str, max: usize) -> bool {
    name.len() <= max
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn checked_prefix(prefix: &str) -> Result<&str, TargetError> {
    if !prefix.starts_with('/') {
        return Err(TargetError::RelativePrefix(prefix.into()));
    }
    let broken = |rule| Err(TargetError::Prefix { prefix: prefix.into(), rule });
    if prefix.contains('\\') {
        return broken("holds a backslash");
    }
    if prefix.contains('\0') {
        return broken("holds a NUL");
    }
    let path = prefix.strip_suffix('/').unwrap_or(prefix);
    for segment in path.split('/').skip(1) {
        match segment {
            "" => return broken("has an empty segment"),
            "." | ".." => return broken("has a '.' or '..' segment"),
            _ => (),
        }
    }
    Ok(path)
}

fn namespace_of(query: &str) -> Result<&str, TargetError> {
    let broken = |rule| Err(TargetError::Query { query: query.into(), rule });
    if query.is_empty() {
        return broken("is empty");
    }
    let mut namespace = None;
    for pair in query.split('&') {
        match pair.split_once('=') {
            _ if pair.is_empty() => return broken("has an empty pair"),
            Some(("namespace", "")) | None if pair.starts_with("namespace") => return broken("has no value"),
            Some(("namespace", value)) if namespace.is_none() => namespace = Some(value),
            Some(("namespace", _)) => return broken("names the namespace twice"),
            _ => return broken("has an unknown key"),
        }
    }
    namespace.map_or_else(|| broken("is empty"), Ok)
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.contains(['@', '?', '/']) {
                return Err(TargetError::NotPlain(text.into()));
            }
            return Self::new(text, DEFAULT_NAMESPACE, DEFAULT_PREFIX);
        };
        if scheme != SCHEME {
            return Err(TargetError::Scheme(text.into()));
        }
        let (path, namespace) = match rest.split_once('?') {
            Some((path, query)) => (path, namespace_of(query)?),
            None => (rest, DEFAULT_NAMESPACE),
        };
        if path.matches('@').count() > 1 {
            return Err(TargetError::ManyPrefixes(text.into()));
        }
        let (instance, prefix) = path.split_once('@').unwrap_or((path, DEFAULT_PREFIX));
        Self::new(instance, namespace, prefix)
    }
}

/// The shortest URI that parses back to this target.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}://{}", self.instance)?;
        if self.prefix != DEFAULT_PREFIX {
            let root = if self.prefix.is_empty() { "/" } else { "" };
            write!(f, "@{}{root}", self.prefix)?;
        }
        if self.namespace != DEFAULT_NAMESPACE {
            write!(f, "?namespace={}", self.namespace)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_uris_derive_the_contract_names() {
        let plain: Target = "cam.0".parse().unwrap();
        assert_eq!(plain.base_name(), "cvmmap_cam.0");
        assert_eq!(plain.nats_target_key(), "cvmmap_cam_0");
        assert_eq!(plain.zmq_endpoint(), "ipc:///tmp/cvmmap_cam.0");
        assert_eq!(plain, "cvmmap://cam.0@/tmp/?namespace=cvmmap".parse().unwrap());
        let root: Target = "cvmmap://a@/".parse().unwrap();
        assert_eq!(root.socket_path(), Path::new("/cvmmap_a"));
    }

    #[test]
    fn display_parses_back() {
        for text in [
            "cvmmap://a",
            "cvmmap://a@/",
            "cvmmap://a@/run/x",
            "cvmmap://a?namespace=n",
            "cvmmap://a@/r?namespace=n",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
    }

    #[test]
    fn each_rule_refuses_with_the_value() {
        let long = format!("cvmmap://a@/{}", "p".repeat(100));
        let name24 = "x".repeat(24);
        let ns33 = format!("cvmmap://a?namespace={}", "n".repeat(33));
        for (text, part) in [
            ("", "empty"),
            ("a@b", "plain cvmmap instance names"),
            ("a?b", "plain cvmmap instance names"),
            (".a", "instance '.a'"),
            (name24.as_str(), name24.as_str()),
            ("http://a", "not a cvmmap:// URI"),
            ("cvmmap://", "instance ''"),
            ("cvmmap://a/b", "instance 'a/b'"),
            ("cvmmap://a@/tmp@/run", "more than one '@'"),
            ("cvmmap://a@", "absolute path"),
            ("cvmmap://a@tmp", "absolute path"),
            ("cvmmap://a@/x//y", "empty segment"),
            ("cvmmap://a@/x//", "empty segment"),
            ("cvmmap://a@/x/./y", "'.' or '..'"),
            ("cvmmap://a@/x/..", "'.' or '..'"),
            ("cvmmap://a@/x\\y", "backslash"),
            ("cvmmap://a@/x\0y", "NUL"),
            ("cvmmap://a?", "is empty"),
            ("cvmmap://a?namespace=n&", "empty pair"),
            ("cvmmap://a?namespace=", "no value"),
            ("cvmmap://a?namespace", "no value"),
            ("cvmmap://a?key=v", "unknown key"),
            ("cvmmap://a?namespace=n&key=v", "unknown key"),
            ("cvmmap://a?namespace=n&namespace=m", "twice"),
            ("cvmmap://a?namespace=-n", "namespace '-n'"),
            (ns33.as_str(), "namespace 'nnn"),
            (long.as_str(), "at most 107"),
        ] {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn endpoints_give_their_path() {
        assert_eq!(ipc_path("ipc:///tmp/x"), Some(Path::new("/tmp/x")));
        assert_eq!(ipc_path("tcp://127.0.0.1:1"), None);
        assert_eq!(ipc_path("ipc://@abstract"), None);
    }
}
