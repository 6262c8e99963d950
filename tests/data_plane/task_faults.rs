//! Tasks among peers that are slow, hang, refuse, restart, vanish or lie.

use std::time::Duration;

use medusa_fleet::api::{Conditions as _, medusa::MedusaTask};
use serde_json::json;

use crate::{
    fake_medusa::{Call, Script},
    medusa_tasks::told,
    scripted_datacenter::ScriptedDatacenter,
    support::{eventually, like},
};

const FIRST: &str = "shop-dc1-default-sts-0";
const SECOND: &str = "shop-dc1-default-sts-1";

fn list(list: Call) -> Script {
    Script { list, ..Script::default() }
}

/// Upstream ends such a sync without a result, as if it had gone well (U§8.D.1).
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_no_pod_answers_fails() {
    let refusing = Call { fails: usize::MAX, ..Call::default() };
    let dc = ScriptedDatacenter::new(2, list(refusing)).await;
    let _data_plane = dc.data_plane().await;
    dc.task("s", "sync", json!({})).await;
    let status = dc.assert_task_failed("s", "CallRefused").await;
    assert_eq!(status.failed, [FIRST, SECOND]);
    assert!(status.finished.is_empty());
    let message = status.message.unwrap();
    assert!(message.contains("scripted") && message.contains(FIRST), "{message}");
    assert!(dc.called("GetBackups") > 2, "it was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_whose_pods_are_out_of_reach_fails_within_the_budget() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.peers.iter().for_each(crate::fake_medusa::Peer::kill);
    let _data_plane = dc.data_plane().await;
    dc.task("s", "sync", json!({})).await;
    let status = dc.assert_task_failed("s", "NodeUnreachable").await;
    assert_eq!(status.failed, [FIRST, SECOND]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_pod_hangs_the_next_is_asked() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.stored("b1");
    dc.peers[0].script(|s| s.list.hangs = usize::MAX);
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    let status = dc.assert_task_succeeded("s").await;
    assert_eq!(status.finished[0].pod_name.as_deref(), Some(SECOND));
    assert_eq!(dc.backups().await.len(), 1);
    assert_eq!(dc.peers[0].called("GetBackups"), 1, "it hung when the other had answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_the_next_pod_is_asked_at_once() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.stored("b1");
    dc.peers[0].script(|s| s.list.fails = usize::MAX);
    dc.peers[1].kill();
    let timings = medusa_fleet::data_plane::Timings {
        list_hedge: Duration::from_secs(600),
        ..crate::scripted_datacenter::timings()
    };
    let _data_plane = dc.data_plane_with(crate::support::gate::Gate::default(), timings).await;
    dc.sync("s").await;
    let status = dc.assert_task_succeeded("s").await;
    assert_eq!(status.finished[0].pod_name.as_deref(), Some("shop-dc1-default-sts-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_an_address_is_passed_over() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.stored("b1");
    // Ready, so that it comes first, as its name does.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop-dc1-a", "labels": {
            "cassandra.datastax.com/cluster": "Shop", "cassandra.datastax.com/datacenter": "dc1"
        }},
        "spec": {"containers": [{"name": "medusa", "image": "none"}]}
    });
    dc.create::<k8s_openapi::api::core::v1::Pod>(pod).await;
    let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    dc.pod_status("shop-dc1-a", json!({"conditions": ready})).await;
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    let status = dc.assert_task_succeeded("s").await;
    assert_eq!(status.finished[0].pod_name.as_deref(), Some(FIRST));
    // A purge needs it, and says so when it has been without an address for too long.
    dc.task("p", "purge", json!({})).await;
    let status = dc.assert_task_failed("p", "NodeUnreachable").await;
    assert_eq!(status.failed, ["shop-dc1-a"]);
    assert!(status.message.unwrap().contains("no address"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_listing_is_waited_for() {
    let slow = Call { takes: Duration::from_millis(1500), ..Call::default() };
    let dc = ScriptedDatacenter::new(1, list(slow)).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    dc.assert_task_succeeded("s").await;
    assert_eq!(dc.called("GetBackups"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_after_the_deadline_is_none() {
    let late = Call { takes: Duration::from_millis(2500), ..Call::default() };
    let dc = ScriptedDatacenter::new(1, list(late)).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.task("s", "sync", json!({})).await;
    dc.assert_task_failed("s", "NodeUnreachable").await;
    assert!(dc.backups().await.is_empty());
}

/// An empty message reads as a storage without backups; it is not what a Medusa says of one.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_message_is_no_listing() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    dc.peers[0].script(|s| s.list.empty = usize::MAX);
    let status = dc.sync("t").await;
    assert_eq!(status.finished[0].pod_name.as_deref(), Some(SECOND));
    dc.peers[1].script(|s| s.list.empty = usize::MAX);
    dc.task("u", "sync", json!({})).await;
    let status = dc.assert_task_failed("u", "CallRefused").await;
    assert!(status.message.unwrap().contains("empty message"));
    assert_eq!(dc.backups().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_restarted_while_it_lists_is_asked_again() {
    let slow = Call { takes: Duration::from_millis(1500), ..Call::default() };
    let dc = ScriptedDatacenter::new(1, list(slow)).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.task("s", "sync", json!({})).await;
    eventually("it is asked", async || like(dc.called("GetBackups"), |n| *n == 1)).await;
    dc.peers[0].kill();
    dc.peers[0].script(|s| *s = Script::default());
    dc.peers[0].revive().await;
    dc.assert_task_succeeded("s").await;
}

/// Upstream's pods wait for each other (U§8.D.2).
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_purge_delays_no_other_pod_and_is_sent_again() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    dc.peers[0].script(|s| s.purge.hangs = 1);
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    eventually("the others are written as finished", async || {
        let status = dc.task_status("p").await;
        like(status, |status| status.finished.len() == 2 && status.in_progress == [FIRST])
    })
    .await;
    let status = dc.assert_task_succeeded("p").await;
    assert!(status.finished.iter().all(|f| f.nb_backups_purged == Some(1)));
    assert_eq!(dc.peers[0].called("PurgeBackups"), 2);
    dc.assert_task_succeeded("p-sync").await;
    assert_eq!(dc.backups().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_answered_after_the_deadline_is_asked_for_again_and_has_been_done() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    dc.peers[0].script(|s| s.purge.takes = Duration::from_millis(2300));
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    let peer = &dc.peers[0];
    eventually("it is carried out though nobody waits", async || {
        like(dc.storage.has(FIRST, "b1"), |is_there| !is_there)
    })
    .await;
    peer.script(|s| s.purge.takes = Duration::ZERO);
    let status = dc.assert_task_succeeded("p").await;
    assert_eq!(status.finished[0].nb_backups_purged, Some(0), "the second time there was nothing left");
    dc.assert_task_succeeded("p-sync").await;
    assert_eq!(dc.backups().await.len(), 1);
}

/// Upstream shows such a purge as finished (U§8.D.5).
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_refuses_to_purge_fails_the_task_by_name_and_the_others_count() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    dc.peers[1].script(|s| s.purge.fails = usize::MAX);
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    let status = dc.assert_task_failed("p", "CallRefused").await;
    assert_eq!(status.failed, [SECOND]);
    assert_eq!(status.finished.len(), 2);
    assert!(status.message.unwrap().contains("1 of 3 pods failed. shop-dc1-default-sts-1: "));
    // What the others purged shows all the same.
    dc.assert_task_succeeded("p-sync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_fails_on_every_pod_still_looks_at_the_storage() {
    let refusing = Call { fails: usize::MAX, ..Call::default() };
    let dc = ScriptedDatacenter::new(2, Script { purge: refusing, ..Script::default() }).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    let status = dc.assert_task_failed("p", "CallRefused").await;
    assert_eq!((status.failed.len(), status.finished.len()), (2, 0));
    dc.assert_task_succeeded("p-sync").await;
    assert_eq!(dc.backups().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_restarted_while_it_purges_is_asked_again() {
    let slow = Call { takes: Duration::from_millis(1500), ..Call::default() };
    let dc = ScriptedDatacenter::new(2, Script { purge: slow, ..Script::default() }).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    eventually("it is asked", async || like(dc.peers[0].called("PurgeBackups"), |n| *n == 1)).await;
    dc.peers[0].kill();
    dc.peers[0].script(|s| *s = Script::default());
    dc.peers[0].revive().await;
    let status = dc.assert_task_succeeded("p").await;
    assert_eq!(status.finished[0].nb_backups_purged, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_and_stays_away_fails_and_one_that_is_replaced_does_not() {
    let hanging = Call { hangs: usize::MAX, ..Call::default() };
    let dc = ScriptedDatacenter::new(3, Script { purge: hanging, ..Script::default() }).await;
    dc.peers[2].script(|s| s.purge = Call::default());
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    eventually("all are asked", async || like(dc.called("PurgeBackups"), |n| *n == 3)).await;
    for peer in &dc.peers[..2] {
        peer.kill();
        dc.delete_pod(&peer.node).await;
    }
    dc.peers[0].script(|s| *s = Script::default());
    dc.create_pod(FIRST, &dc.medusa_pod(&dc.peers[0])).await;
    dc.peers[0].revive().await;
    let status = dc.assert_task_failed("p", "PodGone").await;
    assert_eq!(status.failed, [SECOND]);
    let finished: Vec<_> = status.finished.iter().filter_map(|f| f.pod_name.as_deref()).collect();
    assert_eq!(finished, [FIRST, "shop-dc1-default-sts-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_task_ends_its_calls_and_makes_no_follow_up() {
    let hanging = Call { hangs: usize::MAX, ..Call::default() };
    let dc = ScriptedDatacenter::new(2, Script { purge: hanging, ..Script::default() }).await;
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    eventually("all are asked", async || like(dc.called("PurgeBackups"), |n| *n == 2)).await;
    dc.delete::<MedusaTask>("p").await;
    dc.disconnected().await;
    assert!(dc.find::<MedusaTask>("p-sync").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn preparing_to_restore_what_does_not_exist_fails_at_once() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    let timings = medusa_fleet::data_plane::Timings {
        summary: Duration::from_secs(3600),
        silence: Duration::from_secs(3600),
        ..crate::scripted_datacenter::timings()
    };
    let _data_plane = dc.data_plane_with(crate::support::gate::Gate::default(), timings).await;
    dc.task("r", "prepare_restore", json!({"backupName": "nope", "restoreKey": "k"})).await;
    let status = dc.assert_task_failed("r", "BackupNotFound").await;
    assert_eq!(status.failed.len(), 2);
    assert_eq!(dc.called("PrepareRestore"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_that_hangs_is_asked_for_again_and_one_that_is_refused_fails() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.stored("b1");
    dc.peers[0].script(|s| s.prepare.hangs = 1);
    dc.peers[1].script(|s| s.prepare.fails = usize::MAX);
    let _data_plane = dc.data_plane().await;
    dc.task("r", "prepare_restore", json!({"backupName": "b1", "restoreKey": "k"})).await;
    let status = dc.assert_task_failed("r", "CallRefused").await;
    assert_eq!(status.failed, [SECOND]);
    assert_eq!(status.finished.len(), 2);
    assert_eq!(dc.peers[0].called("PrepareRestore"), 2);
    assert!(told(&status).contains(SECOND));
    assert!(!status.conditions.is_true("Complete"));
}
