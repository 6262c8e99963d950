//! What a soak says in the end: nothing lost, nothing doubled, every verdict right, nothing left over. Pure.
//!
//! Every rule is a function from what was observed to findings; no finding means that the rule holds.

mod copies;
mod leftovers;
mod runs;
mod verdicts;

use std::fmt;

use crate::observed::Observed;

/// Something that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Which rule does not hold.
    pub rule: Rule,
    /// Where, and what is there instead.
    pub about: String,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Every run ends.
    NotOver,
    /// A run has an entry for every datacenter that it is about, and what succeeded was made.
    Lost,
    /// For each datacenter of a run one object is made per attempt, and a name is given once.
    Doubled,
    /// What is made in a data plane was asked for by a run or a schedule.
    Unexplained,
    /// A datacenter has succeeded where its data plane says so, and failed only where it may.
    WrongVerdict,
    /// Every registered data plane is ready, and no other is known.
    NotReady,
    /// Copies are what they are copies of, and there are no others.
    Copies,
    /// FleetBackups tell of the MedusaBackups that there are.
    Inventory,
    /// What belongs to something that is gone is gone.
    LeftOver,
    /// Watches and connections are those of a fleet to which nothing happened.
    Open,
    /// Events about an object do not grow with time.
    Events,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.about)
    }
}

/// All that is not as it has to be, by rule.
pub fn findings(seen: &Observed) -> Vec<Finding> {
    let rules: [fn(&Observed) -> Vec<Finding>; 11] = [
        runs::not_over,
        runs::lost,
        runs::doubled,
        runs::unexplained,
        verdicts::wrong,
        copies::not_ready,
        copies::copies,
        copies::inventory,
        leftovers::left_over,
        leftovers::open,
        leftovers::events,
    ];
    let mut all: Vec<Finding> = rules.iter().flat_map(|rule| rule(seen)).collect();
    all.sort();
    all.dedup();
    all
}

fn finding(rule: Rule, about: impl Into<String>) -> Finding {
    Finding { rule, about: about.into() }
}
