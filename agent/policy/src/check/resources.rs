//! What a sandbox may use up: numbers, sizes and shares of CPUs, each in its only spelling.

use std::ops::RangeInclusive;

use crate::{
    escape::quoted,
    fields::{At, Field},
    file::ProcessFile,
    limits::{CPU_MAX_PERCENT, FSIZE_MAX_BYTES, MEMORY_MAX_BYTES, NOFILE_MAX, PIDS_MAX},
    model::ResourceLimits,
    node::Scalar,
    problem::Problems,
};

/// How a value is written.
struct Form {
    /// From text to number; `None` if the text is not in this form or too large for it.
    read: fn(&str) -> Option<u64>,
    /// A number in this form, for messages.
    show: fn(u64) -> String,
    /// What to write, without the range.
    help: &'static str,
}

const COUNT: Form = Form {
    read: count,
    show: |value| value.to_string(),
    help: "write a decimal number without sign, point or leading zeros",
};
const SIZE: Form = Form {
    read: size,
    show: shown_size,
    help: "write bytes as a decimal number, or with a unit right behind it: KiB, MiB, GiB or TiB, as in 512MiB",
};
const CPUS: Form = Form {
    read: cpus,
    show: |value| format!("{}.{:02}", value / 100, value % 100),
    help: "write a number of CPUs with at most two digits behind the point, as in 2 or 0.5",
};

/// Units of a size, by the power of two that they stand for.
const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// The limits of `process`.
pub(super) fn resources(file: &ProcessFile, problems: &mut Problems) -> ResourceLimits {
    let mut value = |field: &Field<Scalar>, key, form: &Form, range: RangeInclusive<u64>| {
        let Field::Given(given) = field else {
            return None;
        };
        checked(given, key, form, &range, problems)
    };
    // Every range ends far below what the narrower type holds.
    let narrow = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    ResourceLimits {
        pids_max: narrow(value(&file.pids_max, "pids_max", &COUNT, PIDS_MAX)),
        memory_max_bytes: value(&file.memory_max, "memory_max", &SIZE, MEMORY_MAX_BYTES),
        cpu_max_percent: narrow(value(&file.cpu_max, "cpu_max", &CPUS, CPU_MAX_PERCENT)),
        nofile_max: narrow(value(&file.nofile_max, "nofile_max", &COUNT, NOFILE_MAX)),
        fsize_max_bytes: value(&file.fsize_max, "fsize_max", &SIZE, FSIZE_MAX_BYTES),
    }
}

fn checked(
    given: &At<Scalar>,
    key: &str,
    form: &Form,
    range: &RangeInclusive<u64>,
    problems: &mut Problems,
) -> Option<u64> {
    let text = given.value.text.as_str();
    let (message, help) = match (form.read)(text) {
        Some(value) if range.contains(&value) => return Some(value),
        Some(_) => (
            format!("`{key}` cannot be {}", quoted(text)),
            format!(
                "it is from {} to {}",
                (form.show)(*range.start()),
                (form.show)(*range.end())
            ),
        ),
        None => (
            format!("{} is no value of `{key}`", quoted(text)),
            form.help.to_owned(),
        ),
    };
    problems.value(given.at, message, help);
    None
}

fn count(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    if !plain || padded {
        return None;
    }
    text.parse().ok()
}

fn size(text: &str) -> Option<u64> {
    let unit = |(unit, power): &(&str, u32)| Some((text.strip_suffix(unit)?, *power));
    let (number, power) = UNITS.iter().find_map(unit).unwrap_or((text, 0));
    count(number)?.checked_mul(1 << power)
}

/// The largest unit that says it exactly.
fn shown_size(bytes: u64) -> String {
    let fits = |(_, power): &&(&str, u32)| bytes.is_multiple_of(1 << *power) && bytes > 0;
    match UNITS.iter().rev().find(fits) {
        Some((unit, power)) => format!("{}{unit}", bytes >> power),
        None => bytes.to_string(),
    }
}

fn cpus(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part = match (part.len(), part.bytes().all(|byte| byte.is_ascii_digit())) {
        (1, true) => part.parse::<u64>().ok()? * 10,
        (2, true) => part.parse().ok()?,
        _ => return None,
    };
    count(whole)?.checked_mul(100)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::{count, cpus, shown_size, size};

    #[test]
    fn count_has_one_spelling() {
        assert_eq!((count("0"), count("4096")), (Some(0), Some(4096)));
        for text in [
            "",
            "-1",
            "+1",
            "1.0",
            "01",
            "1_0",
            "0x10",
            "1e3",
            " 1",
            "99999999999999999999",
        ] {
            assert_eq!(count(text), None, "{text:?}");
        }
    }

    #[test]
    fn size_takes_bytes_and_units_of_1024() {
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("64KiB"), Some(64 << 10));
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("4GiB"), Some(4 << 30));
        assert_eq!(size("1TiB"), Some(1 << 40));
        for text in [
            "",
            "GiB",
            "4G",
            "4GB",
            "4gib",
            "4 GiB",
            "1.5GiB",
            "-1GiB",
            "04GiB",
            "4GiBGiB",
            "4KiB1",
            "18446744073709551615KiB",
            "max",
        ] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn size_shown_reads_back() {
        for bytes in [1, 4096, 5000, 16 << 20, 1 << 50, u64::MAX] {
            assert_eq!(size(&shown_size(bytes)), Some(bytes));
        }
        assert_eq!(shown_size(1 << 50), "1024TiB");
    }

    #[test]
    fn cpus_have_two_digits_behind_the_point() {
        for (text, want) in [
            ("2", 200),
            ("2.0", 200),
            ("0.5", 50),
            ("0.05", 5),
            ("1.25", 125),
        ] {
            assert_eq!(cpus(text), Some(want), "{text}");
        }
        for text in [
            "", ".", ".5", "2.", "1.250", "-1", "1,5", "1.5.0", "02.5", "1e2", "0.x5",
        ] {
            assert_eq!(cpus(text), None, "{text:?}");
        }
    }
}
