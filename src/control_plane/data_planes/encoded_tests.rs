//! What one replica hands on is the same on the other side, and what is news in it is told.

use kube::core::ObjectMeta;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{
    arbitrary::{kind, read},
    cassandra::CassandraDatacenter,
    labels,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaRestoreJob, MedusaTask},
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn job(run: &str, version: &str) -> Arc<MedusaBackupJob> {
    let metadata = ObjectMeta {
        name: Some("j".to_owned()),
        labels: Some([(labels::JOB.to_owned(), run.to_owned())].into()),
        resource_version: Some(version.to_owned()),
        ..ObjectMeta::default()
    };
    Arc::new(MedusaBackupJob { metadata, ..MedusaBackupJob::default() })
}

fn hand_on(view: &View) -> Encoded {
    decode(&encode(&text(view, &json!("well")).unwrap()).unwrap()).unwrap()
}

fn synced() -> View {
    let mut view = View::unknown();
    view.set_synced();
    view
}

/// Takes over what `of` says; returns what was news.
fn take(of: &View, view: &mut View, taken: &mut Taken, now: Timestamp) -> Changes {
    hand_on(of).apply(view, taken, now).unwrap()
}

/// What is in a view, as text, apart from what only its process knows.
fn shown(view: &View) -> String {
    String::from_utf8(text(view, &json!(null)).unwrap()).unwrap()
}

fn put<W: Shown<Object: Sized>>(view: &mut View, object: Option<W::Object>) {
    if let Some(kept) = object.and_then(|object| W::keep(&object)) {
        W::section(view).put(key("o"), Arc::new(kept));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_kept_of_an_object_is_the_same_on_the_other_side(
        job in kind("MedusaBackupJob"), task in kind("MedusaTask"),
        backup in kind("MedusaBackup"), schedule in kind("MedusaBackupSchedule"), restore in kind("MedusaRestoreJob"),
    ) {
        let mut view = synced();
        let datacenter = json!({
            "metadata": {"name": "o", "namespace": "ns"}, "spec": {"clusterName": "c", "size": 3, "stopped": true},
            "status": {"cassandraOperatorProgress": "Ready"}
        });
        put::<watched::Datacenters>(&mut view, read::<CassandraDatacenter>(datacenter));
        put::<watched::Jobs>(&mut view, read::<MedusaBackupJob>(job));
        put::<watched::Tasks>(&mut view, read::<MedusaTask>(task));
        put::<watched::Backups>(&mut view, read::<MedusaBackup>(backup));
        put::<watched::Schedules>(&mut view, read::<MedusaBackupSchedule>(schedule));
        put::<watched::Restores>(&mut view, read::<MedusaRestoreJob>(restore));
        let (mut there, mut taken) = (View::unknown(), Taken::default());
        take(&view, &mut there, &mut taken, NOW);
        prop_assert_eq!(shown(&view), shown(&there));
        prop_assert_eq!(view.weight(), there.weight());
        prop_assert!(view.datacenters.last(&key("o")) == there.datacenters.last(&key("o")));
        prop_assert!(view.backups.last(&key("o")) == there.backups.last(&key("o")));
        prop_assert_eq!(take(&view, &mut there, &mut taken, NOW), Changes::default(), "nothing is news twice");
    }

    #[test]
    fn whatever_bytes_there_are_they_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        if let Ok(found) = decode(&encode(&bytes).unwrap()) {
            let _ = found.apply(&mut View::unknown(), &mut Taken::default(), NOW);
        }
    }
}

#[test]
fn what_changed_is_told_to_whom_it_concerns() {
    let (mut of, mut view, mut taken) = (synced(), View::unknown(), Taken::default());
    let first = take(&of, &mut view, &mut taken, NOW);
    assert!(first.contact && first.runs.is_empty(), "{first:?}");
    of.jobs.put(key("j"), job("nightly", "1"));
    let run = |kind: Kind, run: &str| BTreeSet::from([(kind, run.to_owned())]);
    let changes = take(&of, &mut view, &mut taken, NOW);
    assert_eq!(changes, Changes { runs: run(Kind::Jobs, "nightly"), ..Changes::default() });
    of.backups.put(key("j"), Arc::default());
    let changes = take(&of, &mut view, &mut taken, NOW);
    assert_eq!((changes.kinds, changes.runs), ([Kind::Backups].into(), run(Kind::Jobs, "nightly")));
    of.jobs.remove(&key("j"));
    assert_eq!(take(&of, &mut view, &mut taken, NOW).runs, run(Kind::Jobs, "nightly"), "also one that went");
    of.tasks.trust.fail(NOW, "no answer");
    assert!(take(&of, &mut view, &mut taken, NOW).contact);
    assert!(!view.is_live());
    of.contact = Contact::Lost { since: NOW, why: "silent".to_owned() };
    assert!(take(&of, &mut view, &mut taken, NOW).contact);
    assert_eq!(view.contact, of.contact);
}

