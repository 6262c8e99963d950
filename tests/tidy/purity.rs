//! Decisions are pure, and time is handed in.

use crate::source::{Source, shipped};

/// Names of files that decide, in whichever folder they stand: they must say that they are pure.
const DECIDING: [&str; 16] = [
    "plan",
    "judge",
    "machine",
    "status",
    "summary",
    "summarize",
    "advance",
    "adapter",
    "verdict",
    "desired",
    "recipe",
    "gate",
    "retention",
    "protection",
    "points",
    "checks",
];

/// What a file that decides does not have.
const IMPURE: [&str; 6] = ["async ", ".await", "clock::now", "Client", "tokio::", "Instant::now"];

fn claims_to_be_pure(source: &Source) -> bool {
    let words = source.header.replace("//!", " ");
    words.split_whitespace().any(|word| word == "Pure." || word == "Pure:")
}

#[test]
fn decisions_are_pure() {
    let mut found = Vec::new();
    let mut pure = 0;
    for source in shipped() {
        if source.module.first().is_some_and(|layer| layer == "api") {
            found.extend(source.having(&["async fn", ".await", "kube::Client", "clock::"]));
        }
        let name = source.module.last().map_or("", String::as_str);
        if claims_to_be_pure(&source) {
            pure += 1;
            // ClientConfig is a kind, not a client; a type of moment is not the clock.
            let lines = source.having(&IMPURE).into_iter().filter(|line| {
                let line = line.replace("ClientConfig", "").replace("tokio::time::Instant;", "");
                IMPURE.iter().any(|word| line.contains(word))
            });
            found.extend(lines);
        } else if DECIDING.contains(&name)
            && source.module.first().is_some_and(|layer| layer.ends_with("_plane"))
        {
            found.push(format!("{} decides and does not say `Pure.` in its module comment", source.name));
        }
    }
    assert_eq!(found, Vec::<String>::new());
    assert!(pure > 100, "only {pure} files say that they are pure");
}

#[test]
fn what_is_said_to_be_pure_and_is_not_is_found() {
    let text = "//! Decides.\n//! Pure.\nfn f() {}\n#[cfg(test)]\nmod tests {}\nasync fn g() {}\n";
    let source = Source::read("src/api/x.rs", text);
    assert!(claims_to_be_pure(&source));
    assert_eq!(source.having(&IMPURE), ["src/api/x.rs:6: async fn g() {}"]);
}

/// The stages of a reconcile, by their files: what is planned and what is summarized asks and writes nothing, and a stage has no
/// second name.
#[test]
fn a_stage_is_called_the_same_in_every_folder() {
    let mut found = Vec::new();
    for source in shipped().into_iter().filter(|source| source.name.starts_with("src/control_plane/")) {
        let file = source.name.rsplit('/').next().unwrap_or_default();
        let is_pure = claims_to_be_pure(&source);
        match file {
            "plan.rs" | "summarize.rs" if !is_pure => {
                found.push(format!("{} does not say `Pure.`", source.name));
            }
            "status.rs" | "rollup.rs" | "summary.rs" | "survey.rs" => {
                found.push(format!("{}: observe, plan, apply, summarize or publish?", source.name));
            }
            _ => {}
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    let words = ["Timestamp::now(", "SystemTime::now(", "Zoned::now("];
    let others = shipped().into_iter().filter(|source| source.name != "src/runtime/clock.rs");
    let found: Vec<String> = others.flat_map(|source| source.having(&words)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_controllers_are_handed_their_clock() {
    let controllers = shipped().into_iter().filter(|source| {
        source.module.first().is_some_and(|layer| layer == "control_plane" || layer == "data_plane")
    });
    let found: Vec<String> =
        controllers.flat_map(|source| source.having(&["clock::now", "clock::{now"])).collect();
    assert_eq!(found, Vec::<String>::new());
}
