//! How far the watch of a kind can be trusted. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How the watch of a kind stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    /// It has not listed yet.
    #[default]
    Unlisted,
    /// It shows what is there.
    Followed,
    /// The API server refuses it, in these words.
    Refused(String),
    /// It has failed since then, for these reasons.
    Failed(Timestamp, String),
    /// There is none, for this reason.
    Unwatched(String),
}

/// How far the watch of a kind can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    standing: Standing,
    is_listed: bool,
}

impl Trust {
    /// Nothing is listed any more: the connection is a new one.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// Everything is listed, and followed from now on.
    pub fn follow(&mut self) {
        *self = Self { standing: Standing::Followed, is_listed: true };
    }

    /// A watch that had failed goes on where it was; says whether that is news.
    pub fn resume(&mut self) -> bool {
        let is_news = self.is_listed && self.standing != Standing::Followed;
        if is_news {
            self.standing = Standing::Followed;
        }
        is_news
    }

    /// The API server refuses it; says whether that is news. What was listed is not known to be so any more, from now on.
    pub fn refuse(&mut self, why: &str) -> bool {
        let is_news = !matches!(self.standing, Standing::Refused(_));
        self.standing = Standing::Refused(why.to_owned());
        is_news
    }

    /// It has failed since then; says whether that is news.
    pub fn fail(&mut self, since: Timestamp, why: &str) -> bool {
        let new = match &self.standing {
            Standing::Failed(first, _) => Standing::Failed(*first, why.to_owned()),
            Standing::Unlisted | Standing::Followed | Standing::Refused(_) | Standing::Unwatched(_) => {
                Standing::Failed(since, why.to_owned())
            }
        };
        let is_news = self.standing != new;
        self.standing = new;
        is_news
    }

    /// There is nothing to watch, or nothing that may be; says whether that is news.
    pub fn give_up(&mut self, why: &str) -> bool {
        let is_news = !matches!(&self.standing, Standing::Unwatched(old) if old == why);
        *self = Self { standing: Standing::Unwatched(why.to_owned()), is_listed: false };
        is_news
    }

    /// Whether nothing is awaited of it: it shows what is there, or never will. Work goes on then; what it does not
    /// show is nevertheless not absent.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self.standing {
            Standing::Followed | Standing::Refused(_) | Standing::Unwatched(_) => true,
            Standing::Unlisted | Standing::Failed(..) => false,
        }
    }

    /// Whether it was listed since the connection was made, or there is nothing to list: what it holds is what the
    /// cluster last said.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.is_listed || self.is_given_up()
    }

    /// Whether there is nothing to watch, or nothing that may be.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        matches!(self.standing, Standing::Unwatched(_))
    }

    /// Since when nobody knows what is there, when that is known, and why; nothing while somebody does.
    #[must_use]
    pub fn doubt(&self) -> Option<(Option<Timestamp>, String)> {
        match &self.standing {
            Standing::Followed => None,
            Standing::Unlisted => Some((None, "its objects are not listed yet".to_owned())),
            Standing::Refused(why) | Standing::Unwatched(why) => Some((None, why.clone())),
            Standing::Failed(since, why) => Some((Some(*since), format!("{why} (since {since:.0})"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn work_goes_on_beside_what_is_refused_or_not_there_and_waits_for_what_failed() {
        let mut trust = Trust::default();
        assert!(!trust.is_settled() && !trust.is_listed());
        trust.follow();
        assert!(trust.is_settled() && trust.is_listed());
        assert!(trust.refuse("no") && !trust.refuse("no") && trust.is_settled() && trust.is_listed());
        assert!(trust.fail(NEVER, "no") && !trust.fail(Timestamp::MAX, "no") && !trust.is_settled());
        assert!(trust.doubt().is_some_and(|(since, _)| since == Some(NEVER)), "since it began");
        assert!(trust.resume() && !trust.resume() && trust.is_settled());
        trust.begin();
        assert!(!trust.resume() && !trust.is_settled(), "what never listed has nothing to go on with");
        assert!(trust.give_up("not served") && !trust.give_up("not served"));
        assert!(trust.is_settled() && trust.is_listed());
    }
}
