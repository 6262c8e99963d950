//! What has to be written in one data plane so that its copies are as they should be. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::desired::{CopyKey, CopyKind, Wanted};
use crate::{
    api::Seen,
    control_plane::{
        meters::Copies,
        view::{CopyRecord, View},
    },
};

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a copy that is not there.
    Create(CopyKey),
    /// Correct a copy of ours.
    Correct {
        /// The copy.
        key: CopyKey,
        /// The object it must still be.
        uid: String,
        /// The version it must still have.
        resource_version: String,
    },
    /// Take a copy of ours back.
    Remove {
        /// The copy.
        key: CopyKey,
        /// The object it must still be.
        uid: String,
    },
}

impl Action {
    /// The copy it is about.
    #[must_use]
    pub fn key(&self) -> &CopyKey {
        match self {
            Self::Create(key) | Self::Correct { key, .. } | Self::Remove { key, .. } => key,
        }
    }
}

/// Content hashes an API server made of what we applied, where they differ from what was asked: it
/// pruned or defaulted. Without this memory such a copy would be corrected for ever.
pub type Settled = HashMap<CopyKey, (String, String)>;

/// Our copy.
fn copy<'a>(view: &'a View, key: &CopyKey) -> Seen<&'a Arc<CopyRecord>> {
    let section = match key.kind {
        CopyKind::Secret => &view.secrets,
        CopyKind::MedusaConfiguration => &view.configurations,
    };
    view.seen(section, &key.object)
}

/// Whether the copy holds what it should.
#[must_use]
pub fn in_place(view: &View, key: &CopyKey, wanted: &Wanted, settled: &Settled) -> bool {
    let Some((source_uid, hash)) = &wanted.content else { return false };
    copy(view, key).known().is_some_and(|copy| {
        copy.source_uid == *source_uid
            && copy.declared_hash == *hash
            && (copy.content_hash == *hash
                || settled.get(key).is_some_and(|(w, got)| w == hash && *got == copy.content_hash))
    })
}

/// Which copies that nobody wants may be removed.
#[derive(Clone, Copy, Debug)]
pub enum Removal<'a> {
    /// None: not everything that may be wanted is known.
    Nothing,
    /// All but those in these namespaces, where pods may still use them.
    AllBut(&'a BTreeSet<String>),
}

/// Plans the writes for one data plane. The caller makes sure that the view is live: nothing may be planned from an
/// unknown.
#[must_use]
pub fn plan(
    view: &View,
    wanted: &BTreeMap<CopyKey, Wanted>,
    settled: &Settled,
    removal: Removal<'_>,
) -> Vec<Action> {
    let writes =
        wanted.iter().filter(|(_, w)| w.content.is_some()).filter_map(|(key, w)| match copy(view, key) {
            Seen::Absent => Some(Action::Create(key.clone())),
            Seen::Unknown { .. } => None,
            Seen::Known(_) if in_place(view, key, w, settled) => None,
            Seen::Known(copy) => Some(Action::Correct {
                key: key.clone(),
                uid: copy.uid.clone(),
                resource_version: copy.resource_version.clone(),
            }),
        });
    let ours = [(CopyKind::Secret, &view.secrets), (CopyKind::MedusaConfiguration, &view.configurations)];
    let removals = ours
        .into_iter()
        .flat_map(|(kind, section)| {
            section
                .last_known()
                .iter()
                .map(move |(object, copy)| (CopyKey { kind, object: object.clone() }, copy))
        })
        .filter(|(key, _)| match removal {
            Removal::Nothing => false,
            Removal::AllBut(held) => !wanted.contains_key(key) && !held.contains(&key.object.namespace),
        })
        .map(|(key, copy)| Action::Remove { key, uid: copy.uid.clone() });
    writes.chain(removals).collect()
}

