//! Spans of time, as people write and read them.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads `90s`, `10m`, `1h30m`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "write a span of time such as 90s, 10m or 1h30m".to_owned())
}

/// Seconds for people: the more there are, the rounder.
pub(crate) fn show(seconds: f64) -> String {
    // Spans on display are far below the range of u64.
    let whole = seconds.max(0.0).round() as u64;
    if seconds < 0.9995 {
        format!("{:.0} ms", (seconds * 1000.0).max(0.0))
    } else if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if whole < 120 {
        format!("{whole} s")
    } else if whole < 7200 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "90", "-5s", "0s", "soon"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for (seconds, text) in [
            (0.0004, "0 ms"),
            (0.0853, "85 ms"),
            (0.9996, "1.0 s"),
            (3.21, "3.2 s"),
            (12.4, "12 s"),
            (150.0, "2 min 30 s"),
            (7320.0, "2 h 2 min"),
        ] {
            assert_eq!(show(seconds), text, "{seconds}");
        }
    }
}
