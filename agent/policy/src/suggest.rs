//! Guesses which word was meant by one that is not known.

/// Longer words are not guessed at: the work grows with the square of the length.
const MAX_GUESSED_BYTES: usize = 64;

/// The candidate nearest to `word`, if it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > MAX_GUESSED_BYTES {
        return None;
    }
    // One slip in a short word, two in a longer one; more would make any word like any other.
    let slips = if word.len() <= 4 { 1 } else { 2 };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= slips)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, blind to case and to `-` for `_`.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        text.chars()
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let (a, b) = (fold(a), fold(b));
    // row[j]: distance of the part of `a` read so far to the first j characters of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = i + 1;
        next.push(left);
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { break };
            left = (diagonal + usize::from(x != y))
                .min(above + 1)
                .min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_slips() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("read-only", "READ_ONLY"), 0);
    }

    #[test]
    fn nearest_is_near() {
        let keys = ["host", "cidr", "port", "ports"];
        assert_eq!(nearest("hots", keys), None);
        assert_eq!(nearest("hosts", keys), Some("host"));
        assert_eq!(nearest("prt", keys), Some("port"));
        assert_eq!(nearest("address", keys), None);
        assert_eq!(nearest(&"x".repeat(100_000), keys), None);
    }
}
