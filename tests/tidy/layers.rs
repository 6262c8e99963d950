//! What may import what.

use std::collections::BTreeMap;

use crate::source::{Source, shipped};

/// Folders and what nothing in them may name.
const LAYERS: [(&str, &[&str]); 4] = [
    ("api", &["runtime", "control_plane", "data_plane", "cli"]),
    ("runtime", &["control_plane", "data_plane", "cli", "api::medusa", "api::fleet"]),
    ("control_plane", &["data_plane", "cli"]),
    ("data_plane", &["control_plane", "cli"]),
];

/// The floors of the control plane, from the ground up: what is in one may import its own and those before it.
const CONTROL_PLANE: [&str; 14] = [
    "identity",
    "leaving",
    "data_planes",
    "sources",
    "registry",
    "shards",
    "deployment",
    "replication",
    "runs",
    "inventory",
    "fanout",
    "tasks",
    "restores",
    "schedules",
];

/// The floors of the data plane, from the ground up.
const DATA_PLANE: [&str; 7] = ["frame", "medusa", "configuration", "task", "backup", "schedule", "restore"];

#[test]
fn modules_import_downwards_only() {
    let mut found = Vec::new();
    for source in shipped() {
        let Some((_, words)) =
            LAYERS.iter().find(|(folder, _)| source.module.first().is_some_and(|m| m == folder))
        else {
            continue;
        };
        let forbidden = |import: &&Vec<String>| {
            words.iter().any(|word| {
                word.split("::").eq(import.iter().take(word.split("::").count()).map(String::as_str))
            })
        };
        found.extend(
            source
                .imports
                .iter()
                .filter(forbidden)
                .map(|i| format!("{} names {}", source.name, i.join("::"))),
        );
    }
    assert_eq!(found, Vec::<String>::new());
}

/// What in `layer` imports something that is not on its own floor or one below it.
fn climbing(layer: &str, floors: &[&str], sources: &[Source]) -> Vec<String> {
    let order: BTreeMap<&str, usize> = floors.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut found = Vec::new();
    for source in sources {
        let [of, floor, ..] = source.module.as_slice() else { continue };
        if of != layer {
            continue;
        }
        let Some(own) = order.get(floor.as_str()) else {
            found.push(format!("{} is on no floor of `{layer}`: name it in the list", source.name));
            continue;
        };
        for import in source.imports.iter().filter(|import| import.first() == Some(of)) {
            let floor = import.get(1).map_or("", String::as_str);
            if order.get(floor).is_none_or(|at| at > own) {
                found.push(format!("{} imports {}", source.name, import.join("::")));
            }
        }
    }
    found
}

#[test]
fn every_floor_imports_only_its_own_and_those_below() {
    let sources = shipped();
    assert_eq!(climbing("control_plane", &CONTROL_PLANE, &sources), Vec::<String>::new());
    assert_eq!(climbing("data_plane", &DATA_PLANE, &sources), Vec::<String>::new());
}

/// How high each of `floors`, which are in order, stands by what it imports: the lowest is on the first.
fn heights<'a>(layer: &str, floors: &[&'a str], sources: &[Source]) -> BTreeMap<&'a str, usize> {
    let mut heights: BTreeMap<&str, usize> = BTreeMap::new();
    for floor in floors {
        let is_here = |source: &&Source| source.module.iter().take(2).eq([layer, floor].iter());
        let imports = sources.iter().filter(is_here).flat_map(|source| &source.imports);
        let below = imports.filter(|import| import.first().is_some_and(|of| of == layer));
        let below = below.filter_map(|import| heights.get(import.get(1)?.as_str()));
        let height = below.max().copied().unwrap_or_default() + 1;
        heights.insert(floor, height);
    }
    heights
}

#[test]
fn no_role_has_more_than_eight_floors() {
    let sources = shipped();
    for (layer, floors) in
        [("control_plane", CONTROL_PLANE.as_slice()), ("data_plane", DATA_PLANE.as_slice())]
    {
        let heights = heights(layer, floors, &sources);
        assert!(heights.values().all(|height| *height <= 8), "{layer}: {heights:?}");
    }
}

#[test]
fn a_floor_that_imports_a_higher_one_is_found() {
    let text = "//! A file.\nuse crate::control_plane::tasks::gate;\nuse super::super::sources::Sources;\n";
    let source = [Source::read("src/control_plane/runs/x.rs", text)];
    assert_eq!(climbing("control_plane", &CONTROL_PLANE, &source).len(), 1);
    let nowhere = [Source::read("src/control_plane/new/x.rs", "//! A file.\n")];
    assert_eq!(climbing("control_plane", &CONTROL_PLANE, &nowhere).len(), 1);
}

#[test]
fn what_is_shown_asks_nobody() {
    let views = shipped().into_iter().filter(|source| source.name.starts_with("src/cli/views"));
    let found: Vec<String> = views
        .flat_map(|view| view.having(&["Client", "Api<", "Api::"]))
        .filter(|line| line.replace("ClientConfig", "").contains("Client") || line.contains("Api"))
        .collect();
    assert_eq!(found, Vec::<String>::new());
}
