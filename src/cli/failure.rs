//! Why a verb ended badly, and the exit code that says so (docs/README.md): the only place that picks one.

use std::{error::Error as _, process::ExitCode};

use crate::runtime::cause;

/// How a verb ended, when it did not end well.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// What was asked for failed.
    Failed(String),
    /// What was asked for was printed, and is unhealthy.
    Unhealthy,
    /// The question was wrong, or could not be asked.
    CouldNotAsk(String),
    /// Whoever read our output stopped reading. That is their right.
    PipeClosed,
}

/// What every verb returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// 1: the asked-for thing failed or is unhealthy; 2: usage, or could not ask; 0 for a closed pipe.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) | Self::Unhealthy => ExitCode::from(1),
            Self::CouldNotAsk(_) => ExitCode::from(2),
            Self::PipeClosed => ExitCode::SUCCESS,
        }
    }

    /// What is left to say on stderr.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Failed(message) | Self::CouldNotAsk(message) => Some(message),
            Self::Unhealthy | Self::PipeClosed => None,
        }
    }

    /// `what` could not be read, so the question stays open.
    #[must_use]
    pub fn reading(what: &str, error: &kube::Error) -> Self {
        Self::CouldNotAsk(format!("cannot read {what}: {}", why(error)))
    }

    /// `doing` was refused by the API server, or never reached it.
    #[must_use]
    pub fn writing(doing: &str, error: &kube::Error) -> Self {
        let message = format!("cannot {doing}: {}", why(error));
        if matches!(error, kube::Error::Api(_)) { Self::Failed(message) } else { Self::CouldNotAsk(message) }
    }
}

/// `error` for people, with the fix where one is known.
#[must_use]
pub fn why(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return match status.code {
            401 => "the API server does not accept the credential (expired, or for another cluster)".to_owned(),
            404 if status.details.is_none() => {
                "the kind is not installed there; `medusa-fleet crds --group fleet.k8ssandra.io | kubectl apply --server-side -f -` installs it"
                    .to_owned()
            }
            _ => status.message.clone(),
        };
    }
    if error.source().is_none() { error.to_string() } else { format!("no answer ({})", cause::words(error)) }
}

/// Whether `error` is the API server saying that the object does not exist.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether `error` is the API server saying that the object exists already.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn a_refused_write_failed_and_an_unanswered_one_could_not_be_asked() {
        let refused = Failure::writing("create fleetbackupjob `a`", &refused(422, "spec is wrong"));
        assert_eq!(refused, Failure::Failed("cannot create fleetbackupjob `a`: spec is wrong".to_owned()));
        let lost =
            Failure::writing("create fleetbackupjob `a`", &kube::Error::Service("connection refused".into()));
        assert_eq!(
            lost,
            Failure::CouldNotAsk(
                "cannot create fleetbackupjob `a`: no answer (connection refused)".to_owned()
            )
        );
    }

    #[test]
    fn a_kind_that_is_not_installed_says_how_to_install_it() {
        let failure = Failure::reading("dataplanes", &refused(404, "404 page not found"));
        assert!(failure.message().is_some_and(|m| m.contains("medusa-fleet crds")));
    }
}
