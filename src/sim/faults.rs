// SPDX-License-Identifier: MPL-2.0

//! Faults that the simulator injects, as `KIND@FRAME[+EVERY[xTIMES]][=VALUE]`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No frames for this long.
    Stall(Duration),
    /// The frame count starts again at 0.
    Reset,
    /// The producer ends, and starts again after this long: a new segment, counting from 0.
    Restart(Duration),
    /// Right after the frame was announced, the segment is cut to this many bytes of payload.
    Shrink(u64),
    /// From this frame on the picture is this many times as wide and high.
    Grow(u32),
    /// This many messages that are none, or somebody else's.
    Garbage(u32),
    /// The payload is written over this long, in sixteen pieces.
    Slow(Duration),
    /// The producer pauses this long in the middle of the fill.
    Pause(Duration),
    /// The header breaks a rule.
    Invalid,
}

/// A fault and the frames (counted from the start of the run) that it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// First frame.
    pub at: u64,
    /// Then every so many frames; 0 = once.
    pub every: u64,
    /// So many times in all; 0 = without end.
    pub times: u64,
}

impl Fault {
    /// Whether frame `n` of the run is struck.
    pub fn strikes(&self, n: u64) -> bool {
        match self.every {
            0 => n == self.at,
            every => {
                n >= self.at
                    && (n - self.at).is_multiple_of(every)
                    && (self.times == 0 || (n - self.at) / every < self.times)
            }
        }
    }
}

/// What `--help` says of faults.
pub const HELP: &str = "Faults: stall@N[=MS], reset@N, restart@N[=MS], shrink@N[=BYTES], grow@N[=FACTOR], \
garbage@N[=MESSAGES], slow@N[=MS], pause@N[=MS], invalid@N strike frame N of the run; N+M strikes every Mth from there, \
N+MxT so T times, as in 'slow@0+1=8': every frame is written over 8 ms; 'reset@60+3x50': fifty resets.";

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let broken =
            |rule: &str| format!("fault '{text}': {rule}; the form is KIND@FRAME[+EVERY[xTIMES]][=VALUE]");
        let (kind, rest) = text.split_once('@').ok_or_else(|| broken("there is no '@FRAME'"))?;
        let (when, value) = match rest.split_once('=') {
            Some((when, value)) => (when, Some(value)),
            None => (rest, None),
        };
        let number = |text: &str| {
            // parse() would take a sign.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = if digits { text.parse::<u64>().ok() } else { None };
            number.ok_or_else(|| broken(&format!("'{text}' is no number")))
        };
        let counted = |what: &str, text: &str| match number(text)? {
            0 => Err(broken(&format!("{what} is 1 or more"))),
            count => Ok(count),
        };
        let (at, every, times) = match when.split_once('+') {
            None => (number(when)?, 0, 0),
            Some((at, repeat)) => match repeat.split_once('x') {
                None => (number(at)?, counted("EVERY", repeat)?, 0),
                Some((every, times)) => (number(at)?, counted("EVERY", every)?, counted("TIMES", times)?),
            },
        };
        let value_or = |default: u64| value.map_or(Ok(default), number);
        let ms = |default| value_or(default).map(Duration::from_millis);
        let small = |value: u64| u32::try_from(value).map_err(|_| broken(&format!("{value} is too large")));
        let kind = match kind {
            "stall" => Kind::Stall(ms(2000)?),
            "reset" => Kind::Reset,
            "restart" => Kind::Restart(ms(500)?),
            "shrink" => Kind::Shrink(value_or(0)?),
            "grow" => Kind::Grow(small(value_or(2)?)?.clamp(1, 64)),
            "garbage" => Kind::Garbage(small(value_or(100)?)?),
            "slow" => Kind::Slow(ms(8)?),
            "pause" => Kind::Pause(ms(6)?),
            "invalid" => Kind::Invalid,
            other => {
                let kinds = "stall, reset, restart, shrink, grow, garbage, slow, pause, invalid";
                return Err(broken(&format!("'{other}' is none of {kinds}")));
            }
        };
        if matches!(kind, Kind::Reset | Kind::Invalid) && value.is_some() {
            return Err(broken("it takes no value"));
        }
        Ok(Self { kind, at, every, times })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stall(time) => write!(f, "stall for {time:?}"),
            Self::Reset => f.write_str("reset"),
            Self::Restart(time) => write!(f, "restart after {time:?}"),
            Self::Shrink(bytes) => write!(f, "shrink to {bytes} bytes of payload"),
            Self::Grow(factor) => write!(f, "picture {factor} times as wide and high"),
            Self::Garbage(messages) => write!(f, "{messages} garbage messages"),
            Self::Slow(time) => write!(f, "payload written over {time:?}"),
            Self::Pause(time) => write!(f, "pause of {time:?} in the middle of the fill"),
            Self::Invalid => f.write_str("header that breaks a rule"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_parse_and_strike() {
        let once: Fault = "stall@60".parse().unwrap();
        assert_eq!(once, Fault { kind: Kind::Stall(Duration::from_secs(2)), at: 60, every: 0, times: 0 });
        assert!(once.strikes(60) && !once.strikes(120));
        let again: Fault = "slow@5+3=20".parse().unwrap();
        assert_eq!(again.kind, Kind::Slow(Duration::from_millis(20)));
        let struck: Vec<u64> = (0..12).filter(|n| again.strikes(*n)).collect();
        assert_eq!(struck, [5, 8, 11]);
        let twice: Fault = "reset@5+3x2".parse().unwrap();
        assert_eq!((0..100).filter(|n| twice.strikes(*n)).collect::<Vec<u64>>(), [5, 8]);
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for (text, part) in [
            ("stall", "no '@FRAME'"),
            ("melt@3", "'melt' is none of"),
            ("stall@x", "'x' is no number"),
            ("stall@1+", "'' is no number"),
            ("stall@1+2x", "'' is no number"),
            ("stall@1+0", "EVERY is 1 or more"),
            ("stall@1+0x5", "EVERY is 1 or more; the form is KIND@FRAME[+EVERY[xTIMES]][=VALUE]"),
            ("stall@1+5x0", "TIMES is 1 or more"),
            ("stall@1++5", "'+5' is no number"),
            ("stall@1=+5", "'+5' is no number"),
            ("stall@1=-2", "'-2' is no number"),
            ("reset@1=2", "takes no value"),
            ("garbage@1=99999999999", "too large"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
    }
}
