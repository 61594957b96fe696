//! Values of one key: lengths of time, names, texts.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use super::Check;
use crate::file::Lapse;

impl Check {
    /// A length of time within bounds.
    pub(super) fn lapse(&mut self, key: &str, lapse: &Lapse, range: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(duration) = parse_lapse(&lapse.0) else {
            let message = format!("{:?} is not a length of time", lapse.0);
            self.problem(
                key,
                message,
                "write a number and its unit: \"500ms\", \"30s\", \"10m\", \"2h\" or \"1d\"".to_owned(),
            );
            return None;
        };
        if !range.contains(&duration) {
            let (min, max) = (show_lapse(*range.start()), show_lapse(*range.end()));
            self.problem(key, format!("{:?} is out of range: {min} to {max} are expected", lapse.0), None);
            return None;
        }
        Some(duration)
    }

    /// Anything that reads itself from text and says why it cannot.
    pub(super) fn parse<T: FromStr>(&mut self, key: &str, text: &str) -> Option<T>
    where
        T::Err: Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, format!("{text:?} cannot be used: {error}"), None);
                None
            }
        }
    }

    /// A text that is there and fits a line.
    pub(super) fn text(&mut self, key: &str, text: &str) -> Option<String> {
        let trouble = if text.trim().is_empty() {
            "the text is empty"
        } else if text.chars().any(char::is_control) {
            "the text holds control characters"
        } else if text.len() > TEXT_BYTES_MAX {
            "the text is longer than 1024 bytes"
        } else {
            return Some(text.to_owned());
        };
        self.problem(key, trouble, None);
        None
    }

    /// The texts of an array.
    pub(super) fn texts(&mut self, key: &str, texts: &[String]) -> Option<Vec<String>> {
        super::all(texts.iter().enumerate().map(|(index, text)| self.text(&format!("{key}[{index}]"), text)).collect())
    }

    /// A text that may be absent: the outer `None` is a problem.
    pub(super) fn text_or_none(&mut self, key: &str, text: Option<&str>) -> Option<Option<String>> {
        text.map_or(Some(None), |text| self.text(key, text).map(Some))
    }

    /// A value that must not be greater than another one.
    pub(super) fn at_most<T: PartialOrd>(&mut self, key: &str, value: Option<T>, other: Option<T>, other_key: &str) {
        if let (Some(value), Some(other)) = (value, other)
            && value > other
        {
            self.problem(key, format!("this is more than `{other_key}`"), None);
        }
    }
}

/// Seconds, the unit of most bounds.
pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn parse_lapse(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let number: u64 = number.parse().ok()?;
    let unit = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_secs)
}

fn show_lapse(lapse: Duration) -> String {
    let millis = lapse.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("\"{}{unit}\"", millis / size);
        }
    }
    format!("\"{millis}ms\"")
}

/// Names, DNs and filters are far shorter.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_a_unit() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(parse_lapse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "s", "10", "10 s", "-1s", "1.5h", "10S", "1w", "99999999999999999999s", "18446744073709551615d", "1é"]
        {
            assert_eq!(parse_lapse(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_shown_as_they_are_written() {
        for text in ["500ms", "30s", "10m", "2h", "1d", "0ms"] {
            assert_eq!(parse_lapse(text).map(show_lapse), Some(format!("{text:?}")), "{text}");
        }
    }
}
