//! Which replica is to hold which shard. Pure: every replica that sees the same comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::control_plane::registry::reports::weight;

/// Spreads so many shards over the `members`: nobody has more than one more than another, who holds one keeps it where that
/// leaves it so, and what is free goes to whom it weighs most with. Nothing when there are no members.
///
/// `holders` says who holds each shard now, as far as it is held.
#[must_use]
pub fn assign<'a>(
    shards: u32,
    members: &BTreeSet<&'a str>,
    holders: &BTreeMap<u32, &str>,
) -> BTreeMap<u32, &'a str> {
    let Ok(count @ 1..) = u32::try_from(members.len()) else { return BTreeMap::new() };
    let (fair, mut more) = (shards / count, shards % count);
    let mut held: Vec<(&str, Vec<u32>)> = members
        .iter()
        .map(|member| {
            let own = holders.iter().filter(|(shard, holder)| **shard < shards && *holder == member);
            let mut own: Vec<u32> = own.map(|(shard, _)| *shard).collect();
            own.sort_by_key(|shard| std::cmp::Reverse(weight(member, *shard)));
            (*member, own)
        })
        .collect();
    // Who holds most may have one more: then fewest change hands.
    held.sort_by_key(|(_, own)| std::cmp::Reverse(own.len()));
    let mut room = BTreeMap::new();
    let mut assigned = BTreeMap::new();
    for (member, own) in held {
        let is_more = more > 0;
        more = more.saturating_sub(1);
        let most = fair + u32::from(is_more);
        let kept = own.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX));
        let before = assigned.len();
        assigned.extend(kept.map(|shard| (shard, member)));
        let taken = u32::try_from(assigned.len() - before).unwrap_or(most);
        room.insert(member, most.saturating_sub(taken));
    }
    for shard in 0..shards {
        if assigned.contains_key(&shard) {
            continue;
        }
        let with_room = room.iter_mut().filter(|(_, room)| **room > 0);
        let heaviest = with_room.max_by_key(|(member, _)| weight(member, shard));
        if let Some((member, room)) = heaviest {
            *room -= 1;
            assigned.insert(shard, *member);
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads<'a>(members: &BTreeSet<&'a str>, assigned: &BTreeMap<u32, &'a str>) -> Vec<usize> {
        members.iter().map(|member| assigned.values().filter(|holder| *holder == member).count()).collect()
    }

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    proptest! {
        #[test]
        fn each_shard_has_one_holder_and_nobody_has_two_more_than_another(
            shards in 1..40_u32,
            members in prop::collection::btree_set(prop::sample::select(&NAMES[..]), 1..8),
            holders in prop::collection::btree_map(0..50_u32, prop::sample::select(&NAMES[..]), 0..40),
        ) {
            let assigned = assign(shards, &members, &holders);
            prop_assert_eq!(assigned.keys().copied().collect::<Vec<_>>(), (0..shards).collect::<Vec<_>>());
            let loads = loads(&members, &assigned);
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", loads);
            prop_assert_eq!(&assign(shards, &members, &assigned), &assigned, "what is so stays so");
        }

        #[test]
        fn one_that_comes_takes_its_share_and_no_shard_moves_between_the_others(
            shards in 1..40_u32,
            members in prop::collection::btree_set(prop::sample::select(&NAMES[..]), 1..7),
            new in prop::sample::select(&NAMES[..]),
        ) {
            let mut members = members;
            members.remove(new);
            prop_assume!(!members.is_empty());
            let before = assign(shards, &members, &BTreeMap::new());
            members.insert(new);
            let after = assign(shards, &members, &before);
            let moved: Vec<&str> = after.iter().filter(|(s, m)| before[s] != **m).map(|(_, m)| *m).collect();
            prop_assert!(moved.iter().all(|to| *to == new), "{:?}", moved);
            prop_assert!(moved.len() <= (shards as usize).div_ceil(members.len()));
        }

        #[test]
        fn of_one_that_goes_the_others_take_what_it_held_and_keep_theirs(
            shards in 1..40_u32,
            members in prop::collection::btree_set(prop::sample::select(&NAMES[..]), 2..8),
        ) {
            let before = assign(shards, &members, &BTreeMap::new());
            let mut left = members.clone();
            let gone = left.pop_first().unwrap();
            let after = assign(shards, &left, &before);
            let moved = after.iter().filter(|(shard, member)| before[shard] != **member);
            prop_assert!(moved.clone().all(|(shard, _)| before[shard] == gone));
        }
    }

    #[test]
    fn nobody_holds_anything_where_nobody_is() {
        assert!(assign(3, &BTreeSet::new(), &BTreeMap::new()).is_empty());
    }
}
