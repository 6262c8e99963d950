//! Restores that are deleted and made again under their names, while the data plane works and while it is down: the newcomer
//! is another restore, and owes nothing to the former.

use medusa_fleet::api::{Conditions as _, medusa::MedusaRestoreJob};
use serde_json::json;

use crate::{
    cass_operator::{Behaviour, SET},
    restorable_datacenter::RestorableDatacenter,
    support::{eventually, like},
};

/// Makes `r1` as soon as its name is free.
async fn make_again(dc: &RestorableDatacenter) {
    dc.gone("r1").await;
    dc.restore("r1", "b1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_made_again_when_it_is_over_restores_again_also_when_nobody_saw_it() {
    let dc = RestorableDatacenter::new(1).await;
    let mut data_plane = Some(dc.data_plane().await);
    dc.restore("r1", "b1").await;
    let mut last = dc.finished("r1").await;
    dc.assert_restored("b1");
    for (is_down, restores) in [(false, 2), (true, 3)] {
        if is_down {
            data_plane.take().unwrap().kill();
        }
        dc.delete("r1").await;
        make_again(&dc).await;
        if is_down {
            data_plane = Some(dc.data_plane().await);
        }
        let status = dc.finished("r1").await;
        assert!(status.conditions.is_true("Complete"), "{status:#?}");
        assert_ne!(status.restore_key, last.restore_key);
        assert!(status.start_time >= last.finish_time, "{status:#?}");
        for volume in dc.operator.volumes().values() {
            assert_eq!(volume.restores, restores, "down: {is_down}");
        }
        dc.assert_clean().await;
        last = status;
    }
    drop(data_plane);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_made_again_in_the_middle_begins_anew_and_leaves_the_datacenter_as_it_was() {
    let dc = RestorableDatacenter::new(1).await;
    dc.operator.script(|s| s.pods = [(format!("{SET}-0"), Behaviour::Hangs)].into());
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.at_step("Starting").await;
    let former = dc.status("r1").await;
    dc.delete("r1").await;
    make_again(&dc).await;
    dc.operator.script(|s| s.pods.clear());
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
    assert_ne!(status.restore_key, former.restore_key);
    dc.assert_restored("b1");
    dc.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_made_again_while_nobody_sees_it_takes_over_no_step_of_the_former() {
    let dc = RestorableDatacenter::new(1).await;
    dc.operator.script(|s| s.pods = [(format!("{SET}-0"), Behaviour::Hangs)].into());
    let first = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.at_step("Starting").await;
    let former = dc.status("r1").await;
    first.kill();
    // Whoever takes the finalizer off says that nothing is to be put back for it.
    dc.delete("r1").await;
    dc.scripted.patch::<MedusaRestoreJob>("r1", json!({"metadata": {"finalizers": null}})).await;
    make_again(&dc).await;
    let _second = dc.data_plane().await;
    eventually("the newcomer is at work under a key of its own", async || {
        let status = dc.status("r1").await;
        like(status.restore_key, |key| !key.is_empty() && *key != former.restore_key)
    })
    .await;
    dc.operator.script(|s| s.pods.clear());
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
    let volumes = dc.operator.volumes();
    let held = volumes[&format!("{SET}-0")].clone();
    assert_eq!(held.holds.map(|(backup, _)| backup).as_deref(), Some("b1"));
    assert_eq!(held.last_restore, Some(status.restore_key), "the last that was restored is the newcomer's");
    dc.assert_clean().await;
}
