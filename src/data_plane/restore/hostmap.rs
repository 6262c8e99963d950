//! Which backed-up host each pod restores from.
//!
//! Pure. Racks are paired by name. Inside a rack a pod whose own name is among the sources restores its own
//! data; the others are paired in the order of their names, numbers in them compared as numbers, so that
//! `…-2` comes before `…-10` on both sides. Every source goes to exactly one pod and every pod has exactly
//! one source, or there is no mapping at all.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use super::names::RackSet;
use crate::{
    api::{
        Reason,
        medusa::{BackupNode, MappedHost, RestoreMapping},
    },
    data_plane::frame::problem::Problem,
};

/// The mapping of the backup's `nodes`, all of one Cassandra datacenter, onto the pods of `racks`.
///
/// # Errors
/// When racks or their numbers of nodes differ, or a host is in the backup twice.
pub fn map(nodes: &[BackupNode], racks: &[RackSet]) -> Result<RestoreMapping, Problem> {
    let mut sources = by_rack(nodes)?;
    let ours: BTreeSet<&str> = racks.iter().map(|r| r.rack.as_str()).collect();
    let theirs: BTreeSet<&str> = sources.keys().copied().collect();
    if ours != theirs {
        return Err(mismatch(format!(
            "the backup has racks {}, the datacenter {}",
            list(&theirs),
            list(&ours)
        )));
    }
    let mut host_map = BTreeMap::new();
    for rack in racks {
        let hosts = sources.remove(rack.rack.as_str()).unwrap_or_default();
        if hosts.len() != rack.pods.len() {
            return Err(mismatch(format!(
                "rack `{}` has {} nodes in the backup and {} in the datacenter",
                rack.rack,
                hosts.len(),
                rack.pods.len()
            )));
        }
        for (pod, source) in pair(&hosts, &rack.pods) {
            host_map.insert(pod.to_owned(), MappedHost { source: vec![source.to_owned()], seed: false });
        }
    }
    let in_place = !host_map.is_empty()
        && host_map.iter().all(|(pod, host)| matches!(host.source.as_slice(), [source] if source == pod));
    Ok(RestoreMapping { in_place: Some(in_place), host_map })
}

fn by_rack(nodes: &[BackupNode]) -> Result<BTreeMap<&str, Vec<&str>>, Problem> {
    let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for node in nodes {
        let (host, rack) =
            (node.host.as_deref().unwrap_or_default(), node.rack.as_deref().unwrap_or_default());
        if host.is_empty() || !seen.insert(host) {
            return Err(mismatch(format!("the backup lists host `{host}` twice or without a name")));
        }
        sources.entry(rack).or_default().push(host);
    }
    Ok(sources)
}

/// Pairs of (pod, source). Both sides are equally long.
fn pair<'a>(hosts: &[&'a str], pods: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let own: BTreeSet<&str> = pods.iter().map(String::as_str).filter(|pod| hosts.contains(pod)).collect();
    let rest = |names: Vec<&'a str>| {
        let mut rest: Vec<&str> = names.into_iter().filter(|name| !own.contains(name)).collect();
        rest.sort_by(|a, b| natural(a, b));
        rest
    };
    let others = rest(pods.iter().map(String::as_str).collect()).into_iter().zip(rest(hosts.to_vec()));
    own.iter().map(|name| (*name, *name)).chain(others).collect()
}

/// Order of names in which runs of digits count as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (chunks(a).into_iter(), chunks(b).into_iter());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(ours), Some(theirs)) => {
                let order = match (number(ours), number(theirs)) {
                    // Without leading zeros the longer number is the greater one, however long.
                    (Some(one), Some(two)) => one.len().cmp(&two.len()).then_with(|| one.cmp(two)),
                    (None, _) | (_, None) => ours.cmp(theirs),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

/// `text` cut where digits begin or end.
fn chunks(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| c.is_ascii_digit() != first.is_ascii_digit()).unwrap_or(rest.len());
        let (chunk, more) = rest.split_at(end);
        chunks.push(chunk);
        rest = more;
    }
    chunks
}

fn number(chunk: &str) -> Option<&str> {
    chunk.starts_with(|c: char| c.is_ascii_digit()).then(|| chunk.trim_start_matches('0'))
}

