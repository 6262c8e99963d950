//! Which datacenters selectors mean, and what is said of what they name and do not find.

use super::*;
use crate::control_plane::{
    data_planes::view::View,
    fanout::tests::{datacenter, live, plane, silent},
};

fn names(entries: &[DatacenterRun]) -> Vec<String> {
    entries.iter().map(|e| format!("{}/{}={}", e.data_plane, e.datacenter, e.phase.as_str())).collect()
}

fn run(selector: &Selector, planes: &[Snapshot], known: &[DatacenterRun]) -> Vec<String> {
    names(&select(selector, planes, &ClusterLabels::new(), known).unwrap())
}

#[test]
fn a_name_that_no_object_can_have_makes_the_selector_invalid() {
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let invalid = [
        (Selector { clusters: of(&["shop", "sh op"]), ..Selector::default() }, "clusters`: `sh op`"),
        (Selector { data_planes: of(&["EU"]), ..Selector::default() }, "dataPlanes`: `EU`"),
        (Selector { namespaces: of(&[".."]), ..Selector::default() }, "namespaces`: `..`"),
        (Selector { datacenters: of(&["dc1?x"]), ..Selector::default() }, "datacenters`: `dc1?x`"),
    ];
    for (selector, expected) in invalid {
        let (reason, why) = select_fitting(&selector, &[], &ClusterLabels::new(), &[]).unwrap_err();
        assert!(reason == Reason::InvalidSelector && why.contains(expected), "{why}");
    }
}

#[test]
fn an_empty_selector_means_everything_that_has_medusa() {
    let planes = [
        plane("eu", live(&[datacenter("dc1", 3), datacenter("bare", 0)])),
        plane("us", live(&[datacenter("dc2", 3)])),
    ];
    assert_eq!(
        run(&Selector::default(), &planes, &[]),
        ["eu/bare=Skipped", "eu/dc1=Pending", "us/dc2=Pending"]
    );
}

#[test]
fn what_is_named_and_not_there_or_nothing_at_all_may_still_be_on_its_way() {
    let planes = [plane("eu", live(&[datacenter("dc1", 3), datacenter("bare", 0)])), plane("us", silent())];
    let lacks = |selector: &Selector, planes: &[Snapshot], known: &[DatacenterRun]| {
        is_lacking(&select(selector, planes, &ClusterLabels::new(), known).unwrap(), known)
    };
    let named = |names: &[&str]| Selector {
        datacenters: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Selector::default()
    };
    let eu = &planes[..1];
    assert!(!lacks(&named(&["dc1"]), eu, &[]));
    assert!(!lacks(&named(&["bare"]), eu, &[]), "it is there, and fails for its own reason");
    assert!(lacks(&named(&["dc1", "dc2"]), eu, &[]));
    assert!(lacks(&Selector { clusters: vec!["blog".into()], ..Selector::default() }, eu, &[]));
    let ghost = Selector { data_planes: vec!["eu".into(), "ghost".into()], ..Selector::default() };
    assert!(lacks(&ghost, eu, &[]));
    assert!(!lacks(&named(&["dc1", "dc2"]), &planes, &[]), "somebody was not asked yet");
    let fixed = select(&named(&["dc1", "dc2"]), eu, &ClusterLabels::new(), &[]).unwrap();
    assert!(!lacks(&named(&["dc1", "dc2"]), eu, &fixed), "what was decided stands");
}

#[test]
fn each_field_narrows_the_choice() {
    let planes = [
        plane("eu", live(&[datacenter("dc1", 3), datacenter("dc3", 3)])),
        plane("us", live(&[datacenter("dc2", 3)])),
    ];
    let selector =
        Selector { data_planes: vec!["eu".into()], datacenters: vec!["dc3".into()], ..Selector::default() };
    assert_eq!(run(&selector, &planes, &[]), ["eu/dc3=Pending"]);
    let selector = Selector { clusters: vec!["shop.ns.us".into()], ..Selector::default() };
    assert_eq!(run(&selector, &planes, &[]), ["us/dc2=Pending"]);
}

