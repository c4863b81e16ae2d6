//! What is said of many samples: the middle, with its spread.

/// The middle half of samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// A quarter of the samples is below.
    pub(crate) lower_quartile: f64,
    /// Half of them.
    pub(crate) median: f64,
    /// A quarter is above.
    pub(crate) upper_quartile: f64,
}

// === impl Summary ===

impl Summary {
    /// Of samples in any order; `None` without any. Between two samples it interpolates.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            lower_quartile: quartile(&sorted, 1)?,
            median: quartile(&sorted, 2)?,
            upper_quartile: quartile(&sorted, 3)?,
        })
    }
}

/// The value below which `quarters` quarters of the sorted samples are.
fn quartile(sorted: &[f64], quarters: usize) -> Option<f64> {
    let position = sorted.len().checked_sub(1)? * quarters;
    let (index, rest) = (position / 4, position % 4);
    let below = sorted.get(index)?;
    let above = sorted.get(index + usize::from(rest > 0))?;
    let weight = [0.0, 0.25, 0.5, 0.75].get(rest)?;
    Some(below + (above - below) * weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_samples_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn one_sample_is_all_three() {
        let summary = Summary::of(&[3.5]).unwrap();
        assert_eq!(
            [
                summary.lower_quartile,
                summary.median,
                summary.upper_quartile
            ],
            [3.5; 3]
        );
    }

    #[test]
    fn order_does_not_matter_and_one_outlier_does_not_move_the_median() {
        let summary = Summary::of(&[5.0, 1.0, 1e9, 4.0, 2.0]).unwrap();
        assert_eq!(
            summary,
            Summary {
                lower_quartile: 2.0,
                median: 4.0,
                upper_quartile: 5.0
            }
        );
    }

    #[test]
    fn even_counts_are_interpolated() {
        let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(
            summary,
            Summary {
                lower_quartile: 1.75,
                median: 2.5,
                upper_quartile: 3.25
            }
        );
    }
}
