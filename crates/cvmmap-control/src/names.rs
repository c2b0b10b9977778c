// SPDX-License-Identifier: MPL-2.0

//! The contract's numbers as words in kebab-case, for people and programs. A number without a word stays a number.

use std::fmt;

use crate::proto::*;

/// A number that has words.
pub trait Named: Copy + TryFrom<i32> + Into<i32> + 'static {
    /// What the values are, for messages.
    const WHAT: &'static str;
    /// All values that have a word.
    const ALL: &'static [Self];

    /// The word.
    fn word(self) -> &'static str;

    /// The value of a word, or of its number.
    ///
    /// # Errors
    /// [`Unnamed`] with all words.
    fn parse(text: &str) -> Result<Self, Unnamed> {
        let number = text.parse::<i32>().ok();
        let matches = |value: &&Self| value.word() == text || Some((**value).into()) == number;
        Self::ALL.iter().find(matches).copied().ok_or_else(|| Unnamed {
            what: Self::WHAT,
            text: text.into(),
            words: Self::ALL.iter().map(|value| value.word()).collect(),
        })
    }
}

/// A text that is none of the words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{text}': it is one of {}", words.join(", "))]
pub struct Unnamed {
    what: &'static str,
    text: String,
    words: Vec<&'static str>,
}

/// The word of a number, or the number.
pub fn word<N: Named>(number: i32) -> impl fmt::Display {
    struct Word(Result<&'static str, i32>);
    impl fmt::Display for Word {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                Ok(word) => f.pad(word),
                Err(number) => number.fmt(f),
            }
        }
    }
    let known = N::ALL.iter().find(|&&value| value.into() == number);
    Word(known.map(|value| value.word()).ok_or(number))
}

macro_rules! named {
    ($($name:ident, $what:literal: $($value:ident $word:literal),+;)+) => {$(
        impl Named for $name {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                    _ => "unknown",
                }
            }
        }
    )+};
}

named! {
    CameraSetting, "camera setting":
        Exposure "exposure", Gain "gain", AecAgc "aec-agc",
        WhiteBalanceTemperature "white-balance-temperature", WhiteBalanceAuto "white-balance-auto", Led "led",
        ExposureTime "exposure-time", AnalogGain "analog-gain", DigitalGain "digital-gain",
        AutoExposureTimeRange "auto-exposure-time-range", AutoAnalogGainRange "auto-analog-gain-range",
        AutoDigitalGainRange "auto-digital-gain-range";
    CameraControlMode, "mode": Manual "manual", Auto "auto";
    CameraValueKind, "kind": Single "single", Range "range";
    SourceKind, "source kind": Live "live", Finite "finite";
    TimestampDomain, "timestamp domain": Unix "unix", Media "media";
    RecordingFormat, "recording format": Svo "svo", Mcap "mcap";
    ModuleStatus, "status": Online "online", Offline "offline", StreamReset "stream-reset";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<N: Named + PartialEq + fmt::Debug>() {
        for &value in N::ALL {
            assert_eq!(N::parse(value.word()), Ok(value));
            assert_eq!(N::parse(&value.into().to_string()), Ok(value));
            assert_eq!(word::<N>(value.into()).to_string(), value.word());
            // The word is the generated name without its enum's.
            assert!(N::try_from(value.into()).is_ok());
        }
        assert_eq!(word::<N>(0).to_string(), "0");
        assert_eq!(word::<N>(99).to_string(), "99");
    }

    #[test]
    fn words_and_numbers_are_the_same_values() {
        round_trip::<CameraSetting>();
        round_trip::<CameraControlMode>();
        round_trip::<CameraValueKind>();
        round_trip::<SourceKind>();
        round_trip::<TimestampDomain>();
        round_trip::<RecordingFormat>();
        round_trip::<ModuleStatus>();
        for &setting in CameraSetting::ALL {
            let generated = setting.as_str_name().trim_start_matches("CAMERA_SETTING_");
            assert_eq!(setting.word(), generated.to_lowercase().replace('_', "-"));
        }
        assert_eq!(CameraSetting::ALL.len(), 12);
    }

    #[test]
    fn a_wrong_word_is_answered_by_the_right_ones() {
        let error = CameraControlMode::parse("automatic").unwrap_err().to_string();
        assert_eq!(error, "mode 'automatic': it is one of manual, auto");
        assert!(CameraSetting::parse("0").is_err());
    }
}
