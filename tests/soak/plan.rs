//! What is done and when: a function of seed, length and number of data planes, and of nothing else. Pure.
//!
//! Faults come in phases with calm between them, so that the same run shows both. They, unregistered data planes and
//! schedules end before the end; kills of the control plane lie in the first part, so that one process lives long
//! enough for its memory to be judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    action::{Action, Order, OrderKind, Timetable},
    dice::Dice,
};

/// What the plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Of all chance.
    pub seed: u64,
    /// How long actions go on.
    pub length: Duration,
    /// How many data planes there are.
    pub planes: usize,
}

/// An action, and when after the beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// A run this long is long: its memory is judged.
pub const LONG: Duration = Duration::from_mins(30);
/// MedusaConfigurations that are there from the beginning.
pub const CONFIGURATIONS: [&str; 2] = ["shared-1", "shared-2"];
/// One that comes and goes.
const PASSING: &str = "passing";
/// Schedules that are there at a time.
const MOST_SCHEDULES: usize = 4;

/// Name of the `number`th data plane, as the simulation calls it.
pub fn plane(number: usize) -> String {
    format!("sim-{number}")
}

/// The last moment of the part in which the control plane is killed.
pub fn last_kill(length: Duration) -> Duration {
    if length < LONG { length / 2 } else { length / 3 }
}

/// The whole plan, in order.
pub fn plan(terms: Terms) -> Vec<Step> {
    let mut drafting = Drafting::new(terms);
    while let Some(((at, _), todo)) = drafting.agenda.pop_first() {
        drafting.now = at;
        drafting.take(todo);
    }
    drafting.steps
}

/// What comes up while the plan is made.
#[derive(Clone, Debug)]
enum Todo {
    Fault,
    Heal(Vec<String>),
    Probe,
    Other,
    Retain,
    Do(Action),
    Last,
}

/// What an action may be about.
#[derive(Clone, Copy)]
enum Subject {
    Backup,
    Sync,
    Purge,
    Restore,
    Cancel,
    Schedule,
    Suspend,
    Unschedule,
    Rotate,
    Configure,
    Unregister,
    Rewrite,
    Break,
}

struct Drafting {
    terms: Terms,
    dice: Dice,
    now: u64,
    /// When faults are over, in milliseconds.
    calm: u64,
    end: u64,
    agenda: BTreeMap<(u64, usize), Todo>,
    steps: Vec<Step>,
    numbered: usize,
    registered: BTreeSet<String>,
    /// Until when nothing else is done to a data plane.
    busy: BTreeMap<String, u64>,
    /// Each schedule, and whether it is suspended.
    schedules: BTreeMap<String, bool>,
    backups: Vec<String>,
    is_configured: bool,
}

impl Drafting {
    fn new(terms: Terms) -> Self {
        let end = u64::try_from(terms.length.as_millis()).unwrap_or(u64::MAX);
        let mut drafting = Self {
            terms,
            dice: Dice::new(terms.seed),
            now: 0,
            calm: end - (end / 6).min(60_000),
            end,
            agenda: BTreeMap::new(),
            steps: Vec::new(),
            numbered: 0,
            registered: (1..=terms.planes).map(plane).collect(),
            busy: BTreeMap::new(),
            schedules: BTreeMap::new(),
            backups: Vec::new(),
            is_configured: false,
        };
        let first = drafting.calm_time();
        drafting.later(first, Todo::Fault);
        drafting.later(500, Todo::Probe);
        drafting.later(1_000, Todo::Other);
        drafting.later(30_000, Todo::Retain);
        drafting.signals();
        drafting.agenda.insert((u64::midpoint(drafting.calm, end), usize::MAX), Todo::Last);
        drafting
    }

    /// Kills and stops of the control plane.
    fn signals(&mut self) {
        let minutes = self.end / 60_000;
        let last = u64::try_from(last_kill(self.terms.length).as_millis()).unwrap_or(self.end);
        for _ in 0..=minutes.div_ceil(10) {
            let at = self.dice.between(self.end / 50, last);
            self.later(at, Todo::Do(Action::Kill));
        }
        for _ in 0..=minutes / 5 {
            let at = self.dice.between(self.end / 50, self.calm);
            let length = self.dice.between(2_000, 8_000);
            self.later(at, Todo::Do(Action::Stop));
            self.later(at + length, Todo::Do(Action::Continue));
        }
    }

    fn is_long(&self) -> bool {
        self.terms.length >= LONG
    }

    /// From these milliseconds in a short run, or those in a long one.
    fn pick(&mut self, short: (u64, u64), long: (u64, u64)) -> u64 {
        let (low, high) = if self.is_long() { long } else { short };
        self.dice.between(low, high)
    }

