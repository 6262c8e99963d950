//! docs/reference/conditions.md, from the words of `api::condition` and `api::reason`; and that these are all words there are.

use std::{collections::BTreeSet, fmt::Write as _};

use medusa_fleet::api::{Reason, condition::TYPES, crds, reason::Explanation};

use super::wrap;
use crate::source::{Source, files, root, shipped};

const INTRODUCTION: [&str; 3] = [
    "Conditions, Events, the entries in a status and `kubectl medusa doctor` say why something is as it is in one word, the \
     same everywhere. Each word is a heading of this page, so that a link can lead to it: `conditions.md#timedout`. The message \
     beside the word says what it is about, and often what to do.",
    "What waits for a data plane may bear the reason of its DataPlane. A FleetRestoreJob and a FleetTask pass on the reasons of \
     the MedusaRestoreJobs and MedusaTasks that they made.",
    "`kubectl medusa doctor` lists everything that is wrong, with its reason. `kubectl describe` shows the conditions and \
     Events of one object.",
];

pub fn page() -> String {
    let mut page = "# Conditions and reasons\n".to_owned();
    for paragraph in INTRODUCTION {
        page.push('\n');
        page += &wrap("", "", paragraph);
    }
    page += "\n## Conditions\n\nWhat each type of condition says when it is `True`.\n";
    let kinds: BTreeSet<&str> = TYPES.iter().map(|(kind, ..)| *kind).collect();
    for kind in kinds {
        writeln!(page, "\n### {kind}\n\nHow it is used: {}.\n", linked(kind)).unwrap();
        for (_, name, says) in TYPES.iter().filter(|(of, ..)| *of == kind) {
            page += &wrap("- ", "  ", &format!("`{name}`: {says}"));
        }
    }
    page += "\n## Reasons\n";
    let mut reasons: Vec<&Explanation> = Reason::ALL.iter().collect();
    reasons.sort_by_key(|of| of.reason.as_str());
    for explanation in reasons {
        page += &section(explanation);
    }
    page
}

fn section(of: &Explanation) -> String {
    let kinds: Vec<String> = of.kinds.iter().map(|kind| linked(kind)).collect();
    let stands = if kinds.is_empty() {
        "Only `kubectl medusa doctor` says it.".to_owned()
    } else {
        format!("Stands on: {}.", kinds.join(", "))
    };
    let remedy = if of.remedy().trim_start().starts_with("Nothing to do") {
        of.remedy().to_owned()
    } else {
        format!("**What to do:** {}", of.remedy())
    };
    let paragraphs = [of.meaning(), remedy.as_str(), stands.as_str()].map(|text| wrap("", "", text));
    format!("\n### {}\n\n{}", of.reason, paragraphs.join("\n"))
}

/// The name of a kind, linked to its page if it has one.
fn linked(kind: &str) -> String {
    let file = format!("{}.md", kind.to_lowercase());
    let has_page = root().join("docs").join(&file).exists();
    if has_page { format!("[{kind}](../{file})") } else { kind.to_owned() }
}

/// Where reasons are given, and on which of these kinds at least one of them then stands.
const GIVEN: [(&str, &[&str]); 15] = [
    ("src/control_plane/registry/", &["DataPlane", "ClientConfig"]),
    ("src/control_plane/sources/", &["MedusaConfiguration", "K8ssandraCluster"]),
    ("src/control_plane/replication/", &["MedusaConfiguration", "K8ssandraCluster"]),
    ("src/control_plane/deployment/", &["FleetCluster", "K8ssandraCluster"]),
    ("src/control_plane/inventory/", &["FleetCluster", "FleetBackup"]),
    ("src/control_plane/runs/", &["FleetBackupJob", "FleetTask"]),
    ("src/control_plane/fanout/", &["FleetBackupJob"]),
    ("src/control_plane/tasks/", &["FleetTask"]),
    ("src/control_plane/schedules/", &["FleetBackupSchedule"]),
    ("src/control_plane/restores/", &["FleetRestoreJob"]),
    ("src/data_plane/configuration.rs", &["MedusaConfiguration"]),
    ("src/data_plane/backup/", &["MedusaBackupJob"]),
    ("src/data_plane/schedule/", &["MedusaBackupSchedule"]),
    ("src/data_plane/task/", &["MedusaTask"]),
    ("src/data_plane/restore/", &["MedusaRestoreJob"]),
];

/// The words after `Reason::` in a line.
fn reasons_in(line: &str) -> impl Iterator<Item = &'static Explanation> {
    let words = line.split("Reason::").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
    words.filter_map(|word| Reason::ALL.iter().find(|of| Some(of.reason.as_str()) == word))
}