/// How the copies of one data plane are. `actions` are what [`plan`] says; `has_failed` whether a copy's last write was
/// refused.
#[must_use]
pub fn tally(
    view: &View,
    wanted: &BTreeMap<CopyKey, Wanted>,
    settled: &Settled,
    actions: &[Action],
    has_failed: impl Fn(&CopyKey) -> bool,
) -> Copies {
    let synced = wanted.iter().filter(|(key, wanted)| in_place(view, key, wanted, settled)).count();
    let failed = actions.iter().filter(|action| has_failed(action.key())).count();
    Copies { synced, pending: actions.len() - failed, failed }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control_plane::view::ObjectKey;

    fn all() -> Removal<'static> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        Removal::AllBut(&NONE)
    }

    fn key(name: &str) -> CopyKey {
        CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("ns", name) }
    }

    fn wanted(hash: Option<&str>) -> Wanted {
        Wanted { source: ObjectKey::new("src", "s"), content: hash.map(|h| ("uid".to_owned(), h.to_owned())) }
    }

    fn view(copies: &[(&str, &str)]) -> View {
        let mut view = View::unknown();
        view.set_synced();
        for (name, hash) in copies {
            let record = CopyRecord {
                uid: "u".into(),
                resource_version: "7".into(),
                source_uid: "uid".into(),
                declared_hash: "new".into(),
                content_hash: (*hash).into(),
                ..CopyRecord::default()
            };
            view.secrets.put(ObjectKey::new("ns", *name), Arc::new(record));
        }
        view
    }

    #[test]
    fn copies_are_counted_by_what_is_still_to_be_done_about_them() {
        let wanted = BTreeMap::from(
            [("missing", Some("new")), ("refused", Some("new")), ("good", Some("new")), ("unread", None)]
                .map(|(name, hash)| (key(name), wanted(hash))),
        );
        let (view, settled) = (view(&[("good", "new"), ("left", "new")]), Settled::new());
        let actions = plan(&view, &wanted, &settled, all());
        let copies = tally(&view, &wanted, &settled, &actions, |of| *of == key("refused"));
        assert_eq!(copies, Copies { synced: 1, pending: 2, failed: 1 });
    }

    #[test]
    fn what_is_missing_is_made_what_drifted_corrected_what_is_left_over_removed() {
        let wanted = BTreeMap::from([
            (key("missing"), wanted(Some("new"))),
            (key("drifted"), wanted(Some("new"))),
            (key("good"), wanted(Some("new"))),
            (key("unread"), wanted(None)),
        ]);
        let view = view(&[("drifted", "old"), ("good", "new"), ("unread", "x"), ("left", "x")]);
        let actions = plan(&view, &wanted, &Settled::new(), all());
        assert_eq!(
            actions,
            [
                Action::Correct { key: key("drifted"), uid: "u".into(), resource_version: "7".into() },
                Action::Create(key("missing")),
                Action::Remove { key: key("left"), uid: "u".into() },
            ]
        );
    }

    #[test]
    fn a_copy_that_cannot_be_seen_is_neither_made_nor_corrected() {
        let wanted =
            BTreeMap::from([(key("missing"), wanted(Some("new"))), (key("drifted"), wanted(Some("new")))]);
        let mut view = view(&[("drifted", "old")]);
        view.secrets.trust.refuse("forbidden");
        assert_eq!(plan(&view, &wanted, &Settled::new(), all()), []);
    }

    #[test]
    fn nothing_is_removed_before_all_sources_are_known() {
        let plan = |removal| plan(&view(&[("left", "x")]), &BTreeMap::new(), &Settled::new(), removal);
        assert_eq!(plan(Removal::Nothing), []);
    }

    #[test]
    fn what_pods_may_still_use_is_not_removed() {
        let plan = |removal| plan(&view(&[("left", "x")]), &BTreeMap::new(), &Settled::new(), removal);
        let (here, elsewhere) = (BTreeSet::from(["ns".to_owned()]), BTreeSet::from(["other".to_owned()]));
        assert_eq!(plan(Removal::AllBut(&here)), []);
        assert_eq!(plan(Removal::AllBut(&elsewhere)).len(), 1);
    }

    #[test]
    fn what_the_api_server_made_of_it_is_accepted_once() {
        let wanted = BTreeMap::from([(key("a"), wanted(Some("new")))]);
        let settled = Settled::from([(key("a"), ("new".to_owned(), "pruned".to_owned()))]);
        assert_eq!(plan(&view(&[("a", "pruned")]), &wanted, &settled, all()), []);
        assert_eq!(plan(&view(&[("a", "tampered")]), &wanted, &settled, all()).len(), 1);
    }
}
