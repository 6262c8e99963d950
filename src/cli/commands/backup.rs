//! `backup`: start a run, and stay with it for as long as asked.

use jiff::Timestamp;

use super::{
    preview::Preview,
    run,
    wait::{self, Ended},
};
use crate::{
    api::fleet::{FleetBackupJob, FleetBackupJobSpec},
    cli::{
        args::{Backup, BackupChoice, Stay},
        failure::Outcome,
        home::ControlPlaneClient,
        output::Printer,
        views,
    },
    runtime::clock,
};

/// Creates the job and, when asked to, waits for its verdict.
///
/// # Errors
/// When it cannot be created, or its verdict is not `Succeeded`.
pub async fn run(printer: Printer, home: &ControlPlaneClient, args: &Backup) -> Outcome {
    let job = job(args, &home.namespace, clock::now())?;
    let name = views::name(&job.metadata);
    if args.dry_run {
        return dry_run(printer, home, &job).await;
    }
    let created = run::create(printer, home, &job, false).await?;
    printer.say(&format!("fleetbackupjob/{name} created: {}", describe(&job)))?;
    let Some(ended) = run::stay(printer, home, &created, args.stay).await? else { return Ok(()) };
    if let Ended::Over(job) = &ended {
        wait::until_listed(home, job.status.as_ref().map_or(&[], |status| &status.restore_points)).await;
    }
    run::verdict(printer, &name, ended)
}

/// Says what a backup would do, without starting it.
///
/// # Errors
/// When it cannot be checked.
pub async fn plan(printer: Printer, home: &ControlPlaneClient, choice: BackupChoice) -> Outcome {
    let args = Backup { name: None, choice, stay: Stay::default(), dry_run: true };
    run(printer, home, &args).await
}

/// The object that asks for the run.
fn job(args: &Backup, namespace: &str, now: Timestamp) -> Outcome<FleetBackupJob> {
    let name = run::name(args.name.as_ref(), "backup", now)?;
    Ok(FleetBackupJob {
        metadata: run::metadata(name, namespace),
        spec: FleetBackupJobSpec { run: run::spec(&args.choice.run), backup_type: args.choice.backup_type },
        status: None,
    })
}

/// What the run is, for the person who started it.
fn describe(job: &FleetBackupJob) -> String {
    let what =
        if job.spec.run.selector.is_some() { "of the selected datacenters" } else { "of the whole fleet" };
    format!("{} backup {what}", job.spec.backup_type.as_str())
}

/// Has the API server check the job, and says what it would back up as far as the inventory knows.
async fn dry_run(printer: Printer, home: &ControlPlaneClient, job: &FleetBackupJob) -> Outcome {
    let checked = run::create(printer, home, job, true).await?;
    if printer.format().is_for_programs() {
        return printer.value(&checked);
    }
    let preview = Preview::read(home, job.spec.run.selector.as_ref()).await?;
    let name = views::name(&job.metadata);
    printer.say(&format!("fleetbackupjob/{name} would be created: {}", describe(job)))?;
    preview.print(printer)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{
        args::{Cli, FleetVerb, Verb},
        failure::Failure,
        views::fixtures::now,
    };

    fn asked(words: &str) -> Outcome<FleetBackupJob> {
        let words = "medusa-fleet backup".split(' ').chain(words.split(' ').filter(|w| !w.is_empty()));
        let Verb::Fleet(FleetVerb::Backup(args)) = Cli::try_parse_from(words).unwrap().verb else {
            panic!("another verb")
        };
        job(&args, "medusa-fleet", now())
    }

    #[test]
    fn without_a_name_the_time_names_the_run() {
        let job = asked("").unwrap();
        assert_eq!(job.metadata.name.as_deref(), Some("backup-20261102120000"));
        assert_eq!(job.spec, FleetBackupJobSpec::default());
        assert_eq!(describe(&job), "differential backup of the whole fleet");
    }

    #[test]
    fn what_is_typed_is_what_is_asked_for() {
        let words = "weekly --type full --cluster shop,payments --data-plane eu-1 --dc dc1 --dc-namespace shop \
                     --unreachable-policy skip -l env=prod --data-plane-selector region=eu --ttl 7d --max-concurrent 4 \
                     --max-concurrent-per-data-plane 2 --max-concurrent-per-bucket 1 --max-failures 3 --retries 2 \
                     --datacenter-timeout 6h --progress-deadline 1h --stagger 30m";
        let job = asked(words).unwrap();
        insta::assert_yaml_snapshot!(job);
        assert_eq!(describe(&job), "full backup of the selected datacenters");
    }

    #[test]
    fn a_name_kubernetes_would_refuse_is_refused_here() {
        for name in ["Nightly", "-x", "a_b", "a..b"] {
            let typed = if name.starts_with('-') { format!("-- {name}") } else { name.to_owned() };
            assert!(matches!(asked(&typed), Err(Failure::CouldNotAsk(m)) if m.contains(name)), "{name}");
        }
    }
}
