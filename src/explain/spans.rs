//! Spans of time for people: the two largest units.

use core::time::Duration;

const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];

/// `845 ms`, `1.500 s`, `6 min 52 s`, `69 d 11 h`.
#[must_use]
pub fn shown_span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span.is_zero() => "0 s".to_owned(),
        0 if span < Duration::from_millis(1) => format!("{} µs", span.as_micros()),
        0 => format!("{} ms", span.as_millis()),
        1..60 if span.subsec_millis() > 0 => format!("{:.3} s", span.as_secs_f64()),
        1..60 => format!("{seconds} s"),
        _ => {
            let first = UNITS.iter().position(|(_, unit)| seconds >= *unit).unwrap_or_default();
            let mut rest = seconds;
            let mut words = Vec::new();
            for (name, unit) in UNITS.iter().skip(first).take(2) {
                if rest / unit > 0 {
                    words.push(format!("{} {name}", rest / unit));
                }
                rest %= unit;
            }
            words.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_for_people() {
        for (millis, text) in [
            (0, "0 s"),
            (845, "845 ms"),
            (1500, "1.500 s"),
            (59_000, "59 s"),
            (300_000, "5 min"),
            (412_900, "6 min 52 s"),
            (78_448_000, "21 h 47 min"),
            (6_004_633_541, "69 d 11 h"),
            (3_600_000, "1 h"),
        ] {
            assert_eq!(shown_span(Duration::from_millis(millis)), text);
        }
        assert_eq!(shown_span(Duration::from_micros(12)), "12 µs");
    }
}