    fn calm_time(&mut self) -> u64 {
        self.pick((5_000, 9_000), (10_000, 30_000))
    }

    fn later(&mut self, after: u64, todo: Todo) {
        self.numbered += 1;
        self.agenda.insert((self.now + after, self.numbered), todo);
    }

    fn act(&mut self, action: Action) {
        self.steps.push(Step { at: Duration::from_millis(self.now), action });
    }

    fn name(&mut self, what: &str) -> String {
        self.numbered += 1;
        format!("{what}-{}", self.numbered)
    }

    /// Registered data planes to which nothing is done now.
    fn free(&self) -> Vec<String> {
        let is_free = |plane: &&String| self.busy.get(*plane).is_none_or(|until| *until <= self.now);
        self.registered.iter().filter(is_free).cloned().collect()
    }

    fn take(&mut self, todo: Todo) {
        match todo {
            Todo::Fault => self.fault(),
            Todo::Heal(planes) => self.act(Action::Heal(planes)),
            Todo::Probe if self.now < self.calm => {
                let name = self.name("probe");
                self.act(Action::Run(Order {
                    name,
                    kind: OrderKind::Backup("differential"),
                    planes: Vec::new(),
                    policy: "Wait",
                    at_a_time: 0,
                    is_probe: true,
                }));
                let pause = self.pick((2_500, 4_500), (6_000, 12_000));
                self.later(pause, Todo::Probe);
            }
            Todo::Other if self.now < self.calm => {
                self.other();
                let pause = self.pick((800, 2_800), (3_000, 9_000));
                self.later(pause, Todo::Other);
            }
            Todo::Retain if self.now < self.calm => {
                self.act(Action::Retain);
                self.later(45_000, Todo::Retain);
            }
            Todo::Probe | Todo::Other | Todo::Retain => {}
            Todo::Do(action) => self.act(action),
            Todo::Last => {
                for name in std::mem::take(&mut self.schedules).into_keys() {
                    self.act(Action::Unschedule(name));
                }
                // Long-lived copies are compared in the end; what passes must be gone.
                if std::mem::take(&mut self.is_configured) {
                    self.act(Action::Unconfigure(PASSING.to_owned()));
                }
            }
        }
    }

    /// Something is wrong with a tenth of the data planes, and sometimes something else with another tenth.
    fn fault(&mut self) {
        let length = self.pick((6_000, 14_000), (10_000, 45_000));
        if self.now + length > self.calm {
            return;
        }
        let kinds = if self.dice.percent(50) { 2 } else { 1 };
        for kind in self.dice.some(&faults(), kinds) {
            let free = self.free();
            let planes = self.dice.some(&free, self.terms.planes.div_ceil(10));
            for plane in &planes {
                self.busy.insert(plane.clone(), self.now + length + 1);
            }
            self.act(Action::Fault(kind, planes.clone()));
            self.later(length, Todo::Heal(planes));
        }
        let calm = self.calm_time();
        self.later(length + calm, Todo::Fault);
    }

    fn other(&mut self) {
        let subjects = [
            (20, Subject::Backup),
            (8, Subject::Sync),
            (3, Subject::Purge),
            (8, Subject::Restore),
            (5, Subject::Cancel),
            (9, Subject::Schedule),
            (6, Subject::Suspend),
            (3, Subject::Unschedule),
            (14, Subject::Rotate),
            (6, Subject::Configure),
            (7, Subject::Unregister),
            (6, Subject::Rewrite),
            (4, Subject::Break),
        ];
        if let Some(subject) = self.dice.weighted(&subjects) {
            let action = self.about(subject);
            self.steps.extend(action.map(|action| Step { at: Duration::from_millis(self.now), action }));
        }
    }

