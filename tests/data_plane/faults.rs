//! Peers that are slow, hang, refuse, restart, vanish or lie.

use std::time::{Duration, Instant};

use medusa_fleet::api::Conditions as _;

use crate::{
    fake_medusa::Script,
    scripted_datacenter::ScriptedDatacenter,
    support::{eventually, like},
};

fn running() -> Script {
    Script { done_after: Duration::from_secs(600), ..Script::default() }
}

/// The job failed for that reason, no MedusaBackup says SUCCESS, and all connections are closed.
async fn assert_failed(
    dc: &ScriptedDatacenter,
    reason: &str,
) -> medusa_fleet::api::medusa::MedusaBackupJobStatus {
    let status = dc.finished("b1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", reason), "{}", failed.message);
    assert!(!status.conditions.is_true("Complete"));
    assert_eq!(status.message.as_ref(), Some(&failed.message));
    assert!(dc.backup("b1").await.is_none());
    dc.disconnected().await;
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_node_fails_the_job_by_name_after_the_others_have_ended() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.peers[1].script(|s| s.fails = true);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = assert_failed(&dc, "NodesFailed").await;
    assert_eq!(status.failed, ["shop-dc1-default-sts-1"]);
    assert_eq!(status.finished.len(), 2);
    assert!(status.message.unwrap().contains("shop-dc1-default-sts-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_node_delays_neither_the_other_nodes_nor_other_jobs() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.peers[0].script(|s| s.status_hangs = 2);
    let _data_plane = dc.data_plane().await;
    let begun = Instant::now();
    dc.job("b1", "dc1").await;
    eventually("the others are written as finished", async || {
        like(dc.status("b1").await, |status| status.finished.len() == 2)
    })
    .await;
    let others = begun.elapsed();
    let status = dc.finished("b1").await;
    println!("others after {others:?}, all after {:?}", begun.elapsed());
    assert_eq!(status.finished.len(), 3);
    assert_eq!(dc.peers[0].starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_are_waited_for() {
    let dc =
        ScriptedDatacenter::new(5, Script { status_takes: Duration::from_millis(700), ..Script::default() })
            .await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    assert_eq!(dc.finished("b1").await.finished.len(), 5);
    assert!(dc.starts().values().all(|n| *n == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_after_the_deadline_are_none() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.peers[1].script(|s| s.status_takes = Duration::from_millis(2500));
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = assert_failed(&dc, "NodeUnreachable").await;
    assert_eq!(status.failed, [dc.peers[1].node.clone()]);
    assert_eq!(dc.peers[1].starts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_not_answered_is_not_sent_again() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.peers[0].script(|s| s.start_hangs = 1);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    assert_eq!(dc.finished("b1").await.finished.len(), 2);
    assert_eq!(dc.peers[0].starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_to_start_fails_within_the_budget() {
    let dc = ScriptedDatacenter::new(2, Script { refuses: true, ..Script::default() }).await;
    dc.peers[1].script(|s| s.refuses = false);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = assert_failed(&dc, "BackupNotStarted").await;
    assert!(status.message.unwrap().contains("scripted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_not_progress_for_ever() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.peers[0].script(|s| s.answers_empty = true);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    assert_failed(&dc, "NodeUnreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_summary_is_none() {
    let dc = ScriptedDatacenter::new(1, Script { summary_empty: usize::MAX, ..Script::default() }).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = assert_failed(&dc, "BackupIncomplete").await;
    assert!(status.message.unwrap().contains("without a summary"));
    assert!(dc.backup("b1").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_that_is_down_for_a_while_is_waited_for() {
    let dc = ScriptedDatacenter::new(2, running()).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    eventually("all are started", async || like(dc.starts(), |starts| starts.values().all(|n| *n == 1)))
        .await;
    dc.peers.iter().for_each(|p| p.script(|s| s.done_after = Duration::ZERO));
    // The network is gone, the process is not: what it has written is what counts.
    dc.storage.begin(&dc.peers[0].node, "b1");
    dc.storage.finish(&dc.peers[0].node, "b1");
    dc.peers[0].kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    dc.peers[0].revive().await;
    assert_eq!(dc.finished("b1").await.finished.len(), 2);
    assert_eq!(dc.peers[0].starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_restarted_during_the_backup_is_named_as_the_cause() {
    let dc = ScriptedDatacenter::new(2, running()).await;
    dc.peers[1].script(|s| s.done_after = Duration::ZERO);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let node = dc.peers[0].node.clone();
    eventually("it has begun", async || like(dc.storage.has(&node, "b1"), |is_there| *is_there)).await;
    dc.peers[0].kill();
    dc.medusa_container(&node, "fake://2").await;
    dc.peers[0].revive().await;
    let status = assert_failed(&dc, "MedusaRestarted").await;
    assert_eq!(status.failed, [node]);
    assert_eq!(dc.peers[0].starts(), 1, "a name is never sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_restarted_before_it_wrote_anything_is_started_again() {
    let script = Script { visible_after: Duration::from_secs(600), ..running() };
    let dc = ScriptedDatacenter::new(1, script).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    eventually("it is started", async || like(dc.peers[0].starts(), |starts| *starts == 1)).await;
    dc.peers[0].kill();
    dc.peers[0].script(|s| *s = Script::default());
    dc.delete_pod(&dc.peers[0].node).await;
    dc.create_pod(&dc.peers[0].node, &dc.medusa_pod(&dc.peers[0])).await;
    dc.peers[0].revive().await;
    let status = dc.finished("b1").await;
    assert_eq!(status.finished.len(), 1, "{status:?}");
    assert_eq!(dc.peers[0].starts(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_and_stays_away_is_reported() {
    let dc = ScriptedDatacenter::new(2, running()).await;
    dc.peers[0].script(|s| s.done_after = Duration::ZERO);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    eventually("all are started", async || like(dc.starts(), |starts| starts.values().all(|n| *n == 1)))
        .await;
    dc.peers[1].kill();
    dc.delete_pod(&dc.peers[1].node).await;
    let status = assert_failed(&dc, "PodGone").await;
    assert_eq!(status.failed, [dc.peers[1].node.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_out_of_reach_fails_within_the_budget() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.peers[1].kill();
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = assert_failed(&dc, "NodeUnreachable").await;
    assert_eq!(status.failed, [dc.peers[1].node.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_added_during_the_backup_makes_it_incomplete() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.storage.add_node("shop-dc1-default-sts-2");
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = assert_failed(&dc, "BackupIncomplete").await;
    assert!(status.message.unwrap().contains("2 of 3 nodes"));
}
