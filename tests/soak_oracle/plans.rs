//! That a plan depends on nothing but its terms, and leaves nothing on.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    action::Action,
    plan::{self, Terms, plan},
};

fn terms(seed: u64, minutes: u64) -> Terms {
    Terms { seed, length: Duration::from_secs(minutes * 60), planes: 20 }
}

#[test]
fn the_same_terms_are_the_same_plan_and_another_seed_is_another() {
    assert_eq!(plan(terms(7, 10)), plan(terms(7, 10)));
    assert_ne!(plan(terms(7, 10)), plan(terms(8, 10)));
    assert_ne!(plan(terms(0, 10)), plan(terms(1, 10)));
}

#[test]
fn every_plan_keeps_its_time_and_leaves_nothing_on() {
    for (seed, minutes) in (0..20).map(|seed| (seed, 2)).chain([(7, 45), (8, 120)]) {
        let steps = plan(terms(seed, minutes));
        assert!(steps.is_sorted_by_key(|step| step.at), "{seed}");
        assert!(steps.last().unwrap().at <= Duration::from_secs(minutes * 60), "{seed}");
        let (mut faults, mut broken, mut schedules) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut is_stopped = false;
        for step in steps {
            match step.action {
                Action::Fault(_, planes) => {
                    assert_eq!(planes.len(), 2, "a tenth, {seed}");
                    faults.extend(planes);
                }
                Action::Heal(planes) => faults.retain(|plane| !planes.contains(plane)),
                Action::Break(plane) => assert!(broken.insert(plane)),
                Action::Mend(plane) => assert!(broken.remove(&plane)),
                Action::Schedule(timetable) => assert!(schedules.insert(timetable.name)),
                Action::Unschedule(name) => assert!(schedules.remove(&name)),
                Action::Kill => assert!(step.at <= plan::last_kill(terms(seed, minutes).length)),
                Action::Stop => is_stopped = true,
                Action::Continue => is_stopped = false,
                _ => {}
            }
        }
        assert!(faults.is_empty() && broken.is_empty() && schedules.is_empty() && !is_stopped, "{seed}");
    }
}

#[test]
fn hours_have_every_fault_and_every_action() {
    let steps = plan(terms(7, 120));
    let faults: BTreeSet<String> = steps
        .iter()
        .filter_map(
            |step| if let Action::Fault(fault, _) = &step.action { Some(fault.to_string()) } else { None },
        )
        .collect();
    assert_eq!(faults.len(), plan::faults().len());
    let words: BTreeSet<String> = steps
        .iter()
        .map(|step| {
            step.action.to_string().split(|c: char| !c.is_alphabetic()).take(3).collect::<Vec<_>>().join(" ")
        })
        .collect();
    for word in [
        "create FleetRestoreJob restore",
        "kill",
        "SIGSTOP the control",
        "unregister sim",
        "cancel FleetBackupJob backup",
    ] {
        assert!(words.iter().any(|said| said.starts_with(word)), "{word}: {words:?}");
    }
}
