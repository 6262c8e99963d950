//! What is known about a data plane, as one replica hands it to another: the one that watches it encodes, the one that
//! decides decodes (ADR 33). Pure.
//!
//! Both may be of different versions of this program. Whoever changes what is encoded raises [`FORMAT`]; a test holds the
//! two together.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    sync::Arc,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{
    capabilities::Capabilities,
    section::Section,
    view::{Contact, ObjectKey, Shown, View},
    watched::{self, Kind, watched_kinds},
};

/// What the encoding is called. A replica that does not know it waits for one that does.
pub const FORMAT: i32 = 1;
/// Most bytes that are decoded: more than what is kept of any data plane takes as text, and no more than a replica can hold,
/// whoever wrote them.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Why something is no encoded view.
#[derive(Debug, Error)]
pub enum NotDecoded {
    /// It is not compressed as it should be, or ends early.
    #[error("it cannot be decompressed: {0}")]
    Compression(#[from] std::io::Error),
    /// It is more than anybody encodes.
    #[error("it holds more than {} MiB", LARGEST / 1024 / 1024)]
    TooLarge,
    /// It does not say what it should.
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// What is known besides the objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    contact: Contact,
    connected_at: Option<Timestamp>,
    last_contact: Option<Timestamp>,
    capabilities: Arc<Capabilities>,
    within: Arc<BTreeSet<String>>,
}

#[derive(Serialize, Deserialize)]
struct Whole {
    head: Head,
    health: Value,
    sections: BTreeMap<Kind, Box<RawValue>>,
}

/// A view that was decoded as far as it says which of it is news.
pub struct Encoded(Whole);

/// A hash of each section as it was last taken over: what says the same again is not read again.
#[derive(Clone, Debug, Default)]
pub struct Taken(BTreeMap<Kind, [u8; 32]>);

/// What a decoded view says that was not known before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether it answers, what it is allowed, or how far its watches can be trusted.
    pub contact: bool,
    /// Kinds of which objects changed that concern everyone.
    pub kinds: BTreeSet<Kind>,
    /// Runs whose children changed, by the children's kind.
    pub runs: BTreeSet<(Kind, String)>,
}

/// What is known about a data plane, and `health`, which is about reaching it, as text.
///
/// # Errors
/// When something of it is no JSON, which nothing that came from an API server is.
pub fn text(view: &View, health: &impl Serialize) -> Result<Vec<u8>, NotDecoded> {
    let head = Head {
        contact: view.contact.clone(),
        connected_at: view.connected_at,
        last_contact: view.last_contact,
        capabilities: view.capabilities.clone(),
        within: view.within.clone(),
    };
    let whole = Whole { head, health: serde_json::to_value(health)?, sections: sections(view)? };
    Ok(serde_json::to_vec(&whole)?)
}

