//! What the documentation names exists.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::source::{files, root};

/// Tests and files that are named as proofs in the last cells of these rows, and do not exist.
fn lacking<'a>(rows: impl Iterator<Item = &'a str>) -> (usize, Vec<&'a str>) {
    let code: String =
        files("src", "rs").into_iter().chain(files("tests", "rs")).map(|(_, text)| text).collect();
    let proofs = rows.filter_map(|line| line.rsplit('|').nth(1));
    let mut named = 0;
    let mut lacking = Vec::new();
    for name in proofs.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        named += 1;
        let exists = if name.contains('/') {
            let folder = name.split('*').next().unwrap_or(name).trim_end_matches('/');
            root().join(folder).exists() || !files(folder, "rs").is_empty()
        } else {
            code.contains(&format!("fn {name}("))
        };
        if !exists {
            lacking.push(name);
        }
    }
    (named, lacking)
}

#[test]
fn what_parity_names_exists() {
    let page = fs::read_to_string(root().join("tests/PARITY.md")).unwrap();
    let (named, lacking) = lacking(page.lines().filter(|line| line.starts_with("| ☑")));
    assert!(named > 30, "only {named} proofs");
    assert_eq!(lacking, Vec::<&str>::new(), "tests/PARITY.md names tests that are not there");
}

#[test]
fn every_claim_about_security_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let is_claim =
        |line: &&str| line.starts_with("| ") && !line.starts_with("| claim") && !line.starts_with("| who");
    let claims: Vec<&str> = page.lines().filter(is_claim).collect();
    let unproved: Vec<&&str> = claims.iter().filter(|row| lacking(std::iter::once(**row)).0 == 0).collect();
    assert_eq!(unproved, Vec::<&&str>::new(), "claims without a proof in their last cell");
    let (named, lacking) = lacking(claims.into_iter());
    assert!(named > 15, "only {named} proofs");
    assert_eq!(lacking, Vec::<&str>::new(), "docs/security.md names tests that are not there");
}

/// The headings of docs/upstream.md that a text cites as `upstream: One, Another`.
fn cited(text: &str) -> Vec<&str> {
    let each = text.split("upstream: ").skip(1).filter_map(|rest| rest.split([')', '\n', ';']).next());
    each.flat_map(|heads| heads.split(", ")).collect()
}

#[test]
fn what_is_relied_on_of_upstream_is_written_down() {
    let page = fs::read_to_string(root().join("docs/upstream.md")).unwrap();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let texts: Vec<String> = files("src", "rs").into_iter().map(|(_, text)| text).collect();
    let cited: Vec<&str> = texts.iter().flat_map(|text| cited(text)).collect();
    let lacking: Vec<&&str> = cited.iter().filter(|head| !headings.contains(*head)).collect();
    assert_eq!(lacking, Vec::<&&str>::new(), "docs/upstream.md has no such heading");
    assert!(cited.len() > 50, "only {} citations", cited.len());
    let unused: Vec<&&str> = headings.iter().filter(|head| !cited.contains(*head)).collect();
    assert_eq!(unused, Vec::<&&str>::new(), "nothing relies on these");
}

/// The lines of every page that are no code, by the page's name.
fn prose() -> Vec<(String, Vec<String>)> {
    let of_root = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .map(|name| (name.to_owned(), fs::read_to_string(root().join(name)).unwrap()));
    let below = ["docs", "deploy", "kubeconfigs", "tests"].into_iter().flat_map(|folder| files(folder, "md"));
    let prose = |text: &str| {
        let mut is_code = false;
        let is_prose = |line: &&str| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        };
        text.lines().filter(is_prose).map(str::to_owned).collect()
    };
    of_root.into_iter().chain(below).map(|(name, text)| (name, prose(&text))).collect()
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_its_head() {
    let bars = |row: &str| row.replace("\\|", "").matches('|').count();
    let (mut rows, mut broken) = (0, Vec::new());
    for (page, lines) in prose() {
        for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| line.starts_with('|'))) {
            rows += 1;
            if bars(&pair[0]) != bars(&pair[1]) {
                broken.push(format!("{page}: {}", pair[1]));
            }
        }
    }
    assert!(rows > 400, "only {rows} rows");
    assert_eq!(broken, Vec::<String>::new());
}