fn list(names: &BTreeSet<&str>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn mismatch(why: String) -> Problem {
    Problem::for_good(
        Reason::TopologyMismatch,
        format!("{why}; a restore needs the same racks with the same number of nodes in each"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn nodes(rack: &str, hosts: &[&str]) -> Vec<BackupNode> {
        hosts
            .iter()
            .map(|host| BackupNode {
                host: Some((*host).to_owned()),
                tokens: Vec::new(),
                datacenter: Some("dc1".to_owned()),
                rack: Some(rack.to_owned()),
            })
            .collect()
    }

    fn rack(rack: &str, pods: &[&str]) -> RackSet {
        let pods = pods.iter().map(|p| (*p).to_owned()).collect();
        RackSet { rack: rack.to_owned(), set: format!("{rack}-sts"), pods }
    }

    fn source<'a>(mapping: &'a RestoreMapping, pod: &str) -> &'a str {
        assert_eq!(mapping.host_map[pod].source.len(), 1);
        assert!(!mapping.host_map[pod].seed);
        &mapping.host_map[pod].source[0]
    }

    #[test]
    fn a_backup_of_these_pods_is_restored_in_place() {
        let mapping = map(&nodes("r", &["r-1", "r-0"]), &[rack("r", &["r-0", "r-1"])]).unwrap();
        assert_eq!(mapping.in_place, Some(true));
        assert_eq!((source(&mapping, "r-0"), source(&mapping, "r-1")), ("r-0", "r-1"));
    }

    #[test]
    fn the_tenth_node_comes_after_the_second_on_both_sides() {
        let theirs: Vec<String> = (0..12).map(|i| format!("old-{i}")).collect();
        let ours: Vec<String> = (0..12).map(|i| format!("new-{i}")).collect();
        let mapping = map(
            &nodes("r", &theirs.iter().map(String::as_str).collect::<Vec<_>>()),
            &[rack("r", &ours.iter().map(String::as_str).collect::<Vec<_>>())],
        )
        .unwrap();
        assert_eq!(mapping.in_place, Some(false));
        for i in 0..12 {
            assert_eq!(source(&mapping, &format!("new-{i}")), format!("old-{i}"));
        }
    }

    #[test]
    fn a_pod_that_was_backed_up_itself_keeps_its_data() {
        let mapping = map(&nodes("r", &["a-0", "p-1", "z-9"]), &[rack("r", &["p-0", "p-1", "p-2"])]).unwrap();
        assert_eq!(mapping.in_place, Some(false));
        assert_eq!(source(&mapping, "p-1"), "p-1");
        assert_eq!((source(&mapping, "p-0"), source(&mapping, "p-2")), ("a-0", "z-9"));
    }

    #[test]
    fn racks_are_paired_by_name_not_by_order() {
        let backup = [nodes("b", &["x-0"]), nodes("a", &["y-0"])].concat();
        let mapping = map(&backup, &[rack("b", &["p-b-0"]), rack("a", &["p-a-0"])]).unwrap();
        assert_eq!((source(&mapping, "p-b-0"), source(&mapping, "p-a-0")), ("x-0", "y-0"));
    }

    #[rstest]
    #[case::a_node_more(nodes("r", &["a", "b", "c"]), &["p", "q"])]
    #[case::a_node_less(nodes("r", &["a"]), &["p", "q"])]
    #[case::another_rack(nodes("s", &["a", "b"]), &["p", "q"])]
    #[case::a_rack_more([nodes("r", &["a", "b"]), nodes("s", &["c"])].concat(), &["p", "q"])]
    #[case::twice(nodes("r", &["a", "a"]), &["p", "q"])]
    #[case::nameless(nodes("r", &["a", ""]), &["p", "q"])]
    #[case::nothing(Vec::new(), &["p", "q"])]
    fn another_topology_has_no_mapping(#[case] backup: Vec<BackupNode>, #[case] pods: &[&str]) {
        let problem = map(&backup, &[rack("r", pods)]).unwrap_err();
        assert_eq!((problem.reason, problem.may_heal), (Reason::TopologyMismatch, false));
    }

    #[test]
    fn an_empty_mapping_is_not_in_place() {
        assert_eq!(map(&[], &[]).unwrap().in_place, Some(false));
    }

    proptest! {
        #[test]
        fn a_mapping_is_one_to_one_and_complete(
            racks in prop::collection::btree_map(
                "[a-c]{1,3}",
                (0_usize..30).prop_flat_map(|n| (
                    prop::collection::btree_set("[p-q]-[0-9]{1,3}", n),
                    prop::collection::btree_set("[p-r]-[0-9]{1,3}", n),
                )),
                1..4,
            ),
        ) {
            let mut backup = Vec::new();
            let mut sets = Vec::new();
            for (name, (hosts, pods)) in &racks {
                let own = |n: &String| format!("{name}-{n}");
                let hosts: Vec<String> = hosts.iter().map(own).collect();
                let pods: Vec<String> = pods.iter().map(own).collect();
                prop_assume!(hosts.len() == pods.len() && !hosts.is_empty());
                backup.extend(nodes(name, &hosts.iter().map(String::as_str).collect::<Vec<_>>()));
                sets.push(rack(name, &pods.iter().map(String::as_str).collect::<Vec<_>>()));
            }
            let mapping = map(&backup, &sets).unwrap();
            let pods: BTreeSet<&String> = sets.iter().flat_map(|s| &s.pods).collect();
            prop_assert_eq!(mapping.host_map.keys().collect::<BTreeSet<_>>(), pods);
            let rack_of: BTreeMap<&str, &str> =
                backup.iter().map(|n| (n.host.as_deref().unwrap(), n.rack.as_deref().unwrap())).collect();
            let mut used = BTreeSet::new();
            for set in &sets {
                for pod in &set.pods {
                    let from = source(&mapping, pod);
                    prop_assert_eq!(rack_of[from], set.rack.as_str());
                    prop_assert!(used.insert(from.to_owned()));
                    prop_assert!(!rack_of.contains_key(pod.as_str()) || from == pod);
                }
            }
            prop_assert_eq!(used.len(), backup.len());
            let identical = mapping.host_map.iter().all(|(pod, host)| &host.source[0] == pod);
            prop_assert_eq!(mapping.in_place, Some(identical));
        }

        #[test]
        fn the_order_of_names_is_an_order(a in "[a-b0-1]{0,6}", b in "[a-b0-1]{0,6}", c in "[a-b0-1]{0,6}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b) == Ordering::Equal, a == b);
            if natural(&a, &b) != Ordering::Greater && natural(&b, &c) != Ordering::Greater {
                prop_assert!(natural(&a, &c) != Ordering::Greater);
            }
        }
    }
}
