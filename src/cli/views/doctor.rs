//! What is wrong, worst first.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::ago;
use crate::cli::{
    doctor::Finding,
    output::{Table, one_line, wrap},
};

/// Each finding with what is wrong and what to do below it, in lines of at most `width` characters. A command stays on its
/// line whatever its length, so that it can be copied.
#[must_use]
pub fn screen(findings: &[Finding], width: usize, now: Timestamp) -> String {
    const INDENT: &str = "  ";
    let mut heads = Table::new(&["SEVERITY", "OBJECT", "REASON", "FOR"]);
    for finding in findings {
        let (severity, since) = (finding.severity.as_str().to_owned(), ago(finding.since.as_ref(), now));
        heads.row([severity, finding.object.clone(), finding.reason.clone(), since]);
    }
    let heads = heads.render(0);
    let mut heads = heads.lines();
    let mut text = format!("{}\n", heads.next().unwrap_or_default());
    for (head, finding) in heads.zip(findings) {
        let _ = writeln!(text, "{head}");
        for part in [finding.what.clone(), format!("-> {}", finding.fix)] {
            for line in wrap(&one_line(&part), width.saturating_sub(INDENT.len())) {
                let _ = writeln!(text, "{INDENT}{line}");
            }
        }
    }
    text
}

/// One row per finding, for programs that look for lines. What is wrong and what to do stand last, as long as they are, and
/// make no other line longer.
#[must_use]
pub fn table(findings: &[Finding], wide: bool, now: Timestamp) -> Table {
    let mut header = vec!["SEVERITY", "OBJECT"];
    if wide {
        header.extend(["REASON", "FOR"]);
    }
    header.push("WHAT -> FIX");
    let mut table = Table::new(&header);
    for finding in findings {
        let mut row = vec![finding.severity.as_str().to_owned(), finding.object.clone()];
        if wide {
            row.extend([finding.reason.clone(), ago(finding.since.as_ref(), now)]);
        }
        row.push(format!("{} -> {}", finding.what, finding.fix));
        table.row(row);
    }
    table
}
