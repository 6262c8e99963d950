//! Why something is as it is: one word list for conditions, Events and metrics, and what people are told about each word
//! (docs/reference/conditions.md, which `make reference` writes).
//!
//! A file for each part of the fleet. Of each reason it says what it means, after an empty line what to do, and on which
//! kinds it stands: in a condition, in an entry of a status or in an Event.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[macro_use]
mod data_planes;
#[macro_use]
mod copies;
#[macro_use]
mod deployment;
#[macro_use]
mod runs;
#[macro_use]
mod backups;
#[macro_use]
mod tasks;
#[macro_use]
mod schedules;
#[macro_use]
mod restores;
#[macro_use]
mod inventory;
#[macro_use]
mod doctor;

/// What people are told about a reason.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// The reason.
    pub reason: Reason,
    /// What it means, an empty line, and what to do.
    text: &'static str,
    /// The kinds it stands on; none where only `kubectl medusa doctor` says it.
    pub kinds: &'static [&'static str],
}

impl Explanation {
    /// What it means.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        self.text.split_once("\n\n").map_or(self.text, |(meaning, _)| meaning)
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.text.split_once("\n\n").map_or("", |(_, remedy)| remedy)
    }
}

macro_rules! reasons {
    (; $($(#[doc = $doc:literal])+ $name:ident $(: $($kind:ident)+)?,)+) => {
        /// A machine-readable reason. The same word is a condition's reason, an Event's reason and a
        /// status entry's reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason, and what people are told about it.
            pub const ALL: &[Explanation] = &[$(Explanation {
                reason: Self::$name,
                text: concat!($($doc, "\n"),+),
                kinds: &[$($(stringify!($kind)),+)?],
            },)+];

            /// The word as it appears in objects.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The reason that word stands for, if it is one of ours.
            #[must_use]
            pub fn of(word: &str) -> Option<Self> {
                $(if word == stringify!($name) { return Some(Self::$name); })+
                None
            }
        }
    };
}

// Each hands the next what it was given and its own; the last has all of them.
reasons_of_data_planes! {
    reasons_of_copies reasons_of_deployment reasons_of_runs reasons_of_backups reasons_of_tasks reasons_of_schedules
    reasons_of_restores reasons_of_inventory reasons_of_doctor reasons;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = Cow::<str>::deserialize(deserializer)?;
        Self::of(&word).ok_or_else(|| serde::de::Error::custom(format!("`{word}` is no reason")))
    }
}
