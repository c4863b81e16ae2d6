//! Licence expressions as package manifests have them (SPDX).

/// Whether `expression` can be satisfied with the `allowed` licences alone. What cannot be read is
/// not allowed.
pub(super) fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // Old manifests separate alternatives with a slash.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        words: &words,
        allowed,
    };
    parser.alternatives() == Some(true) && parser.words.is_empty()
}

struct Parser<'text> {
    words: &'text [&'text str],
    allowed: &'text [String],
}

// === impl Parser ===

impl Parser<'_> {
    fn accept(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((&first, rest)) if first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn next(&mut self) -> Option<&str> {
        let (&first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn alternatives(&mut self) -> Option<bool> {
        let mut satisfied = self.conjunction()?;
        while self.accept("OR") {
            satisfied |= self.conjunction()?;
        }
        Some(satisfied)
    }

    fn conjunction(&mut self) -> Option<bool> {
        let mut satisfied = self.licence()?;
        while self.accept("AND") {
            satisfied &= self.licence()?;
        }
        Some(satisfied)
    }

    fn licence(&mut self) -> Option<bool> {
        if self.accept("(") {
            let satisfied = self.alternatives()?;
            return self.accept(")").then_some(satisfied);
        }
        let mut name = self.next()?.to_owned();
        if self.accept("WITH") {
            name = format!("{name} WITH {}", self.next()?);
        }
        Some(self.allowed.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> bool {
        is_allowed(
            expression,
            &["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned),
        )
    }

    #[test]
    fn one_allowed_alternative_is_enough() {
        assert!(allowed("MIT"));
        assert!(allowed("GPL-2.0-only OR MIT"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(!allowed("Apache-2.0 OR GPL-2.0-only"));
    }

    #[test]
    fn every_part_of_a_conjunction_is_needed() {
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!allowed("MIT AND Apache-2.0"));
    }

    #[test]
    fn exception_is_part_of_the_name() {
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(!allowed("MIT WITH LLVM-exception"));
    }

    #[test]
    fn unreadable_expressions_are_not_allowed() {
        for expression in ["", "OR", "MIT OR", "(MIT", "MIT MIT", "MIT)"] {
            assert!(!allowed(expression), "{expression}");
        }
    }
}
