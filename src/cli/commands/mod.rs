//! What the verbs do.

pub mod adopt;
pub mod backup;
pub mod cancel;
pub mod completion;
pub mod crds;
pub mod describe;
pub mod doctor;
pub mod list;
pub mod plan;
pub mod preview;
pub mod restore;
pub mod run;
pub mod schedule;
pub mod status;
pub mod task;
pub mod version;
pub mod wait;
