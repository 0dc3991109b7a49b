/// A moment in nanoseconds since 1970: seconds with a fraction, or a date and time in UTC as data sets write them
/// (`2017-07-07 19:02:39.182486`, `2011/08/10 09:46:53.047277`, `03/07/2017 08:55:58`, `7/7/2017 3:30 PM`).
pub(super) fn nanos(text: &str) -> Option<i64> {
    span(text).or_else(|| date_time(text))
}

/// Seconds with a fraction, as nanoseconds.
pub(super) fn span(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    Some(
        sign * whole
            .checked_mul(1_000_000_000)?
            .checked_add(nano_digits(fraction)?)?,
    )
}

fn nano_digits(fraction: &str) -> Option<i64> {
    if !fraction.chars().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    digits.parse().ok()
}

fn date_time(text: &str) -> Option<i64> {
    let mut parts = text.split([' ', 'T']).filter(|part| !part.is_empty());
    let (date, time) = (parts.next()?, parts.next()?);
    let afternoon = parts.next().map(|half| half.eq_ignore_ascii_case("pm"));
    let numbers = |text: &str, separator: [char; 2]| -> Option<Vec<i64>> {
        text.split(separator)
            .map(|part| part.parse().ok())
            .collect()
    };
    let date = numbers(date, ['-', '/'])?;
    let [one, two, three] = date.as_slice() else {
        return None;
    };
    // A year first, or a day first: CICFlowMeter's files are Canadian, day before month.
    let (year, month, day) = if *one > 31 {
        (*one, *two, *three)
    } else {
        (*three, *two, *one)
    };
    let (time, fraction) = time
        .trim_end_matches('Z')
        .split_once('.')
        .unwrap_or((time.trim_end_matches('Z'), ""));
    let time = numbers(time, [':', ':'])?;
    let (hour, minute) = (*time.first()?, *time.get(1)?);
    let second = time.get(2).copied().unwrap_or(0);
    let hour = match afternoon {
        Some(true) if hour < 12 => hour + 12,
        Some(false) if hour == 12 => 0,
        _ => hour,
    };
    let sound =
        (1970..2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let in_day = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    if !sound || !in_day {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000_000 + nano_digits(fraction)?)
}

/// Days from 1970 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = (year % 400) * 365 + (year % 400) / 4 - (year % 400) / 100 + of_year;
    (year / 400) * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_write_a_time() {
        let moment = 1_499_454_159_182_486_000;
        for text in [
            "1499454159.182486",
            "2017-07-07 19:02:39.182486",
            "2017/07/07 19:02:39.182486",
            "2017-07-07T19:02:39.182486Z",
        ] {
            assert_eq!(nanos(text), Some(moment), "{text}");
        }
        assert_eq!(
            nanos("03/07/2017 08:55:58"),
            Some(1_499_072_158_000_000_000)
        );
        assert_eq!(nanos("7/7/2017 3:30 PM"), Some(1_499_441_400_000_000_000));
        assert_eq!(nanos("29/02/2000 00:00:00"), Some(951_782_400_000_000_000));
        for text in ["", "yesterday", "2017-13-01 00:00:00", "1e9", "2017-07-07"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
