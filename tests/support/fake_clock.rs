//! A clock that a test turns.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use medusa_fleet::runtime::clock::Clock;

/// A clock that stands until it is set.
#[derive(Clone)]
pub struct FakeClock(Arc<Mutex<Timestamp>>);

impl FakeClock {
    /// One that shows `at`.
    pub fn at(at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(at)))
    }

    /// Sets it.
    pub fn set(&self, at: Timestamp) {
        *self.0.lock().unwrap() = at;
    }

    /// Turns it forward, or back.
    pub fn turn(&self, seconds: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }

    /// The clock a program reads it by.
    pub fn clock(&self) -> Clock {
        let fake_clock = self.clone();
        Clock::of(move || *fake_clock.0.lock().unwrap())
    }
}