#[test]
fn what_this_process_wrote_stays_until_the_other_has_seen_it() {
    let (mut of, mut view, mut taken) = (synced(), View::unknown(), Taken::default());
    take(&of, &mut view, &mut taken, NOW);
    let after = |seconds| NOW + jiff::SignedDuration::from_secs(seconds);
    view.jobs.show(key("j"), 7, job("nightly", "7"), NOW);
    // Another child changed meanwhile: what is published is of before our write.
    of.jobs.put(key("other"), job("weekly", "6"));
    take(&of, &mut view, &mut taken, after(1));
    assert!(view.jobs.last(&key("j")).is_some() && view.runs_ahead());
    of.jobs.put(key("j"), job("nightly", "9"));
    take(&of, &mut view, &mut taken, after(2));
    assert_eq!(view.jobs.last(&key("j")).unwrap().metadata.resource_version.as_deref(), Some("9"));
    assert!(!view.runs_ahead());
    // One that went after the write is gone, also where its coming was never told.
    view.jobs.show(key("k"), 10, job("nightly", "10"), after(3));
    of.jobs.went(&key("k"), "11");
    take(&of, &mut view, &mut taken, after(4));
    assert!(view.jobs.last(&key("k")).is_none());
}

#[test]
fn what_was_made_and_went_unseen_is_gone_after_a_minute_though_nothing_else_is_news() {
    let (of, mut view, mut taken) = (synced(), View::unknown(), Taken::default());
    take(&of, &mut view, &mut taken, NOW);
    let after = |seconds| NOW + jiff::SignedDuration::from_secs(seconds);
    view.jobs.show(key("j"), 7, job("nightly", "7"), NOW);
    assert_eq!(take(&of, &mut view, &mut taken, after(59)), Changes::default());
    assert!(view.jobs.last(&key("j")).is_some());
    let changes = take(&of, &mut view, &mut taken, after(60));
    assert!(view.jobs.last(&key("j")).is_none() && !view.runs_ahead());
    assert_eq!(changes.runs, [(Kind::Jobs, "nightly".to_owned())].into());
}

#[test]
fn an_older_state_of_what_this_process_wrote_does_not_come_back() {
    let (mut of, mut view, mut taken) = (synced(), View::unknown(), Taken::default());
    of.jobs.put(key("j"), job("nightly", "5"));
    take(&of, &mut view, &mut taken, NOW);
    view.jobs.show(key("j"), 7, job("renamed", "7"), NOW);
    of.jobs.put(key("other"), job("weekly", "6"));
    take(&of, &mut view, &mut taken, NOW);
    assert_eq!(view.jobs.last(&key("j")).unwrap().metadata.resource_version.as_deref(), Some("7"));
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let (mut of, mut view, mut taken) = (synced(), View::unknown(), Taken::default());
    of.jobs.put(key("j"), job("nightly", "5"));
    let text = shown(&of).replace("\"resourceVersion\":\"5\"", "\"resourceVersion\":5");
    let broken = decode(&encode(text.as_bytes()).unwrap()).unwrap();
    assert!(broken.apply(&mut view, &mut taken, NOW).is_err());
    assert_eq!(shown(&view), shown(&View::unknown()));
}

#[test]
fn what_decompresses_to_more_than_anybody_encodes_is_refused() {
    let zeros = vec![b' '; usize::try_from(LARGEST).unwrap() + 1];
    let small = encode(&zeros).unwrap();
    assert!(small.len() < 1024 * 1024, "{}", small.len());
    assert!(matches!(decode(&small), Err(NotDecoded::TooLarge)));
}