/// The anchor of a heading, as it is made on GitHub.
pub fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_within_the_project_leads_somewhere() {
    let pages: BTreeMap<String, Vec<String>> = prose().into_iter().collect();
    let (mut links, mut dead) = (0, Vec::new());
    for (page, lines) in &pages {
        let targets =
            lines.iter().flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
        for link in targets.filter(|link| !link.contains("://")) {
            links += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let beside = Path::new(page).parent().unwrap().join(path);
            let file = if path.is_empty() { root().join(page) } else { root().join(beside) };
            let Ok(file) = file.canonicalize() else {
                dead.push(format!("{page}: {link}"));
                continue;
            };
            let name = file.strip_prefix(root().canonicalize().unwrap()).unwrap().display().to_string();
            let lines = pages.get(&name).into_iter().flatten();
            let mut headings =
                lines.filter_map(|line| line.strip_prefix('#')).map(|rest| rest.trim_start_matches('#'));
            if !heading.is_empty() && !headings.any(|line| anchor(line.trim()) == heading) {
                dead.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(links > 100, "only {links} links");
    assert_eq!(dead, Vec::<String>::new());
}

/// Longest line of a page that people read as text.
const WIDTH: usize = 120;

#[test]
fn lines_of_prose_have_120_characters_at_most() {
    // Entries of the changelog, decisions and the pages below other folders may be as wide as they were written.
    let is_held_to_it = |page: &str| {
        let name = page.strip_prefix("docs/").unwrap_or(page);
        !name.contains('/') && name != "CHANGELOG.md"
    };
    // Rows of tables, code and addresses cannot be broken.
    let is_whole = |line: &str| line.starts_with('|') || line.starts_with("    ") || line.contains("://");
    let (mut looked_at, mut wide) = (0, Vec::new());
    for (page, lines) in prose().into_iter().filter(|(page, _)| is_held_to_it(page)) {
        for line in lines.iter().filter(|line| !is_whole(line)) {
            looked_at += 1;
            if line.chars().count() > WIDTH {
                wide.push(format!("{page}: {line}"));
            }
        }
    }
    assert!(looked_at > 1000, "only {looked_at} lines");
    assert_eq!(wide, Vec::<String>::new());
}

#[test]
fn every_alert_leads_to_a_section_of_the_runbook_and_every_section_is_of_one() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (metrics, runbook) = (read("docs/metrics.md"), read("docs/runbook.md"));
    let rules = metrics.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let rules: Value = serde_saphyr::from_str(rules).unwrap();
    let rules =
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let mut alerts = Vec::new();
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap();
        let leads_to = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
        let wanted = format!("/docs/runbook.md#{}", anchor(alert));
        assert!(leads_to.ends_with(&wanted), "{alert}: runbook_url `{leads_to}` does not end with {wanted}");
        alerts.push(alert);
    }
    assert!(alerts.len() > 5, "{alerts:?}");
    let sections: Vec<&str> = runbook.split("\n## ").skip(1).collect();
    let titles: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    assert_eq!(titles, alerts, "sections of docs/runbook.md, and alerts of docs/metrics.md");
    for section in sections {
        for part in
            ["\n**It means:**", "\n**Look first:**", "\n**What to do", "\n**If nobody does anything:**"]
        {
            assert!(section.contains(part), "no {part} in {section}");
        }
    }
}

#[test]
fn every_test_program_is_run_by_make_test() {
    let run = fs::read_to_string(root().join("tests/run")).unwrap();
    let programs: Vec<String> = files("tests", "rs")
        .into_iter()
        .filter_map(|(name, _)| {
            let below = name.strip_prefix("tests/")?;
            match below.split_once('/') {
                Some((folder, "main.rs")) => Some(folder.to_owned()),
                Some(_) => None,
                None => below.strip_suffix(".rs").map(str::to_owned),
            }
        })
        .collect();
    assert!(programs.len() > 6, "{programs:?}");
    let words: Vec<&str> = run.split_whitespace().collect();
    let is_run = |name: &String| words.windows(2).any(|pair| *pair == ["--test", name.as_str()]);
    let forgotten: Vec<&String> = programs.iter().filter(|name| !is_run(name)).collect();
    assert_eq!(forgotten, Vec::<&String>::new());
}
