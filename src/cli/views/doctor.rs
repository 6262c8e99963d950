//! What is wrong, worst first: one line per finding.

use jiff::Timestamp;

use super::ago;
use crate::cli::{doctor::Finding, output::Table};

/// One row per finding.
#[must_use]
pub fn table(findings: &[Finding], wide: bool, now: Timestamp) -> Table {
    let mut header = vec!["SEVERITY", "OBJECT", "WHAT", "FIX"];
    if wide {
        header.extend(["REASON", "FOR"]);
    }
    let mut table = Table::new(&header);
    for finding in findings {
        let mut row = vec![
            finding.severity.as_str().to_owned(),
            finding.object.clone(),
            finding.what.clone(),
            finding.fix.clone(),
        ];
        if wide {
            row.push(finding.reason.clone());
            row.push(ago(finding.since.as_ref(), now));
        }
        table.row(row);
    }
    table
}
