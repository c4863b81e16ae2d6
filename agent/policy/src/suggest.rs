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

/// Slips from one word to the other: letters added, left out, changed or swapped with the next.
/// Blind to case and to `-` for `_`.
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
    // rows[i][j]: distance of the first i characters of `a` to the first j of `b`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let at = |rows: &[Vec<usize>], i: usize, j: usize| -> usize {
        let cell = rows.get(i).and_then(|row| row.get(j));
        cell.copied().unwrap_or(usize::MAX / 2) // unreached, and no sum of it overflows
    };
    for (i, x) in a.iter().enumerate() {
        rows.push(vec![i + 1]);
        for (j, y) in b.iter().enumerate() {
            let changed = at(&rows, i, j) + usize::from(x != y);
            let mut least = changed
                .min(at(&rows, i, j + 1) + 1)
                .min(at(&rows, i + 1, j) + 1);
            if let (Some(i), Some(j)) = (i.checked_sub(1), j.checked_sub(1))
                && a.get(i) == Some(y)
                && b.get(j) == Some(x)
            {
                least = least.min(at(&rows, i, j) + 1);
            }
            if let Some(row) = rows.last_mut() {
                row.push(least);
            }
        }
    }
    at(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_slips() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("read-only", "READ_ONLY"), 0);
    }

    #[test]
    fn nearest_is_near() {
        let keys = ["host", "cidr", "port", "ports"];
        assert_eq!(nearest("hots", keys), Some("host"));
        assert_eq!(nearest("hosts", keys), Some("host"));
        assert_eq!(nearest("prt", keys), Some("port"));
        assert_eq!(nearest("address", keys), None);
        assert_eq!(nearest(&"x".repeat(100_000), keys), None);
    }
}
