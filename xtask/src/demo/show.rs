//! What was shown so far, printed as it comes: rows, then their audit records, then the failures.

use clawd_audit::{Activity, AuditRecord};

use super::judge::{Judged, is_about_network};
use super::table;

/// Rows by section, and what failed besides them.
#[derive(Default)]
pub(super) struct Show {
    rows: Vec<Judged>,
    /// What did not come out and belongs to no single row.
    failed_checks: Vec<String>,
    check_count: usize,
}

impl Show {
    pub(super) fn next_number(&self) -> usize {
        self.rows.len() + 1
    }

    /// Prints the heading of a section.
    pub(super) fn heading(&self, text: &str) {
        println!("\n{text}");
    }

    /// Prints and keeps a row.
    pub(super) fn row(&mut self, judged: Judged) {
        println!("{}", table::row(&judged));
        for complaint in &judged.complaints {
            println!("     {complaint}");
        }
        self.rows.push(judged);
    }

    /// Prints what was found besides the rows, and keeps it if it is a complaint.
    pub(super) fn check(&mut self, what: &str, complaints: Vec<String>) {
        self.check_count += 1;
        if complaints.is_empty() {
            println!("  ok {what}");
            return;
        }
        println!("  FAILED {what}");
        for complaint in complaints {
            println!("     {complaint}");
        }
        self.failed_checks.push(what.to_owned());
    }

    /// The rows from number `first` on.
    pub(super) fn rows_from(&self, first: usize) -> &[Judged] {
        self.rows.get(first.saturating_sub(1)..).unwrap_or_default()
    }

    /// Gives each row its audit record, and prints them. `records` are all of the log, in order;
    /// those of the sandbox `second` belong to the rows from `first_of_second` on.
    pub(super) fn audit(
        &mut self,
        records: Vec<AuditRecord>,
        second: &str,
        first_of_second: usize,
    ) {
        println!("\nThe audit records behind each row");
        let mut left = Vec::new();
        let (about_network, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(is_about_network);
        let (mut of_second, mut of_first): (Vec<_>, Vec<_>) = about_network
            .into_iter()
            .partition(|record| record.sandbox.as_deref() == Some(second));
        for judged in &mut self.rows {
            let before = judged.complaints.len();
            judged.take_record(if judged.number < first_of_second {
                &mut of_first
            } else {
                &mut of_second
            });
            println!("{}", table::audit(judged));
            for complaint in judged.complaints.iter().skip(before) {
                println!("     FAILED: {complaint}");
            }
        }
        left.append(&mut of_first);
        left.append(&mut of_second);
        println!("\nThe audit records of clawd and its sandboxes");
        for record in others
            .iter()
            .filter(|record| record.activity != Activity::Exec)
        {
            println!("     {}", table::summary(record));
        }
        let count = others.len().saturating_add(self.rows.len());
        let left: Vec<String> = left
            .iter()
            .map(|record| format!("no row explains {}", table::summary(record)))
            .collect();
        println!();
        self.check(
            &format!("every row has its record, and no other attempt is among the {count} records"),
            left,
        );
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failed_checks.is_empty() || self.rows.iter().any(Judged::has_failed)
    }

    /// Prints which rows failed, or that none did.
    pub(super) fn summarise(&self) {
        let failed: Vec<&Judged> = self.rows.iter().filter(|row| row.has_failed()).collect();
        println!();
        for row in &failed {
            println!("FAILED row {}, {}", row.number, row.row.title);
            for complaint in &row.complaints {
                println!("     {complaint}");
            }
        }
        for what in &self.failed_checks {
            println!("FAILED {what}");
        }
        if self.has_failed() {
            println!(
                "Not all came out as the policy says: {} of {} rows and {} other checks failed.",
                failed.len(),
                self.rows.len(),
                self.failed_checks.len()
            );
        } else {
            println!(
                "All {} rows and {} checks came out as the policy says.",
                self.rows.len(),
                self.check_count
            );
        }
    }
}
