//! Schedules of the real program.
