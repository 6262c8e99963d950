//! Several replicas with `--shards`: each watches its part of the data planes, the leader decides by what they publish, and
//! whoever dies, hangs, leaves or joins, no child is lost or made twice and no DataPlane changes its mind.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use medusa_fleet::api::{
    Conditions as _,
    fleet::{DataPlane, DataPlaneView, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::{Value, json};

use crate::{
    leaders::Replica,
    support::{CASS, FLEET, Fleet, backup_job, datacenter, eventually, finish, harness::testbed},
};

const DATA_PLANES: usize = 3;
const SHARDS: &str = "6";

/// Grants what the chart grants where there are shards, without that verb on DataPlaneViews if one is named.
async fn grant(fleet: &Fleet, without: Option<&str>) {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/charts/medusa-fleet");
    let set = format!("shards={SHARDS}");
    let args = ["helm", "template", "medusa-fleet", chart, "--namespace", FLEET, "--set", &set];
    let output = testbed::command().args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let mut role = rendered.into_iter().find(|object| object["kind"] == "Role").unwrap();
    let of_views = |rule: &&mut Value| rule["resources"] == json!(["dataplaneviews"]);
    let rule = role["rules"].as_array_mut().unwrap().iter_mut().find(of_views).unwrap();
    rule["verbs"].as_array_mut().unwrap().retain(|verb| without.is_none_or(|without| verb != without));
    let name = role["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("test").force();
    fleet.home().untyped(&role).patch(&name, &params, &Patch::Apply(&role)).await.unwrap();
}

fn start(fleet: &Fleet, name: &str) -> Replica {
    Replica::start_with(fleet, name, &["--shards", SHARDS])
}

/// Who watches each data plane and in which epoch, by what was published; those of which nothing was are not in it.
async fn holders(fleet: &Fleet) -> BTreeMap<String, (String, i32)> {
    let views = fleet.home().list::<DataPlaneView>(FLEET).await;
    views.into_iter().map(|view| (view.name_any(), (view.spec.holder, view.spec.epoch))).collect()
}

/// Waits until every data plane has a replica among `names`; returns which.
async fn watched_by(fleet: &Fleet, names: &[&str]) -> BTreeMap<String, (String, i32)> {
    eventually(format!("all are watched by {names:?}"), async || {
        let found = holders(fleet).await;
        let is_theirs = found.values().all(|(holder, _)| names.contains(&holder.as_str()));
        if is_theirs && found.len() == DATA_PLANES + 1 { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

/// The name by which a replica publishes: it stands on its own Lease.
async fn name_of(fleet: &Fleet, replica: &Replica, others: &[&str]) -> String {
    eventually("it has a Lease", async || {
        let params = ListParams::default().labels("fleet.k8ssandra.io/lease=replica");
        let leases = fleet.home().api::<Lease>(FLEET).list(&params).await.unwrap();
        let holders = leases.into_iter().filter_map(|lease| lease.spec?.holder_identity);
        let new = holders.into_iter().find(|holder| !others.contains(&holder.as_str()));
        new.ok_or_else(|| replica.log())
    })
    .await
}

/// Since when each DataPlane is Ready.
async fn ready_since(fleet: &Fleet) -> BTreeMap<String, Time> {
    let planes = fleet.home().list::<DataPlane>(FLEET).await;
    let since = planes.into_iter().map(|plane| {
        let conditions = plane.status.clone().unwrap_or_default().conditions;
        let ready = conditions.of_type("Ready").unwrap();
        assert_eq!(ready.status, "True", "{}: {ready:?}", plane.name_any());
        (plane.name_any(), ready.last_transition_time.clone())
    });
    since.collect()
}

/// The children of a run, one in each data plane.
async fn children(fleet: &Fleet, run: &str) -> Vec<MedusaBackupJob> {
    eventually(format!("{run} has its children"), async || {
        let mut found = Vec::new();
        for number in 1..=DATA_PLANES {
            let jobs = fleet.dp(number).list::<MedusaBackupJob>(CASS).await;
            found.extend(jobs.into_iter().filter(|job| job.labels()["fleet.k8ssandra.io/job"] == run));
        }
        if found.len() == DATA_PLANES { Ok(found) } else { Err(format!("{} children", found.len())) }
    })
    .await
}

async fn end(fleet: &Fleet, run: &str, before: &[MedusaBackupJob]) {
    for (number, child) in (1..).zip(before) {
        finish(fleet.dp(number), child).await;
    }
    let status = fleet.expect_phase(run, Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.run.done.as_deref(), Some("3/3"));
    let uids = |jobs: &[MedusaBackupJob]| jobs.iter().map(MedusaBackupJob::uid).collect::<Vec<_>>();
    assert_eq!(uids(&children(fleet, run).await), uids(before), "made anew");
}

async fn run(fleet: &Fleet, name: &str) {
    fleet.home().create(backup_job(name, json!({}))).await;
    let made = children(fleet, name).await;
    end(fleet, name, &made).await;
}

/// How many children were asked for in each data plane.
async fn posts(fleet: &Fleet) -> Vec<u64> {
    let mut posts = Vec::new();
    for number in 1..=DATA_PLANES {
        let writes = fleet.dp(number).writes("medusabackupjobs").await;
        posts.push(writes.get("POST").copied().unwrap_or(0));
    }
    posts
}

async fn begin(fleet: &Fleet) -> ([Replica; 2], [String; 2]) {
    grant(fleet, None).await;
    let first = start(fleet, "first");
    let a = name_of(fleet, &first, &[]).await;
    let second = start(fleet, "second");
    let b = name_of(fleet, &second, &[&a]).await;
    fleet.register_all().await;
    for number in 1..=DATA_PLANES {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    fleet.expect_size("shop", 3).await;
    ([first, second], [a, b])
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_watching_and_who_dies_leaves_or_joins_changes_nothing() {
    let fleet = Fleet::start(DATA_PLANES).await;
    let (replicas, [a, b]) = begin(&fleet).await;
    let watched = watched_by(&fleet, &[&a, &b]).await;
    for (plane, (holder, _)) in &watched {
        for (replica, name) in replicas.iter().zip([&a, &b]) {
            let line = format!("data plane answers data_plane=\"{plane}\"");
            assert_eq!(replica.log().contains(&line), holder == name, "{plane} is watched by {holder}");
        }
    }
    run(&fleet, "quiet").await;
    assert_eq!(posts(&fleet).await, [1; DATA_PLANES], "two asked for the same");

    // Who watches the first data plane is killed, whether it leads or not, while a run goes on.
    let since = ready_since(&fleet).await;
    fleet.home().create(backup_job("killed", json!({}))).await;
    let of_killed = children(&fleet, "killed").await;
    let [first, second] = replicas;
    let is_first = watched["dp-1"].0 == a;
    let (mut killed, left) = if is_first { (first, second) } else { (second, first) };
    let (gone, stays) = if is_first { (&a, &b) } else { (&b, &a) };
    killed.program.kill();
    let taken = watched_by(&fleet, &[stays]).await;
    for (plane, (holder, epoch)) in &taken {
        let (before, old) = &watched[plane];
        assert_eq!(*epoch > *old, before != holder, "{plane}: {old} to {epoch}");
    }
    end(&fleet, "killed", &of_killed).await;
    assert_eq!(posts(&fleet).await, [2; DATA_PLANES]);
    assert_eq!(ready_since(&fleet).await, since, "a DataPlane changed its mind");

    // One joins: it takes its share, and no other data plane is watched by another.
    let mut third = start(&fleet, "third");
    let c = name_of(&fleet, &third, &[gone, stays]).await;
    eventually("the new one holds its half", async || {
        let said = third.log();
        let held = said.lines().rev().find(|line| line.contains("shards held by this replica"));
        if held.is_some_and(|line| line.matches(',').count() == 2) { Ok(()) } else { Err(said) }
    })
    .await;
    let joined = watched_by(&fleet, &[stays, &c]).await;
    for (plane, (holder, epoch)) in &joined {
        assert_eq!(*epoch != taken[plane].1, *holder == c, "{plane}");
    }
    run(&fleet, "joined").await;
    assert_eq!(ready_since(&fleet).await, since, "a DataPlane changed its mind");

    // It leaves in good order: nobody waits until it counts as gone.
    third.program.signal("TERM").unwrap();
    assert!(third.ends().await.success());
    let own = fleet.home().list::<Lease>(FLEET).await;
    let holders: BTreeSet<String> = own.into_iter().filter_map(|lease| lease.spec?.holder_identity).collect();
    assert!(!holders.contains(&c), "{holders:?}");
    watched_by(&fleet, &[stays]).await;
    run(&fleet, "left").await;
    assert_eq!(ready_since(&fleet).await, since, "a DataPlane changed its mind");
    assert_eq!(posts(&fleet).await, [4; DATA_PLANES]);
    drop(left);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_publishes_late_replaces_nothing_and_a_dead_data_plane_is_noticed() {
    let fleet = Fleet::start(DATA_PLANES).await;
    let ([first, second], [a, b]) = begin(&fleet).await;
    let watched = watched_by(&fleet, &[&a, &b]).await;
    let is_first = watched["dp-1"].0 == a;
    let (hung, stays) = if is_first { (first, &b) } else { (second, &a) };
    let since = ready_since(&fleet).await;
    hung.program.signal("STOP").unwrap();
    let taken = watched_by(&fleet, &[stays]).await;
    hung.program.signal("CONT").unwrap();
    // It had not seen this when it stood still, and sees it now as the other does.
    fleet.dp(1).create(datacenter("late", "shop", 1)).await;
    fleet.expect_size("shop", 4).await;
    let after = holders(&fleet).await;
    assert!(after["dp-1"].1 >= taken["dp-1"].1, "{after:?}");
    assert_eq!(ready_since(&fleet).await, since, "a DataPlane changed its mind");

    fleet.stop("dp-1");
    let said = fleet.expect_data_plane("dp-1", "Ready", "False", "ConnectionRefused").await;
    assert!(!said.contains("replica"), "{said}");
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    fleet.start_again("dp-1");
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_make_of_a_view_is_written_again_and_what_cannot_be_written_is_not_believed() {
    let fleet = Fleet::start(DATA_PLANES).await;
    let (_replicas, [a, b]) = begin(&fleet).await;
    let watched = watched_by(&fleet, &[&a, &b]).await;
    let since = ready_since(&fleet).await;
    let views = fleet.home().api::<DataPlaneView>(FLEET);
    let first = views.get("dp-1").await.unwrap();

    // Somebody writes what nobody ever saw, of an epoch that nobody ever had, and deletes another.
    let mut garbage = first.clone();
    garbage.spec.epoch = i32::MAX;
    garbage.spec.holder = "nobody".to_owned();
    garbage.spec.data = "H4sIAAAA".to_owned();
    views.replace("dp-1", &PostParams::default(), &garbage).await.unwrap();
    views.delete("dp-2", &DeleteParams::default()).await.unwrap();
    let again = watched_by(&fleet, &[&a, &b]).await;
    assert_eq!(again, watched);
    run(&fleet, "again").await;
    assert_eq!(ready_since(&fleet).await, since, "a DataPlane changed its mind");

    // Nobody may write views any more: that one is old stands on the Lease of who watches it.
    grant(&fleet, Some("update")).await;
    fleet.dp(1).create(datacenter("late", "shop", 1)).await;
    let unsaid = async || {
        let leases = fleet.home().list::<Lease>(FLEET).await;
        let own = leases.iter().filter_map(|lease| lease.annotations().get("fleet.k8ssandra.io/unpublished"));
        own.cloned().collect::<Vec<_>>()
    };
    eventually("its Lease names it", async || {
        let found = unsaid().await;
        if found == ["dp-1"] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let said = fleet.expect_data_plane("dp-1", "Ready", "False", "Unreachable").await;
    assert!(said.contains("cannot publish what it sees"), "{said}");
    grant(&fleet, None).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    fleet.expect_size("shop", 4).await;
    eventually("no Lease names anything", async || {
        let found = unsaid().await;
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}