#[test]
fn a_silent_data_plane_holds_a_place_until_it_is_listed() {
    let selector = Selector::default();
    let first = select(&selector, &[plane("eu", silent())], &ClusterLabels::new(), &[]).unwrap();
    assert_eq!(names(&first), ["eu/=Pending"]);
    let later = [plane("eu", live(&[datacenter("dc1", 1)])), plane("new", live(&[datacenter("dc9", 1)]))];
    assert_eq!(run(&selector, &later, &first), ["eu/dc1=Pending"], "the run's data planes are fixed");
    assert_eq!(run(&selector, &later[1..], &first), ["eu/=Pending"], "one that goes was not looked at");
}

#[test]
fn while_a_run_waits_for_one_data_plane_a_datacenter_made_with_it_in_another_is_found() {
    let unlisted = || plane("local", View::unknown());
    let dc1 = Selector { datacenters: vec!["dc1".into()], ..Selector::default() };
    let before = [plane("eu", live(&[])), unlisted()];
    let known = select(&dc1, &before, &ClusterLabels::new(), &[]).unwrap();
    assert_eq!(names(&known), ["local/=Pending"]);
    let now = [plane("eu", live(&[datacenter("dc1", 1)])), unlisted()];
    assert_eq!(run(&dc1, &now, fixed(&known, &now, true)), ["eu/dc1=Pending", "local/=Pending"]);
    assert_eq!(run(&dc1, &now, fixed(&known, &now, false)), ["local/=Pending"], "what it began with stays");
    assert_eq!(
        fixed(&known, &now[..1], true),
        known.as_slice(),
        "a data plane that is gone was not looked at"
    );
    let known = select(&dc1, &now, &ClusterLabels::new(), &[]).unwrap();
    assert_eq!(fixed(&known, &now, true), known.as_slice());
    let skipped = [DatacenterRun { phase: Phase::Skipped, ..known[1].clone() }];
    assert_eq!(fixed(&skipped, &now, true), skipped);
}

#[test]
fn a_data_plane_that_is_held_for_another_is_an_entry_that_was_not_looked_at() {
    let why = "it is the same cluster as data plane `eu`".to_owned();
    let mut twin = plane("eu-again", silent());
    let waiting = select(&Selector::default(), std::slice::from_ref(&twin), &ClusterLabels::new(), &[]);
    twin.usable = Usable::NotReady { reason: Reason::DuplicateCluster, why };
    let planes = [plane("eu", live(&[datacenter("dc1", 1)])), twin];
    assert_eq!(run(&Selector::default(), &planes, &[]), ["eu/dc1=Pending", "eu-again/=Skipped"]);
    let named = Selector { data_planes: vec!["eu-again".into()], ..Selector::default() };
    assert_eq!(run(&named, &planes, &[]), ["eu-again/=Failed"]);
    // Also when that comes out while the run waits for it, and it stays so.
    let waiting = waiting.unwrap();
    assert_eq!(names(&waiting), ["eu-again/=Pending"]);
    let known = select(&Selector::default(), &planes, &ClusterLabels::new(), &waiting).unwrap();
    assert_eq!(names(&known), ["eu-again/=Skipped"]);
    assert_eq!(known[0].reason.as_deref(), Some("DuplicateCluster"));
    assert_eq!(run(&Selector::default(), &[plane("eu-again", silent())], &known), ["eu-again/=Skipped"]);
    assert_eq!(run(&Selector::default(), &[], &known), ["eu-again/=Skipped"]);
}

/// A view of dc1 that also has `ns/odd`, which cannot be read.
fn with_odd() -> crate::control_plane::data_planes::view::View {
    let mut view = live(&[datacenter("dc1", 1)]);
    view.datacenters.blur(ObjectKey::new("ns", "odd"), "CassandraDatacenter ns/odd: `spec.size`".to_owned());
    view
}

