//! What was measured, as people and programs read it.

use serde_json::{Value, json};

use super::statistics::Summary;

/// What a figure should keep to. Missing it is told, and fails nothing: machines differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// Inside minus outside, in the figure's unit.
    DifferenceAtMost(f64),
    /// Inside by outside.
    RatioAtMost(f64),
    /// Inside by outside, where more is better.
    RatioAtLeast(f64),
    /// The figure itself.
    Below(f64),
    /// The figure itself, which is a count of what must not happen.
    None,
    /// The figure itself, or inside by outside: whichever is less.
    AtLeastOrRatio(f64, f64),
    /// The figure itself, on machines that come to it outside.
    AtLeastWherePossible(f64),
}

/// One measured figure.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: &'static str,
    /// Of the value, the baseline, and their difference.
    pub(crate) unit: &'static str,
    /// In a sandbox.
    pub(crate) value: Summary,
    /// The same without clawd; `None` where there is no such thing.
    pub(crate) baseline: Option<Summary>,
    /// `None` where nothing is promised.
    pub(crate) bound: Option<Bound>,
}

const HEADINGS: [&str; 9] = [
    "name",
    "unit",
    "inside",
    "outside",
    "difference",
    "ratio",
    "bound",
    "result",
    "quartiles inside | outside",
];

// === impl Bound ===

impl Bound {
    /// Whether `row` keeps to it; what was not compared does not.
    fn is_met_by(self, row: &Row) -> bool {
        match self {
            Self::DifferenceAtMost(limit) => row.difference().is_some_and(|value| value <= limit),
            Self::RatioAtMost(limit) => row.ratio().is_some_and(|value| value <= limit),
            Self::RatioAtLeast(limit) => row.ratio().is_some_and(|value| value >= limit),
            Self::Below(limit) => row.value.median < limit,
            Self::None => row.value.median <= 0.0,
            Self::AtLeastOrRatio(limit, ratio) => {
                row.value.median >= limit || row.ratio().is_some_and(|value| value >= ratio)
            }
            Self::AtLeastWherePossible(limit) => row.value.median >= limit,
        }
    }

    fn result(self, row: &Row) -> &'static str {
        match self {
            _ if self.is_met_by(row) => "met",
            Self::AtLeastWherePossible(limit) if !row.baseline_reaches(limit) => {
                "machine too slow outside"
            }
            _ => "MISSED",
        }
    }

    fn shown(self, unit: &str) -> String {
        match self {
            Self::DifferenceAtMost(limit) => format!("at most +{limit} {unit}"),
            Self::RatioAtMost(limit) => format!("ratio at most {limit}"),
            Self::RatioAtLeast(limit) => format!("ratio at least {limit}"),
            Self::Below(limit) => format!("below {limit} {unit}"),
            Self::None => "none".to_owned(),
            Self::AtLeastOrRatio(limit, ratio) => format!("at least {limit} {unit} or {ratio}"),
            Self::AtLeastWherePossible(limit) => format!("at least {limit} {unit}"),
        }
    }
}

// === impl Row ===

impl Row {
    fn difference(&self) -> Option<f64> {
        Some(self.value.median - self.baseline?.median)
    }

    /// `None` also where the baseline is nothing.
    fn ratio(&self) -> Option<f64> {
        let baseline = self.baseline?.median;
        (baseline != 0.0).then(|| self.value.median / baseline)
    }

    fn baseline_reaches(&self, limit: f64) -> bool {
        self.baseline
            .is_some_and(|baseline| baseline.median >= limit)
    }

    /// `{"name", "value", "unit", "baseline", "ratio", "bound", "result"}`; null for what there is not.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "value": rounded(self.value.median),
            "unit": self.unit,
            "baseline": self.baseline.map(|summary| rounded(summary.median)),
            "ratio": self.ratio().map(rounded),
            "bound": self.bound.map(|bound| bound.shown(self.unit)),
            "result": self.bound.map(|bound| bound.result(self)),
        })
    }

    fn cells(&self) -> [String; 9] {
        let quartiles = |summary: Summary| {
            format!(
                "{} to {}",
                significant(summary.lower_quartile),
                significant(summary.upper_quartile)
            )
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let spread = match self.baseline {
            Some(baseline) => format!("{} | {}", quartiles(self.value), quartiles(baseline)),
            None => quartiles(self.value),
        };
        [
            self.name.to_owned(),
            self.unit.to_owned(),
            significant(self.value.median),
            or_dash(self.baseline.map(|summary| significant(summary.median))),
            or_dash(self.difference().map(|value| {
                format!(
                    "{}{}",
                    if value < 0.0 { "" } else { "+" },
                    significant(value)
                )
            })),
            or_dash(self.ratio().map(|value| format!("{value:.3}"))),
            or_dash(self.bound.map(|bound| bound.shown(self.unit))),
            or_dash(self.bound.map(|bound| bound.result(self).to_owned())),
            spread,
        ]
    }
}

