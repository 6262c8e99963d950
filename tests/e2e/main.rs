//! Everything really happens: two data planes with Cassandra datacenters, Medusa beside every Cassandra, one S3 store,
//! and the program's two roles, installed from their charts in pods of the built image, and upgraded from the version before.
//! Rows are written, backed up, lost, and counted again at consistency ALL.
//!
//! Medusa is that of the default image. One datacenter changes to a newer version between its backups, another begins with it
//! and restores what the older one has backed up.
//!
//! One test per fleet, because a fleet takes a minute to start; its parts are in the order they are called.
//! Needs what `make testbed` builds and installs, and what `tests/previous` makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on should say so and end"
)]

#[allow(dead_code, unused_imports, reason = "each test binary uses its part of the support")]
#[path = "../support/mod.rs"]
mod support;

mod backups;
mod cassandra_fleet;
mod datacenter;
mod deployment;
mod releases;
mod restore;
mod schedule;
mod tasks;
mod whole;

use cassandra_fleet::{CassandraFleet, SHOP};
use medusa_fleet::control_plane::deployment::pod::image::DEFAULT_IMAGE;
use releases::Version::{Before, This};

/// The newest Medusa that is supported.
const NEWER_IMAGE: &str = "docker.io/k8ssandra/medusa:0.31.0";

/// Rows at the time of the full backup, and of the differential one.
const ROWS: (usize, usize) = (500, 800);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_cassandra_is_backed_up_restored_purged_and_found_elsewhere() {
    let fleet = CassandraFleet::start("restore").await;
    releases::install_skewed(fleet.clusters(), This, Before).await;
    fleet.note("both charts are installed, with two replicas each, the data planes' of the version before");
    let (dc1, dc2) = (fleet.datacenter(1, SHOP, "dc1"), fleet.datacenter(2, SHOP, "dc2"));
    let copy = fleet.datacenter(2, "copy", "dc1");
    fleet.create_datacenter(dc1, 3, DEFAULT_IMAGE);
    fleet.create_datacenter(dc2, 1, DEFAULT_IMAGE);
    fleet.register_with_the_command_line();
    fleet.write_configuration().await;
    fleet.await_datacenters().await;
    fleet.note("the fleet runs: datacenters of three nodes and of one");

    dc1.load(ROWS.0).await;
    dc2.load(ROWS.0).await;
    backups::full_backup(&fleet, &[dc1, dc2]).await;
    fleet.note(
        "rows are written and backed up, full, while leaders were killed and all replicas rolled out anew",
    );
    releases::install_skewed(fleet.clusters(), Before, This).await;
    fleet.note("the data planes are upgraded, and the control plane has gone back to the version before");

    dc1.keep_backups(1).await;
    dc1.load(ROWS.1).await;
    backups::differential_backup(&fleet).await;
    fleet.note("Medusa is configured anew, more rows are backed up, differential");
    releases::install_this(fleet.clusters()).await;
    fleet.note("the control plane is upgraded");

    // One after the other: two cores start no more than three Cassandras at a time before something that waits gives up.
    restore::a_dropped_table_and_a_lost_volume(dc1, ROWS.1).await;
    fleet.note("a table and a disk are restored");
    fleet.create_datacenter(copy, 3, NEWER_IMAGE);
    fleet.await_datacenters().await;
    tasks::sync_elsewhere(copy, dc1, ROWS.0).await;
    fleet.note("an empty cluster with a newer Medusa has restored a backup");
    // What dc2 has in the bucket is of the older Medusa.
    dc2.upgrade_medusa(NEWER_IMAGE).await;
    schedule::create(dc2).await;
    fleet.note("a datacenter has a newer Medusa");

    schedule::fires(dc2).await;
    fleet.note("a schedule has fired, with a newer Medusa than before");

    tasks::purge(dc1).await;
    fleet.note("a purge has left one backup");

    let point = whole::scheduled_backup(&fleet).await;
    whole::restore(&fleet, &point, [(dc1, ROWS.1), (dc2, ROWS.0)]).await;
    fleet.note("a fleet schedule has fired; tables dropped in both datacenters are back by one restore");
    releases::expect_untroubled(fleet.clusters()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_k8ssandra_cluster_brings_medusa_to_a_datacenter_that_runs_without_it() {
    let mut fleet = CassandraFleet::start("deploy").await;
    releases::install_this(fleet.clusters()).await;
    releases::expect_budgets(fleet.clusters()).await;
    fleet.note("both charts are installed, and of two replicas one is always left");
    let plain = (1, "plain", "dc1");
    let (bare, lent) = (fleet.datacenter(1, plain.1, plain.2), fleet.datacenter(2, "lent", "dc1"));
    fleet.create_plain_datacenter(bare);
    fleet.create_plain_datacenter(lent);
    fleet.register_with_the_command_line();
    deployment::share_configuration(&fleet).await;
    fleet.await_datacenters().await;
    fleet.note("two datacenters run, without Medusa");

    tokio::join!(deployment::deploy(&fleet, bare), deployment::deploy_role_based(&fleet, lent));
    fleet.note("Medusa is deployed into both, into one of them without a secret");

    let rows = deployment::back_up_rotate_restore(&mut fleet, plain).await;
    fleet.note("backed up, credentials rotated, backed up again, dropped, restored");

    let (bare, lent) = (fleet.datacenter(plain.0, plain.1, plain.2), fleet.datacenter(2, "lent", "dc1"));
    tokio::join!(deployment::remove(&fleet, bare, rows), deployment::upgrade(&fleet, lent));
    fleet.note("Medusa is taken out again; where it stays it is a newer one");
    releases::expect_untroubled(fleet.clusters()).await;
}
