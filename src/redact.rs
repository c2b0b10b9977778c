// SPDX-License-Identifier: MPL-2.0

//! Passwords and stream keys of URLs, kept out of what is told: logs are read by more people than command lines.

use url::Url;

const HIDDEN: &str = "***";

/// A URL as a user gave it, well-formed or not.
pub fn url(given: &str) -> String {
    let (scheme, rest) = given.split_at(given.find("://").map_or(0, |at| at + 3));
    let (place, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    // Where nobody can tell what is the authority, a slash may be part of a password.
    let end = if Url::parse(given).is_ok() && !scheme.is_empty() { place.find('/') } else { None };
    let (authority, path) = place.split_at(end.unwrap_or(place.len()));
    let shown = match authority.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
        Some((Some((user, _)), host)) => format!("{user}:{HIDDEN}@{host}"),
        _ => authority.to_owned(),
    };
    let query = if query.len() > 1 { format!("?{HIDDEN}") } else { query.to_owned() };
    format!("{scheme}{shown}{path}{query}")
}

/// What somebody else said, who may have repeated a URL or the end of one. Names of producers have no secrets.
pub fn text(told: &str) -> String {
    let ends = |c: char| c.is_whitespace() || "'\"".contains(c);
    let word = |part: &str| {
        let (word, end) = part.split_at(part.trim_end_matches(ends).len());
        let is_query = word.split_once('?').is_some_and(|(_, query)| query.contains('='));
        if word.contains("cvmmap://") || !(is_query || word.contains("://")) {
            return part.to_owned();
        }
        let (start, tail) = word.split_at(word.find('?').unwrap_or(word.len()));
        let tail = if is_query { format!("?{HIDDEN}") } else { tail.to_owned() };
        let start = if start.contains("://") { url(start) } else { start.to_owned() };
        start + &tail + end
    };
    told.split_inclusive(ends).map(word).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn urls_lose_passwords_and_queries_alone() {
        for (given, shown) in [
            ("rtmp://h:1935/live/cam0", "rtmp://h:1935/live/cam0"),
            ("rtmp://user@h/live/cam@1", "rtmp://user@h/live/cam@1"),
            ("rtmp://user:hunter2@h:1935/live/cam0", "rtmp://user:***@h:1935/live/cam0"),
            ("rtmp://user:hunt@er2@h/live/cam0?token=s3cret&b=1", "rtmp://user:***@h/live/cam0?***"),
            ("rtmp://user:hun/ter2@h/live/cam0", "rtmp://user:***@h/live/cam0"),
            ("user:hunter2@h/live", "user:***@h/live"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(super::url(given), shown, "{given}");
        }
    }

    #[test]
    fn what_servers_repeat_loses_them_too() {
        for (told, shown) in [
            ("publish denied: 'cam0?token=s3cret' is taken", "publish denied: 'cam0?***' is taken"),
            ("no rtmp://u:hunter2@h/live/cam0?key=s3cret here", "no rtmp://u:***@h/live/cam0?*** here"),
            ("(rtmp://u:hunter2@h/live)", "(rtmp://u:***@h/live)"),
            ("cvmmap://cam0?namespace=a: really? yes = no", "cvmmap://cam0?namespace=a: really? yes = no"),
            ("Could not connect to 127.0.0.1: refused", "Could not connect to 127.0.0.1: refused"),
        ] {
            assert_eq!(super::text(told), shown);
        }
    }
}
