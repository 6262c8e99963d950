//! One way to write, one place for each name, short files.

use std::collections::BTreeMap;

use crate::source::{files, shipped};

#[test]
fn every_write_is_an_apply_except_where_a_reason_is_given() {
    // Finalizers, and single keys of objects we must not own as a whole; a Lease, which is its holder's as a whole.
    let allowed = [
        "src/runtime/lease.rs",
        "src/control_plane/leaving.rs",
        // A Lease is written over the version that it was decided on.
        "src/control_plane/shards/member.rs",
        "src/control_plane/registry/admit.rs",
        "src/control_plane/registry/renew.rs",
        // An object that cannot be read cannot be applied either.
        "src/control_plane/registry/unreadable.rs",
        "src/control_plane/runs/unreadable.rs",
        "src/control_plane/runs/takeover.rs",
        "src/control_plane/replication/apply.rs",
        "src/control_plane/restores/apply.rs",
        "src/control_plane/schedules/apply.rs",
        "src/control_plane/deployment/apply.rs",
        "src/data_plane/",
        "src/cli/",
    ];
    let words = ["Patch::Merge", "Patch::Strategic", "Patch::Json", ".replace(&"];
    let others = shipped().into_iter().filter(|source| !allowed.iter().any(|a| source.name.starts_with(a)));
    let found: Vec<String> = others.flat_map(|source| source.having(&words)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn labels_are_spelled_in_one_place() {
    let words = ["\"fleet.k8ssandra.io/re", "\"cassandra.datastax.com/cl", "\"k8ssandra.io/"];
    let others = shipped().into_iter().filter(|source| source.name != "src/api/labels.rs");
    let found: Vec<String> = others.flat_map(|source| source.having(&words)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_a_mutex_guards_is_reached_in_one_way() {
    let others = shipped().into_iter().filter(|source| !source.name.ends_with("runtime/sync.rs"));
    let found: Vec<String> = others.flat_map(|source| source.having(&["PoisonError"])).collect();
    assert_eq!(found, Vec::<String>::new(), "`runtime::sync` locks");
}

#[test]
fn source_files_are_short_and_say_what_they_are() {
    for (name, text) in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines");
        assert!(text.starts_with("//!"), "{name} does not begin with a module comment");
        assert!(!text.contains(concat!("#[", "ignore")), "{name} ignores a test");
    }
    for (name, text) in files("tests/testbed", "go") {
        assert!(text.lines().count() <= 500, "{name} is too long");
    }
}

#[test]
fn the_name_of_a_type_is_declared_at_most_twice() {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in shipped() {
        for name in source.types {
            declared.entry(name).or_default().push(source.name.clone());
        }
    }
    let found: Vec<String> = declared
        .iter()
        .filter(|(_, places)| places.len() > 2)
        .map(|(name, places)| format!("{name} {}: {}", places.len(), places.join(", ")))
        .collect();
    assert_eq!(found, Vec::<String>::new());
}