    fn about(&mut self, subject: Subject) -> Option<Action> {
        match subject {
            Subject::Backup => {
                let type_ = *self.dice.one(&["differential", "full"])?;
                let order = self.order("backup", OrderKind::Backup(type_));
                self.backups.push(order.name.clone());
                Some(Action::Run(order))
            }
            Subject::Sync => Some(Action::Run(self.order("sync", OrderKind::Task("sync")))),
            Subject::Purge => Some(Action::Run(self.order("purge", OrderKind::Task("purge")))),
            Subject::Restore => {
                let all: Vec<String> = self.registered.iter().cloned().collect();
                let planes = vec![self.dice.one(&all)?.clone()];
                Some(Action::Run(Order { planes, at_a_time: 0, ..self.order("restore", OrderKind::Restore) }))
            }
            Subject::Cancel => {
                let last = self.backups.split_off(self.backups.len().saturating_sub(3));
                self.dice.one(&last).cloned().map(Action::Cancel)
            }
            Subject::Schedule if self.schedules.len() < MOST_SCHEDULES => {
                let timetable = self.timetable()?;
                self.schedules.insert(timetable.name.clone(), false);
                Some(Action::Schedule(timetable))
            }
            Subject::Schedule => None,
            Subject::Suspend => {
                let name = self.some_schedule()?;
                let is_suspended = self.schedules.get_mut(&name)?;
                *is_suspended = !*is_suspended;
                Some(Action::Suspend(name, *is_suspended))
            }
            Subject::Unschedule => {
                let name = self.some_schedule()?;
                self.schedules.remove(&name);
                Some(Action::Unschedule(name))
            }
            Subject::Rotate => Some(Action::Rotate((*self.dice.one(&CONFIGURATIONS)?).to_owned())),
            Subject::Configure => {
                self.is_configured = !self.is_configured;
                let name = PASSING.to_owned();
                Some(if self.is_configured { Action::Configure(name) } else { Action::Unconfigure(name) })
            }
            Subject::Unregister => self.unregister(),
            Subject::Rewrite => {
                let free = self.free();
                Some(Action::Rewrite(self.dice.one(&free)?.clone()))
            }
            Subject::Break => {
                let plane = self.free_until(15_000)?;
                let length = self.dice.between(3_000, 12_000);
                self.later(length, Todo::Do(Action::Mend(plane.clone())));
                Some(Action::Break(plane))
            }
        }
    }

    /// A data plane that is let alone for so long from now on, where that is before the end of all faults.
    fn free_until(&mut self, length: u64) -> Option<String> {
        let free = self.free();
        let plane = self.dice.one(&free).filter(|_| self.now + length < self.calm)?.clone();
        self.busy.insert(plane.clone(), self.now + length);
        Some(plane)
    }

    /// Most come back; some stay away, for what they leave behind to be looked for.
    fn unregister(&mut self) -> Option<Action> {
        let least = self.terms.planes - self.terms.planes.div_ceil(5);
        if self.registered.len() <= least {
            return None;
        }
        let plane = self.free_until(25_000)?;
        if self.dice.percent(70) {
            let length = self.dice.between(4_000, 20_000);
            self.later(length, Todo::Do(Action::Register(plane.clone())));
        } else {
            self.registered.remove(&plane);
        }
        Some(Action::Unregister(plane))
    }

    fn some_schedule(&mut self) -> Option<String> {
        let names: Vec<String> = self.schedules.keys().cloned().collect();
        self.dice.one(&names).cloned()
    }

    fn order(&mut self, what: &str, kind: OrderKind) -> Order {
        let name = self.name(what);
        let all: Vec<String> = self.registered.iter().cloned().collect();
        let planes = if self.dice.percent(40) {
            Vec::new()
        } else {
            let count = self.dice.between(1, 5);
            self.dice.some(&all, usize::try_from(count).unwrap_or(1))
        };
        let policy = self.dice.weighted(&[(60, "Wait"), (20, "Skip"), (20, "Fail")]).unwrap_or("Wait");
        let at_a_time = if self.dice.percent(50) { self.dice.between(1, 5) } else { 0 };
        Order { name, kind, planes, policy, at_a_time, is_probe: false }
    }

    fn timetable(&mut self) -> Option<Timetable> {
        let name = self.name("schedule");
        let every = self.pick((6, 15), (20, 90));
        let operation = self.dice.weighted(&[(70, "backup"), (20, "sync"), (10, "purge")])?;
        let concurrency = self.dice.weighted(&[(50, "Forbid"), (30, "Allow"), (20, "Replace")])?;
        let is_delegated = operation != "sync" && self.dice.percent(30);
        let execution = if is_delegated { "Delegated" } else { "Coordinated" };
        Some(Timetable { name, every, operation, concurrency, execution })
    }
}

/// Every fault of the simulator.
pub fn faults() -> Vec<Value> {
    vec![
        json!({"fault": "hang"}),
        json!({"fault": "stop"}),
        json!({"fault": "delay", "millis": 2000}),
        json!({"fault": "slow-body", "millis": 2000}),
        json!({"fault": "trickle", "bytesPerSecond": 100}),
        json!({"fault": "busy", "retryAfter": 1}),
        json!({"fault": "broken", "code": 503}),
        json!({"fault": "html", "code": 200}),
        json!({"fault": "truncate"}),
        json!({"fault": "gone"}),
        json!({"fault": "other-uid"}),
        json!({"fault": "cut"}),
        json!({"fault": "broken", "code": 500, "share": 0.3}),
    ]
}