/// Three decimals: no figure here is known better.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Three significant digits, or all before the point.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        below if below < 10.0 => 2,
        below if below < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// All rows under their headings, in columns.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [0_usize; 9];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64, baseline: Option<f64>, bound: Option<Bound>) -> Row {
        let summary = |median: f64| Summary {
            lower_quartile: median - 0.5,
            median,
            upper_quartile: median + 0.5,
        };
        Row {
            name: "tcp",
            unit: "us",
            value: summary(value),
            baseline: baseline.map(summary),
            bound,
        }
    }

    #[test]
    fn bounds_hold_up_to_their_limit() {
        for (value, baseline, bound, met) in [
            (12.0, Some(10.0), Bound::DifferenceAtMost(2.0), true),
            (12.5, Some(10.0), Bound::DifferenceAtMost(2.0), false),
            (12.0, None, Bound::DifferenceAtMost(2.0), false),
            (15.0, Some(10.0), Bound::RatioAtMost(1.5), true),
            (15.1, Some(10.0), Bound::RatioAtMost(1.5), false),
            (9.0, Some(10.0), Bound::RatioAtLeast(0.9), true),
            (8.9, Some(10.0), Bound::RatioAtLeast(0.9), false),
            (8.9, Some(0.0), Bound::RatioAtLeast(0.9), false),
            (29.9, None, Bound::Below(30.0), true),
            (30.0, None, Bound::Below(30.0), false),
            (0.0, None, Bound::None, true),
            (1.0, None, Bound::None, false),
            (1.5, Some(9.0), Bound::AtLeastOrRatio(1.5, 0.85), true),
            (0.9, Some(1.0), Bound::AtLeastOrRatio(1.5, 0.85), true),
            (1.4, Some(9.0), Bound::AtLeastOrRatio(1.5, 0.85), false),
            (10.0, Some(12.0), Bound::AtLeastWherePossible(10.0), true),
            (9.0, Some(12.0), Bound::AtLeastWherePossible(10.0), false),
        ] {
            let row = row(value, baseline, Some(bound));
            assert_eq!(bound.is_met_by(&row), met, "{row:?}");
        }
    }

    #[test]
    fn bound_that_the_machine_cannot_reach_is_told_from_one_that_was_missed() {
        let bound = Bound::AtLeastWherePossible(10.0);
        assert_eq!(bound.result(&row(11.0, Some(12.0), None)), "met");
        assert_eq!(bound.result(&row(7.0, Some(12.0), None)), "MISSED");
        assert_eq!(
            bound.result(&row(7.0, Some(8.0), None)),
            "machine too slow outside"
        );
    }

    #[test]
    fn json_has_the_documented_fields_and_null_for_what_is_not_there() {
        assert_eq!(
            row(3.0, Some(2.0), None).to_json(),
            json!({"name": "tcp", "value": 3.0, "unit": "us", "baseline": 2.0, "ratio": 1.5,
                "bound": null, "result": null})
        );
        assert_eq!(
            row(1.23456, None, Some(Bound::Below(1.0))).to_json(),
            json!({"name": "tcp", "value": 1.235, "unit": "us", "baseline": null, "ratio": null,
                "bound": "below 1 us", "result": "MISSED"})
        );
    }

    #[test]
    fn table_says_which_bound_was_missed() {
        let rows = [
            row(12.0, Some(10.0), Some(Bound::RatioAtMost(1.05))),
            row(9.0, Some(10.0), Some(Bound::DifferenceAtMost(1.0))),
            row(250.0, None, None),
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("name  unit  inside"), "{text}");
        assert!(
            lines[1].contains("+2.00") && lines[1].contains("1.200") && lines[1].contains("MISSED"),
            "{text}"
        );
        assert!(
            lines[2].contains("-1.00")
                && lines[2].contains("at most +1 us")
                && lines[2].contains(" met "),
            "{text}"
        );
        assert!(
            lines[3].contains("250") && !lines[3].contains("met"),
            "{text}"
        );
    }
}
