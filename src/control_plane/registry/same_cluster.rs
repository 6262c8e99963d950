//! Which DataPlanes say that they are one cluster: an index by the cluster's id, kept by what each says. Pure.
//!
//! Must not decide who has the cluster: `unique` does.

use std::collections::{BTreeMap, BTreeSet};

/// The DataPlanes by the id of their cluster, which is the uid of its kube-system namespace.
#[derive(Debug, Default)]
pub(super) struct SameCluster {
    /// Id of the cluster by uid of the DataPlane.
    said: BTreeMap<String, String>,
    /// Uids and names of those that say the same.
    together: BTreeMap<String, BTreeMap<String, String>>,
}

impl SameCluster {
    /// The DataPlane `name`, of that uid, says that it is this cluster; or nothing yet.
    pub(super) fn note(&mut self, uid: &str, name: &str, id: Option<&str>) {
        if self.said.get(uid).map(String::as_str) == id {
            return;
        }
        self.forget(uid);
        if let Some(id) = id {
            self.said.insert(uid.to_owned(), id.to_owned());
            self.together.entry(id.to_owned()).or_default().insert(uid.to_owned(), name.to_owned());
        }
    }

    /// The DataPlane of that uid is gone.
    pub(super) fn forget(&mut self, uid: &str) {
        let Some(id) = self.said.remove(uid) else { return };
        if let Some(uids) = self.together.get_mut(&id) {
            uids.remove(uid);
            if uids.is_empty() {
                self.together.remove(&id);
            }
        }
    }

    /// Names of those that say that they are this cluster.
    pub(super) fn names(&self, id: &str) -> BTreeSet<&str> {
        self.together.get(id).into_iter().flat_map(BTreeMap::values).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_index_is_what_a_look_at_all_of_them_finds(
            said in proptest::collection::vec((0..6_u8, proptest::option::of(0..3_u8), any::<bool>()), 0..60),
        ) {
            let mut index = SameCluster::default();
            let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
            for (plane, id, is_gone) in said {
                let (uid, id) = (format!("uid-{plane}"), id.map(|id| id.to_string()));
                if is_gone {
                    index.forget(&uid);
                    all.remove(&uid);
                } else {
                    index.note(&uid, &format!("name-{plane}"), id.as_deref());
                    all.insert(uid, id);
                }
                for id in ["0", "1", "2"] {
                    let those = all.iter().filter(|(_, said)| said.as_deref() == Some(id));
                    let names: BTreeSet<String> = those.map(|(uid, _)| uid.replace("uid", "name")).collect();
                    prop_assert_eq!(index.names(id), names.iter().map(String::as_str).collect());
                }
            }
            prop_assert!(index.together.values().all(|uids| !uids.is_empty()));
        }
    }
}
