//! Peers that are slow, hang, refuse, restart, vanish or lie.

use std::time::{Duration, Instant};

use medusa_fleet::api::Conditions as _;

use crate::{
    fake_medusa::Script,
    support::{eventually, like},
    world::World,
};

fn running() -> Script {
    Script { done_after: Duration::from_secs(600), ..Script::default() }
}

/// The job failed for that reason, no MedusaBackup says SUCCESS, and all connections are closed.
async fn assert_failed(world: &World, reason: &str) -> medusa_fleet::api::medusa::MedusaBackupJobStatus {
    let status = world.finished("b1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", reason), "{}", failed.message);
    assert!(!status.conditions.is_true("Complete"));
    assert_eq!(status.message.as_ref(), Some(&failed.message));
    assert!(world.backup("b1").await.is_none());
    world.disconnected().await;
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_node_fails_the_job_by_name_after_the_others_have_ended() {
    let world = World::new(3, Script::default()).await;
    world.peers[1].script(|s| s.fails = true);
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = assert_failed(&world, "NodesFailed").await;
    assert_eq!(status.failed, ["shop-dc1-default-sts-1"]);
    assert_eq!(status.finished.len(), 2);
    assert!(status.message.unwrap().contains("shop-dc1-default-sts-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_node_delays_neither_the_other_nodes_nor_other_jobs() {
    let world = World::new(3, Script::default()).await;
    world.peers[0].script(|s| s.status_hangs = 2);
    let _data_plane = world.data_plane().await;
    let begun = Instant::now();
    world.job("b1", "dc1").await;
    eventually("the others are written as finished", async || {
        like(world.status("b1").await, |status| status.finished.len() == 2)
    })
    .await;
    let others = begun.elapsed();
    let status = world.finished("b1").await;
    println!("others after {others:?}, all after {:?}", begun.elapsed());
    assert_eq!(status.finished.len(), 3);
    assert_eq!(world.peers[0].starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_are_waited_for() {
    let world = World::new(5, Script { status_takes: Duration::from_millis(700), ..Script::default() }).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    assert_eq!(world.finished("b1").await.finished.len(), 5);
    assert!(world.starts().values().all(|n| *n == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_after_the_deadline_are_none() {
    let world = World::new(2, Script::default()).await;
    world.peers[1].script(|s| s.status_takes = Duration::from_millis(2500));
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = assert_failed(&world, "NodeUnreachable").await;
    assert_eq!(status.failed, [world.peers[1].node.clone()]);
    assert_eq!(world.peers[1].starts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_not_answered_is_not_sent_again() {
    let world = World::new(2, Script::default()).await;
    world.peers[0].script(|s| s.start_hangs = 1);
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    assert_eq!(world.finished("b1").await.finished.len(), 2);
    assert_eq!(world.peers[0].starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_to_start_fails_within_the_budget() {
    let world = World::new(2, Script { refuses: true, ..Script::default() }).await;
    world.peers[1].script(|s| s.refuses = false);
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = assert_failed(&world, "BackupNotStarted").await;
    assert!(status.message.unwrap().contains("scripted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_not_progress_for_ever() {
    let world = World::new(1, Script::default()).await;
    world.peers[0].script(|s| s.answers_empty = true);
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    assert_failed(&world, "NodeUnreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_summary_is_none() {
    let world = World::new(1, Script { summary_empty: usize::MAX, ..Script::default() }).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = assert_failed(&world, "BackupIncomplete").await;
    assert!(status.message.unwrap().contains("without a summary"));
    assert!(world.backup("b1").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_that_is_down_for_a_while_is_waited_for() {
    let world = World::new(2, running()).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    eventually("all are started", async || like(world.starts(), |starts| starts.values().all(|n| *n == 1)))
        .await;
    world.peers.iter().for_each(|p| p.script(|s| s.done_after = Duration::ZERO));
    // The network is gone, the process is not: what it has written is what counts.
    world.storage.begin(&world.peers[0].node, "b1");
    world.storage.finish(&world.peers[0].node, "b1");
    world.peers[0].kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.peers[0].revive().await;
    assert_eq!(world.finished("b1").await.finished.len(), 2);
    assert_eq!(world.peers[0].starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_restarted_during_the_backup_is_named_as_the_cause() {
    let world = World::new(2, running()).await;
    world.peers[1].script(|s| s.done_after = Duration::ZERO);
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let node = world.peers[0].node.clone();
    eventually("it has begun", async || like(world.storage.has(&node, "b1"), |is_there| *is_there)).await;
    world.peers[0].kill();
    world.medusa_container(&node, "fake://2").await;
    world.peers[0].revive().await;
    let status = assert_failed(&world, "MedusaRestarted").await;
    assert_eq!(status.failed, [node]);
    assert_eq!(world.peers[0].starts(), 1, "a name is never sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_restarted_before_it_wrote_anything_is_started_again() {
    let script = Script { visible_after: Duration::from_secs(600), ..running() };
    let world = World::new(1, script).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    eventually("it is started", async || like(world.peers[0].starts(), |starts| *starts == 1)).await;
    world.peers[0].kill();
    world.peers[0].script(|s| *s = Script::default());
    world.delete_pod(&world.peers[0].node).await;
    world.create_pod(&world.peers[0].node, &world.medusa_pod(&world.peers[0])).await;
    world.peers[0].revive().await;
    let status = world.finished("b1").await;
    assert_eq!(status.finished.len(), 1, "{status:?}");
    assert_eq!(world.peers[0].starts(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_and_stays_away_is_reported() {
    let world = World::new(2, running()).await;
    world.peers[0].script(|s| s.done_after = Duration::ZERO);
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    eventually("all are started", async || like(world.starts(), |starts| starts.values().all(|n| *n == 1)))
        .await;
    world.peers[1].kill();
    world.delete_pod(&world.peers[1].node).await;
    let status = assert_failed(&world, "PodGone").await;
    assert_eq!(status.failed, [world.peers[1].node.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_out_of_reach_fails_within_the_budget() {
    let world = World::new(2, Script::default()).await;
    world.peers[1].kill();
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = assert_failed(&world, "NodeUnreachable").await;
    assert_eq!(status.failed, [world.peers[1].node.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_added_during_the_backup_makes_it_incomplete() {
    let world = World::new(2, Script::default()).await;
    world.storage.add_node("shop-dc1-default-sts-2");
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = assert_failed(&world, "BackupIncomplete").await;
    assert!(status.message.unwrap().contains("2 of 3 nodes"));
}