/// Encodes what [`text`] made.
///
/// # Errors
/// Never: what is written into memory is written.
pub fn encode(text: &[u8]) -> Result<Vec<u8>, NotDecoded> {
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(text)?;
    Ok(compressed.finish()?)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// When it is something else.
pub fn decode(bytes: &[u8]) -> Result<Encoded, NotDecoded> {
    let mut text = String::new();
    let read = GzDecoder::new(bytes).take(LARGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > LARGEST {
        return Err(NotDecoded::TooLarge);
    }
    Ok(Encoded(serde_json::from_str(&text)?))
}

impl Encoded {
    /// What was encoded about reaching the data plane.
    ///
    /// # Errors
    /// When it is something else.
    pub fn health<H: DeserializeOwned>(&self) -> Result<H, NotDecoded> {
        Ok(H::deserialize(&self.0.health)?)
    }

    /// Puts it in the place of what is known, of which `taken` was taken over before, and says what is news. What writes of
    /// this process made stays until the other has seen it.
    ///
    /// # Errors
    /// When some of it cannot be read. Nothing is changed then.
    pub fn apply(&self, view: &mut View, taken: &mut Taken, now: Timestamp) -> Result<Changes, NotDecoded> {
        let (mut next, mut hashes, mut changes) = (view.clone(), BTreeMap::new(), Changes::default());
        let head = self.0.head.clone();
        changes.contact = view.contact != head.contact
            || view.connected_at != head.connected_at
            || view.capabilities != head.capabilities
            || view.within != head.within;
        next.contact = head.contact;
        next.connected_at = head.connected_at;
        next.last_contact = head.last_contact.max(view.last_contact);
        next.capabilities = head.capabilities;
        next.within = head.within;
        for (kind, text) in &self.0.sections {
            let hash = Sha256::digest(text.get()).into();
            // What this process wrote may have been taken back unseen: it is compared again until it was seen.
            let is_known = taken.0.get(kind) == Some(&hash) && !next.section(*kind).runs_ahead();
            if !is_known {
                take_over(*kind, &mut next, text.get(), now, &mut changes)?;
            }
            hashes.insert(*kind, hash);
        }
        (*view, taken.0) = (next, hashes);
        Ok(changes)
    }
}

/// Puts the section that `text` says in the place of the one in `view`.
fn take_section<W: Shown>(
    view: &mut View,
    text: &str,
    now: Timestamp,
    changes: &mut Changes,
) -> Result<(), NotDecoded> {
    let new: Section<W::Kept> = serde_json::from_str(text)?;
    let before = W::section(view).succeed(new, version_of, now);
    let runs_of_jobs = view.jobs.clone();
    let after = &*W::section(view);
    changes.contact |= before.trust != after.trust || before.unreadable() != after.unreadable();
    let (old, new) = (before.last_known(), after.last_known());
    let is_news = |key: &&ObjectKey| before.last(key) != after.last(key);
    let keys: BTreeSet<&ObjectKey> = old.keys().chain(new.keys()).filter(is_news).collect();
    if W::MADE_FOR.is_none() && !keys.is_empty() {
        changes.kinds.insert(W::KIND);
    }
    for key in keys {
        let objects = [before.last(key), after.last(key)];
        if let Some(made_for) = W::MADE_FOR {
            let runs = objects.into_iter().flatten().filter_map(|object| made_for(object));
            changes.runs.extend(runs.map(|run| (W::KIND, run.to_owned())));
        }
        // A MedusaBackup is news for the run that its MedusaBackupJob belongs to.
        if W::KIND == Kind::Backups {
            let run = runs_of_jobs.last(key).and_then(|job| watched::made_for(job.as_ref()));
            changes.runs.extend(run.map(|run| (Kind::Jobs, run.to_owned())));
        }
    }
    Ok(())
}

/// The version of an object, or of what is kept of a copy.
fn version_of(object: &impl Serialize) -> Option<u64> {
    let value = serde_json::to_value(object).ok()?;
    let version = value.pointer("/metadata/resourceVersion").or_else(|| value.get("resource_version"));
    version?.as_str()?.parse().ok()
}

macro_rules! encoded {
    ($($(#[$doc:meta])* $section:ident: $kind:ident,)*) => {
        fn sections(view: &View) -> Result<BTreeMap<Kind, Box<RawValue>>, serde_json::Error> {
            [$((Kind::$kind, serde_json::value::to_raw_value(&view.$section)),)*]
                .into_iter()
                .map(|(kind, text)| Ok((kind, text?)))
                .collect()
        }

        fn take_over(
            kind: Kind,
            view: &mut View,
            text: &str,
            now: Timestamp,
            changes: &mut Changes,
        ) -> Result<(), NotDecoded> {
            match kind {
                $(Kind::$kind => take_section::<watched::$kind>(view, text, now, changes),)*
            }
        }
    };
}
watched_kinds!(encoded);

#[cfg(test)]
#[path = "encoded_tests.rs"]
mod tests;
