//! What a look at a Delegated schedule could not read, and what was said of that before: it stands until it is read
//! again. Pure.

use std::collections::BTreeSet;

use super::{delegate::can_write, history::History};
use crate::{
    api::fleet::DatacenterRun,
    control_plane::data_planes::{fleet::Snapshot, view::ObjectKey},
};

/// What nobody knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Data planes that do not answer, or have not listed all runs of the schedule.
    planes: BTreeSet<String>,
    /// Datacenters whose MedusaBackupSchedule is not as it should be.
    places: BTreeSet<String>,
}

impl Unread {
    /// Of the registered `planes` and the datacenters that are `wanted`, of which `there` have their
    /// MedusaBackupSchedule.
    #[must_use]
    pub fn of(wanted: &[DatacenterRun], there: &[(DatacenterRun, ObjectKey)], planes: &[Snapshot]) -> Self {
        let is_read = |plane: &Snapshot| {
            let mut own = there.iter().filter(|(entry, _)| entry.data_plane == plane.name);
            can_write(plane) && own.all(|(_, key)| History::of(plane, key).is_some())
        };
        let scheduled: BTreeSet<String> = there.iter().map(|(entry, _)| entry.place()).collect();
        Self {
            planes: planes.iter().filter(|plane| !is_read(plane)).map(|plane| plane.name.clone()).collect(),
            places: wanted.iter().map(DatacenterRun::place).filter(|p| !scheduled.contains(p)).collect(),
        }
    }

    /// Whether that data plane was not read.
    #[must_use]
    pub fn has_plane(&self, plane: &str) -> bool {
        self.planes.contains(plane)
    }

    /// Whether something in that data plane was not read.
    #[must_use]
    pub fn has_part_of(&self, plane: &str) -> bool {
        self.has_plane(plane) || self.places.iter().any(|place| plane_of(place) == plane)
    }

    /// What is to be said: all of `new`, and what was said `before` of places that were not read and of which `new`
    /// says nothing. In the order of the places, so that nothing moves when they are read again.
    #[must_use]
    pub fn and_standing(&self, new: impl IntoIterator<Item = String>, before: &[String]) -> Vec<String> {
        let mut all: Vec<String> = new.into_iter().collect();
        let known: BTreeSet<String> =
            all.iter().filter_map(|part| place_of(part)).map(str::to_owned).collect();
        let stands = |part: &&String| {
            place_of(part).is_some_and(|place| {
                let is_unread = self.places.contains(place) || self.has_plane(plane_of(place));
                is_unread && !known.contains(place)
            })
        };
        all.extend(before.iter().filter(stands).cloned());
        all.sort();
        all.dedup();
        all
    }
}

fn plane_of(place: &str) -> &str {
    place.split('/').next().unwrap_or_default()
}

/// The datacenter that a part of a message is about.
#[must_use]
pub fn place_of(part: &str) -> Option<&str> {
    let (place, _) = part.split_once(": ")?;
    (place.split('/').count() == 3 && !place.contains(' ')).then_some(place)
}

/// The parts of a message that `first_of` made, one for each datacenter. Any other message is one part.
#[must_use]
pub fn parts(message: &str) -> Vec<String> {
    let is_count = |tail: &str| tail.strip_suffix(" more").is_some_and(|n| n.parse::<usize>().is_ok());
    let message = match message.rsplit_once("; and ") {
        Some((shown, tail)) if is_count(tail) => shown,
        _ => message,
    };
    let mut parts: Vec<String> = Vec::new();
    for piece in message.split("; ").filter(|piece| !piece.is_empty()) {
        match parts.last_mut() {
            // What is said of a place may have such a mark in it.
            Some(last) if place_of(piece).is_none() => {
                last.push_str("; ");
                last.push_str(piece);
            }
            _ => parts.push(piece.to_owned()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{super::results::first_of, *};
    use crate::control_plane::fanout::tests::{live, pending, plane};

    fn said(places: &[&str]) -> Vec<String> {
        places
            .iter()
            .map(|place| format!("{place}: 2 slots passed; only the latest, of today, ran"))
            .collect()
    }

    #[test]
    fn a_message_is_read_back_as_it_was_put_together() {
        let all = said(&["eu/ns/dc1", "eu/ns/dc10", "us/ns/dc1", "us/ns/dc2"]);
        assert_eq!(parts(&first_of(&all)), all[..3]);
        assert_eq!(parts(&first_of(&all[..2])), all[..2]);
        assert_eq!(parts(""), [""; 0]);
        let own = "3 slots passed; only the latest, of today, was caught up with";
        assert_eq!(parts(own), [own]);
        assert_eq!((place_of(&all[1]), place_of(own)), (Some("eu/ns/dc10"), None));
    }

    #[test]
    fn what_was_said_stands_only_where_nobody_reads_and_nothing_new_is_said() {
        let before = said(&["ap/ns/dc1", "eu/ns/dc1", "eu/ns/dc10", "us/ns/dc1"]);
        let unread = Unread { planes: ["us".to_owned()].into(), places: ["eu/ns/dc10".to_owned()].into() };
        let new = || vec!["eu/ns/dc2: it failed".to_owned()];
        assert_eq!(unread.and_standing(new(), &before), [&before[2..3], &new(), &before[3..]].concat());
        let again = || vec!["us/ns/dc1: it failed".to_owned()];
        assert_eq!(unread.and_standing(again(), &before), [&before[2..3], &again()].concat());
        assert_eq!(Unread::default().and_standing(new(), &before), new(), "gone, or over");
        assert!(unread.has_part_of("eu") && !unread.has_plane("eu") && !unread.has_part_of("e"));
    }

    #[test]
    fn a_data_plane_that_cannot_be_asked_and_a_datacenter_without_its_schedule_are_unread() {
        let planes = [plane("eu", live(&[]))];
        let unread = Unread::of(&[pending("eu", "dc1"), pending("gone", "dc1")], &[], &planes);
        assert!(unread.has_plane("eu") && unread.places.contains("eu/ns/dc1"));
        assert!(!unread.has_plane("gone"), "it is registered no more");
    }
}
