//! Which backups of one schedule are of one slot. Pure.
//!
//! k8ssandra-operator puts the moment it looked into a name, and data planes look a little apart. So what began nearest
//! to each other belongs together, one backup of a datacenter to a slot; the very same moment is the very same slot.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    observe::{Place, PublishedPoints},
    origin::SPREAD,
    points::{Part, PartKind, Parts, place},
};
use crate::api::names;

/// The backups of one schedule, by slot. A slot's restore point is called after the first of them, and keeps the name it
/// was published under.
pub(super) fn slots<'a>(
    parts: Vec<Part<'a>>,
    cluster: &str,
    published: &PublishedPoints,
) -> Vec<(String, Parts<'a>)> {
    let mut by_moment: BTreeMap<Timestamp, Vec<Part<'a>>> = BTreeMap::new();
    for part in parts {
        if let Some(moment) = part.origin.moment {
            by_moment.entry(moment).or_default().push(part);
        }
    }
    let mut groups: Vec<Vec<Part<'a>>> = by_moment.values_mut().map(std::mem::take).collect();
    let moments: Vec<Timestamp> = by_moment.into_keys().collect();
    let places: Vec<BTreeSet<Place<'_>>> =
        groups.iter().map(|group| group.iter().filter_map(stands_for).collect()).collect();
    let slots = joined(&moments, &places);
    let named = |slot: &Vec<usize>| {
        let parts = slot.iter().filter_map(|i| groups.get(*i)).flatten();
        let names: Vec<String> = parts.filter_map(|p| Some(p.origin.slot(p.origin.moment?))).collect();
        let kept = names.iter().find(|n| published.contains_key(&names::fleet_backup(n, cluster)));
        kept.or(names.first()).cloned()
    };
    let names: Vec<Option<String>> = slots.iter().map(named).collect();
    let mut found = Vec::new();
    for (slot, name) in slots.into_iter().zip(names) {
        let Some(name) = name else { continue };
        let mut parts = Parts::default();
        for group in slot {
            for part in groups.get_mut(group).map(std::mem::take).unwrap_or_default() {
                parts.add(part);
            }
        }
        found.push((name, parts));
    }
    found
}

/// The datacenter whose backup a part is; evidence from elsewhere is nobody's own.
fn stands_for<'p>(part: &'p Part<'_>) -> Option<Place<'p>> {
    match &part.kind {
        PartKind::Entry(entry) => Some(place(entry)),
        PartKind::Running(place) => Some(*place),
        PartKind::Stored(_) | PartKind::Foreign(_) => None,
    }
}

/// Joins moments, the nearest to each other first. A slot is the indices of its moments, ascending.
fn joined(moments: &[Timestamp], places: &[BTreeSet<Place<'_>>]) -> Vec<Vec<usize>> {
    let mut pairs = Vec::new();
    for (i, one) in moments.iter().enumerate() {
        for (j, other) in moments.iter().enumerate().skip(i + 1) {
            let distance = other.duration_since(*one);
            if distance > SPREAD {
                break;
            }
            pairs.push((distance, i, j));
        }
    }
    pairs.sort_unstable();
    let mut slot_of: Vec<usize> = (0..moments.len()).collect();
    let mut slots: Vec<Vec<usize>> = (0..moments.len()).map(|i| vec![i]).collect();
    for (_, i, j) in pairs {
        let (Some(one), Some(other)) = (slot_of.get(i).copied(), slot_of.get(j).copied()) else { continue };
        let (Some(first), Some(second)) = (slots.get(one), slots.get(other)) else { continue };
        if one == other || !fit_together(moments, places, first, second) {
            continue;
        }
        let moved = slots.get_mut(other).map(std::mem::take).unwrap_or_default();
        for member in &moved {
            if let Some(slot) = slot_of.get_mut(*member) {
                *slot = one;
            }
        }
        if let Some(slot) = slots.get_mut(one) {
            slot.extend(moved);
            slot.sort_unstable();
        }
    }
    slots.into_iter().filter(|slot| !slot.is_empty()).collect()
}

/// Whether two slots may be one: near enough, no datacenter twice, and no run of one of theirs lies between them, which
/// would be the nearer one.
fn fit_together(
    moments: &[Timestamp],
    places: &[BTreeSet<Place<'_>>],
    one: &[usize],
    other: &[usize],
) -> bool {
    let members: BTreeSet<usize> = one.iter().chain(other).copied().collect();
    let (Some(first), Some(last)) = (members.first().copied(), members.last().copied()) else { return false };
    let at = |i: usize| moments.get(i).copied();
    let is_near = at(last).zip(at(first)).is_some_and(|(last, first)| last.duration_since(first) <= SPREAD);
    let of = |slot: &[usize]| slot.iter().filter_map(|i| places.get(*i)).flatten().collect::<BTreeSet<_>>();
    let (mut all, theirs) = (of(one), of(other));
    if !is_near || !all.is_disjoint(&theirs) {
        return false;
    }
    all.extend(theirs);
    let mut between = (first..last).filter(|i| !members.contains(i)).filter_map(|i| places.get(i));
    !between.any(|runs| runs.iter().any(|place| all.contains(place)))
}
