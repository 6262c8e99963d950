//! What data planes and the control plane say of each other is the same. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Rule, finding};
use crate::observed::Observed;

/// Registered data planes that are not ready, and DataPlanes of others. The control plane's own cluster is one.
pub fn not_ready(seen: &Observed) -> Vec<Finding> {
    let home = &seen.home;
    let known: BTreeSet<&String> = home.data_planes.keys().filter(|name| *name != "local").collect();
    let asked: BTreeSet<&String> = home.registered.iter().collect();
    let lacking = asked.difference(&known).map(|name| (*name, "has no DataPlane"));
    let surplus = known.difference(&asked).map(|name| (*name, "is not registered and has a DataPlane"));
    let unready = home.data_planes.iter().filter(|(_, words)| !words.is_empty());
    let unready = unready.map(|(name, words)| (name, words.as_str()));
    lacking
        .chain(surplus)
        .chain(unready)
        .map(|(name, words)| finding(Rule::NotReady, format!("{name}: {words}")))
        .collect()
}

/// Copies that are missing, differ, or that nobody asked for. A data plane that is not registered has none.
pub fn copies(seen: &Observed) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, plane) in &seen.planes {
        let is_registered = seen.home.registered.contains(name);
        for (kind, wanted, there) in [
            ("Secret", &seen.home.secrets, &plane.secrets),
            ("MedusaConfiguration", &seen.home.configurations, &plane.configurations),
        ] {
            let none = BTreeMap::new();
            let wanted = if is_registered { wanted } else { &none };
            let names: BTreeSet<&String> = wanted.keys().chain(there.keys()).collect();
            found.extend(names.into_iter().filter_map(|object| {
                let words = match (wanted.get(object), there.get(object)) {
                    (Some(wanted), Some(there)) if wanted == there => return None,
                    (Some(_), Some(_)) => "differs from its source",
                    (Some(_), None) => "is missing",
                    _ => "is there, and should not be",
                };
                // What is in it is nobody's business.
                Some(finding(Rule::Copies, format!("{kind} {object} in {name} {words}")))
            }));
        }
    }
    found
}

/// MedusaBackups of registered data planes that no FleetBackup tells of, and the other way round.
pub fn inventory(seen: &Observed) -> Vec<Finding> {
    let registered = seen.planes.iter().filter(|(name, _)| seen.home.registered.contains(*name));
    let there: BTreeSet<(String, String)> = registered
        .flat_map(|(name, plane)| plane.backups.iter().map(|backup| (name.clone(), backup.clone())))
        .collect();
    let told = &seen.home.backups;
    let untold = there.difference(told).map(|backup| (backup, "is in no FleetBackup"));
    let untrue = told.difference(&there).map(|backup| (backup, "is in a FleetBackup, and is not there"));
    untold
        .chain(untrue)
        .map(|((plane, backup), words)| {
            finding(Rule::Inventory, format!("MedusaBackup {backup} of {plane} {words}"))
        })
        .collect()
}
