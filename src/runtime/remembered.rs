//! What is remembered of objects by their names: of one that is made again under its name, nothing is. Pure.
//!
//! A name outlives the object that had it. Whoever keeps something by name keeps it here, and asks for it with the uid of
//! the object that is there now.

use std::collections::BTreeMap;

/// Values by the key and the uid of what they are about; one for each key.
#[derive(Clone, Debug)]
pub struct Remembered<K, V>(BTreeMap<K, (String, V)>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> Remembered<K, V> {
    /// What is remembered of this very object.
    #[must_use]
    pub fn get(&self, key: &K, uid: &str) -> Option<&V> {
        self.0.get(key).filter(|(of, _)| of == uid).map(|(_, value)| value)
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same as [`Self::get`], to change; of an object nothing is remembered of, what `new` makes.
    pub fn entry(&mut self, key: K, uid: &str, new: impl FnOnce() -> V) -> &mut V {
        let there = self.0.remove(&key).filter(|(of, _)| of == uid);
        &mut self.0.entry(key).or_insert(there.unwrap_or_else(|| (uid.to_owned(), new()))).1
    }

    /// Takes what is remembered of this very object. Of the one that had its name before, nothing stays.
    pub fn take(&mut self, key: &K, uid: &str) -> Option<V> {
        self.0.remove(key).filter(|(of, _)| of == uid).map(|(_, value)| value)
    }

    /// Remembers this of an object.
    pub fn set(&mut self, key: K, uid: &str, value: V) {
        self.0.insert(key, (uid.to_owned(), value));
    }

    /// Forgets whatever had that name; returns its uid and what was remembered.
    pub fn forget(&mut self, key: &K) -> Option<(String, V)> {
        self.0.remove(key)
    }

    /// Forgets those whose keys do not pass.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| keep(key));
    }

    /// Notes that the object of that name is the one of this uid, and forgets what is remembered of another.
    pub fn is_now(&mut self, key: &K, uid: &str) {
        if self.0.get(key).is_some_and(|(of, _)| of != uid) {
            self.0.remove(key);
        }
    }

    /// All that is remembered, whatever it is about.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done with the object of a name: it may be one that was made again meanwhile.
    #[derive(Clone, Debug)]
    enum Step {
        MadeAgain,
        Counted,
        Taken,
        Set(u8),
        Forgotten,
    }

    fn step() -> impl Strategy<Value = (bool, Step)> {
        let step = prop_oneof![
            2 => Just(Step::MadeAgain),
            3 => Just(Step::Counted),
            2 => Just(Step::Taken),
            2 => any::<u8>().prop_map(Step::Set),
            1 => Just(Step::Forgotten),
        ];
        (any::<bool>(), step)
    }

    proptest! {
        /// Beside it, a table in which no name is ever used again.
        #[test]
        fn one_that_is_made_again_is_as_if_it_had_a_name_of_its_own(
            story in prop::collection::vec(step(), 0..60)
        ) {
            let mut uids = [0_u32, 0];
            let mut again: Remembered<bool, u8> = Remembered::default();
            let mut never: BTreeMap<(bool, u32), u8> = BTreeMap::new();
            for (name, step) in story {
                let uid = uids[usize::from(name)];
                let (text, own) = (uid.to_string(), (name, uid));
                match step {
                    Step::MadeAgain => {
                        uids[usize::from(name)] += 1;
                        again.is_now(&name, &(uid + 1).to_string());
                    }
                    Step::Counted => {
                        let one = again.entry(name, &text, || 0);
                        *one = one.wrapping_add(1);
                        let other = never.entry(own).or_default();
                        *other = other.wrapping_add(1);
                    }
                    Step::Taken => prop_assert_eq!(again.take(&name, &text), never.remove(&own)),
                    Step::Set(value) => {
                        again.set(name, &text, value);
                        never.insert(own, value);
                    }
                    Step::Forgotten => {
                        again.forget(&name);
                        never.remove(&own);
                    }
                }
                let uid = uids[usize::from(name)];
                prop_assert_eq!(again.get(&name, &uid.to_string()), never.get(&(name, uid)));
            }
            prop_assert!(again.0.len() <= 2, "nothing is kept of those that are gone");
        }
    }
}