#[test]
fn every_reason_is_explained_given_somewhere_and_stands_where_it_is_given() {
    let known: BTreeSet<String> = crds::all().unwrap().into_iter().map(|crd| crd.spec.names.kind).collect();
    let (mut given, mut wrong) = (BTreeSet::new(), Vec::new());
    for of in Reason::ALL {
        for text in [of.meaning().trim(), of.remedy().trim()] {
            if !text.ends_with('.') || text.contains("\n\n") {
                wrong.push(format!(
                    "{}: what it means, an empty line and what to do are sentences",
                    of.reason
                ));
            }
        }
        let strange = of.kinds.iter().filter(|kind| !known.contains(**kind) && **kind != "ClientConfig");
        wrong.extend(strange.map(|kind| format!("{}: there is no kind {kind}", of.reason)));
    }
    let sources = shipped();
    let empty =
        GIVEN.iter().filter(|(place, _)| !sources.iter().any(|source| source.name.starts_with(place)));
    wrong.extend(empty.map(|(place, _)| format!("there is nothing in {place}")));
    for source in sources.into_iter().filter(|source| !source.name.starts_with("src/api/reason/")) {
        let kinds = GIVEN.iter().find(|(place, _)| source.name.starts_with(place)).map(|(_, kinds)| *kinds);
        for (number, line) in &source.lines {
            for of in reasons_in(line) {
                given.insert(of.reason);
                // What is asked about was given elsewhere.
                let stands = kinds.is_none_or(|kinds| of.kinds.iter().any(|kind| kinds.contains(kind)));
                if !stands && !line.contains("matches!(") {
                    wrong
                        .push(format!("{}:{number}: {} stands on none of {kinds:?}", source.name, of.reason));
                }
            }
        }
    }
    let unused = Reason::ALL.iter().filter(|of| !given.contains(&of.reason));
    wrong.extend(unused.map(|of| format!("{} is never given", of.reason)));
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_reason_is_never_a_word_that_is_not_in_the_list() {
    let words = ["reason: \"", "reason: Some(\""];
    // What a view shows where there is no condition is no reason.
    let sources = shipped().into_iter().filter(|source| !source.name.starts_with("src/cli/views/"));
    let found: Vec<String> = sources.flat_map(|source| source.having(&words)).collect();
    assert_eq!(found, Vec::<String>::new(), "put it into `api::reason`");
}

/// Words such as `Ready` that are between quotes or backticks.
fn words_between(mark: char, text: &str) -> impl Iterator<Item = &str> {
    let is_word = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphabetic())
            && word.chars().any(|c| c.is_ascii_lowercase())
    };
    text.split(mark).skip(1).step_by(2).filter(is_word)
}

/// What else is between quotes in the files that set conditions: statuses, phases, a kind, actions of Events.
const NO_TYPES: [&str; 9] = [
    "True",
    "False",
    "Unknown",
    "InProgress",
    "Incomplete",
    "MedusaConfiguration",
    "CheckConfiguration",
    "Read",
    "Reconcile",
];

#[test]
fn every_type_of_condition_is_in_the_list_and_set_somewhere() {
    let is_set = |source: &Source| !source.having(&["set_condition("]).is_empty();
    let sources: Vec<_> =
        shipped().into_iter().filter(|source| source.name != "src/api/condition.rs").collect();
    let listed: BTreeSet<&str> = TYPES.iter().map(|(_, name, _)| *name).collect();
    let quoted = |source: &Source| -> BTreeSet<String> {
        source.lines.iter().flat_map(|(_, line)| words_between('"', line)).map(str::to_owned).collect()
    };
    let unknown: Vec<String> = sources
        .iter()
        .filter(|source| is_set(source))
        .flat_map(quoted)
        .filter(|word| !listed.contains(word.as_str()) && !NO_TYPES.contains(&word.as_str()))
        .collect();
    assert_eq!(unknown, Vec::<String>::new(), "say in `api::condition` what it says, or that it is no type");
    let all: BTreeSet<String> = sources.iter().flat_map(quoted).collect();
    let unused: Vec<&&str> = listed.iter().filter(|name| !all.contains(**name)).collect();
    assert_eq!(unused, Vec::<&&str>::new(), "nothing sets these");
}

#[test]
fn every_reason_in_a_table_of_the_pages_is_one() {
    let is_known = |word: &str| {
        Reason::of(word).is_some()
            || ["True", "False", "Unknown"].contains(&word)
            || TYPES.iter().any(|(_, name, _)| *name == word)
    };
    let (mut seen, mut unknown) = (0, Vec::new());
    for (page, text) in files("docs", "md") {
        let mut columns: Vec<usize> = Vec::new();
        let mut before = "";
        for line in text.lines() {
            let cells: Vec<&str> = line.split('|').collect();
            if !before.starts_with('|') {
                let is_of_reasons = |cell: &&str| {
                    let words = cell.trim();
                    words.contains(" because") || words.starts_with("reason") || words.ends_with(" reason")
                };
                let named = cells.iter().enumerate().filter(|(_, cell)| is_of_reasons(cell));
                columns = named.map(|(at, _)| at).collect();
            } else if line.starts_with('|') {
                for word in columns.iter().filter_map(|at| cells.get(*at)).flat_map(|c| words_between('`', c))
                {
                    seen += 1;
                    if !is_known(word) {
                        unknown.push(format!("{page}: {word}"));
                    }
                }
            }
            before = line;
        }
    }
    assert!(seen > 150, "only {seen} reasons");
    assert_eq!(unknown, Vec::<String>::new(), "`api::reason` has no such word");
}
