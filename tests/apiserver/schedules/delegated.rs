//! Delegated schedules over real data planes.
