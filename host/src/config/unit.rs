//! Durations and sizes, which the config writes as strings with a unit.

use std::time::Duration;

/// A whole number of `ms`, `s`, `m` or `h`, such as `250ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text, "a duration such as `250ms` or `5s`")?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!("`{unit}` is no unit of time: use `ms`, `s`, `m` or `h`"));
        }
    };
    // Timers add durations to the clock: beyond a century the sum could overflow.
    let longest = 100 * 365 * 24 * 3_600_000;
    let total = number.checked_mul(milliseconds).filter(|total| *total <= longest);
    total.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is longer than 100 years"))
}

/// A whole number of `B`, `KB`, `MB`, `GB` (powers of 1000) or `KiB`, `MiB`, `GiB` (powers of 1024), in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text, "a size such as `64KiB` or `10MB`")?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            let known = "`B`, `KB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`";
            return Err(format!("`{unit}` is no unit of size: use {known}"));
        }
    };
    number.checked_mul(bytes).ok_or_else(|| format!("`{text}` is more than 64 bits can count"))
}

/// A size as the config writes it.
pub fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
    let fits = |(unit, _): &(u64, &str)| bytes.is_multiple_of(*unit);
    let (unit, name) = units.into_iter().find(fits).unwrap_or((1, "B"));
    format!("{}{name}", bytes / unit)
}

fn split<'a>(text: &'a str, expected: &str) -> Result<(u64, &'a str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() || unit.is_empty() {
        return Err(format!("expected {expected}, found {text:?}"));
    }
    let number = number.parse().map_err(|_| format!("`{number}` is more than 64 bits can count"))?;
    Ok((number, unit))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, show_size, size};

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("250ms", 250), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 s",
            "5S",
            "5sec",
            "1d",
            " 5s",
            "99999999999999999999s",
            "18446744073709551615h",
            "900000h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(std::time::Instant::now().checked_add(duration("876000h").expect("a century")).is_some());
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("512B", 512), ("10MB", 10_000_000), ("64KiB", 65_536), ("1GiB", 1 << 30), ("0B", 0)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!([8 << 10, 65_534, 3 << 30].map(show_size), ["8KiB", "65534B", "3GiB"]);
        for text in ["", "64", "KiB", "64kib", "64K", "1.5MB", "-1B", "18446744073709551615GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