#[test]
fn a_datacenter_that_cannot_be_read_is_an_entry_of_every_run_that_may_mean_it() {
    let mut planes = [plane("eu", with_odd())];
    let of = |field: &str, value: &str| -> Selector {
        serde_json::from_value(serde_json::json!({ field: [value] })).unwrap()
    };
    let both = ["eu/dc1=Pending", "eu/odd=Failed"];
    assert_eq!(run(&Selector::default(), &planes, &[]), both);
    assert_eq!(run(&of("namespaces", "ns"), &planes, &[]), both);
    assert_eq!(run(&of("datacenters", "odd"), &planes, &[]), ["eu/odd=Failed"]);
    assert_eq!(run(&of("datacenters", "dc1"), &planes, &[]), ["eu/dc1=Pending"]);
    assert!(run(&of("namespaces", "other"), &planes, &[]).is_empty());
    // It may have the labels of any cluster, but not of one whose K8ssandraCluster is known and does not list it.
    assert_eq!(run(&of("clusters", "shop.ns.eu"), &planes, &[]), both);
    let fitting =
        |selector: &Selector| select_fitting(selector, &planes, &ClusterLabels::new(), &[]).unwrap();
    assert_eq!(names(&fitting(&Selector::default())), both);
    assert_eq!(
        names(&fitting(&of("clusters", "shop.ns.eu"))),
        ["eu/dc1=Pending"],
        "nothing says that it is of them"
    );
    let demo = ObjectKey::new("k8s", "demo");
    let known = crate::control_plane::data_planes::membership::Known::of([(demo.clone(), [].into())].into());
    planes[0].membership.known = std::sync::Arc::new(known);
    assert!(run(&of("clusters", "demo"), &planes, &[]).is_empty());
    planes[0].listing = std::sync::Arc::new([(ObjectKey::new("ns", "odd"), demo)].into());
    assert_eq!(run(&of("clusters", "demo"), &planes, &[]), ["eu/odd=Failed"]);
    assert_eq!(run(&of("clusters", "shop.ns.eu"), &planes, &[]), ["eu/dc1=Pending"]);
    let entries = select(&Selector::default(), &planes, &ClusterLabels::new(), &[]).unwrap();
    assert_eq!(
        (entries[1].reason.as_deref(), entries[1].cluster.as_str()),
        (Some("DatacenterUnreadable"), "demo.k8s")
    );
    assert!(entries[1].message.as_deref().unwrap().contains("`spec.size`"));
}

#[test]
fn a_data_plane_with_more_datacenters_than_can_be_told_about_is_left_out_and_costs_no_other_its_backup() {
    let many: Vec<_> = (0..9_000).map(|n| datacenter(&format!("dc{n}"), 0)).collect();
    let silent_then = plane("hostile", silent());
    let hostile = plane("hostile", live(&many));
    let eu = plane("eu", live(&[datacenter("dc1", 1)]));
    let chosen = |planes: &[Snapshot], known: &[DatacenterRun]| {
        select_fitting(&Selector::default(), planes, &ClusterLabels::new(), known)
    };
    let both = [eu.clone(), hostile.clone()];
    let entries = chosen(&both, &[]).unwrap();
    assert_eq!(names(&entries), ["eu/dc1=Pending", "hostile/=Failed"]);
    let (reason, message) = (entries[1].reason.as_deref(), entries[1].message.as_deref().unwrap());
    assert!(reason == Some("TooManyDatacenters") && message.contains("9000"), "{message}");
    assert_eq!(chosen(&both, &entries).unwrap(), entries, "and stays so");
    // Also one that answers only while the run is at work.
    let first = chosen(&[eu.clone(), silent_then], &[]).unwrap();
    assert_eq!(names(&chosen(&both, &first).unwrap()), ["eu/dc1=Pending", "hostile/=Failed"]);
    assert_eq!(chosen(&[hostile], &[]).unwrap_err().0, Reason::TooManyDatacenters, "it is all there is");
}

#[test]
fn what_a_run_started_with_stays() {
    let selector = Selector::default();
    let first =
        select(&selector, &[plane("eu", live(&[datacenter("dc1", 1)]))], &ClusterLabels::new(), &[]).unwrap();
    let grown = [plane("eu", live(&[datacenter("dc1", 1), datacenter("dc2", 1)]))];
    assert_eq!(run(&selector, &grown, &first), ["eu/dc1=Pending"]);
}

#[test]
fn a_name_that_matches_nothing_fails_for_itself() {
    let planes = [plane("eu", live(&[datacenter("dc1", 1), datacenter("bare", 0)]))];
    let selector =
        Selector { datacenters: vec!["dc1".into(), "dcx".into(), "bare".into()], ..Selector::default() };
    assert_eq!(run(&selector, &planes, &[]), ["/dcx=Failed", "eu/bare=Failed", "eu/dc1=Pending"]);
    let selector = Selector { data_planes: vec!["nowhere".into()], ..Selector::default() };
    assert_eq!(run(&selector, &planes, &[]), ["nowhere/-=Failed"]);
}
