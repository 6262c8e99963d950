//! What we have written of an object before the watch shows it.

use kube::Resource;

/// The object as we last wrote it, and its versions before: the watch may still show one of those.
#[derive(Debug)]
pub struct Written<K>(Option<(K, Vec<Option<String>>)>);

impl<K> Default for Written<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Resource + Clone> Written<K> {
    /// `seen`, unless we have written a later version of that very object.
    pub fn newest(&mut self, seen: &K) -> K {
        match &self.0 {
            Some((written, before))
                if written.meta().uid == seen.meta().uid
                    && before.contains(&seen.meta().resource_version) =>
            {
                written.clone()
            }
            Some(_) | None => {
                self.0 = None;
                seen.clone()
            }
        }
    }

    /// `written` is what came of a write to `version`.
    pub fn note(&mut self, version: Option<String>, written: &K) {
        let mut before = self.0.take().map(|(_, before)| before).unwrap_or_default();
        before.push(version);
        self.0 = Some((written.clone(), before));
    }

    /// What the watch shows counts again.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn version(number: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.resource_version = Some(number.to_owned());
        object
    }

    #[test]
    fn one_that_is_made_again_is_none_of_ours_whatever_its_version() {
        let mut written = Written::default();
        written.note(Some("1".to_owned()), &version("2"));
        let mut again = version("1");
        again.metadata.uid = Some("another".to_owned());
        assert_eq!(written.newest(&again), again);
    }

    #[test]
    fn an_older_version_than_ours_does_not_count_and_any_other_does() {
        let mut written = Written::default();
        assert_eq!(written.newest(&version("1")), version("1"));
        written.note(Some("1".to_owned()), &version("2"));
        written.note(Some("2".to_owned()), &version("4"));
        assert_eq!(written.newest(&version("1")), version("4"));
        assert_eq!(written.newest(&version("2")), version("4"));
        assert_eq!(written.newest(&version("5")), version("5"), "somebody else's");
        assert_eq!(written.newest(&version("1")), version("1"), "what was written is forgotten");
    }
}
