//! `restore` and `plan restore`: what is put back where, asked for, started and stayed with.

use std::io::{BufRead as _, IsTerminal as _};

use jiff::Timestamp;
use kube::api::{DeleteParams, ObjectMeta};

use super::{
    run,
    wait::{self, Ended, Progress},
};
use crate::{
    api::fleet::{FleetBackup, FleetRestoreJob, FleetRestoreJobSpec, Phase, RestoreDatacenter},
    cli::{
        args::restore::{Restore, RestoreChoice},
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::Printer,
        views::{self, moment, restore},
    },
    runtime::clock,
};

/// How long a plan may take: the controller makes it in one pass.
const PLANNING: std::time::Duration = std::time::Duration::from_mins(1);

/// Creates the FleetRestoreJob once the person has confirmed, and waits for its verdict when asked to.
///
/// # Errors
/// When nobody confirmed, it cannot be created, or its verdict is not `Succeeded`.
pub async fn run(printer: Printer, home: &ControlPlaneClient, args: &Restore) -> Outcome {
    if args.dry_run {
        return plan(printer, home, &args.choice).await;
    }
    let backup = backup(printer, home, &args.choice).await?;
    let job = job(&args.choice, args.name.as_ref(), &backup, false, clock::now())?;
    if !args.yes {
        confirm(printer, &args.choice, &backup)?;
    }
    let created = run::create(printer, home, &job, false).await?;
    let name = views::name(&created.metadata);
    printer.say(&format!("fleetrestorejob/{name} created: {}", describe(&job)))?;
    let Some(ended) = run::stay(printer, home, &created, args.stay).await? else { return Ok(()) };
    run::verdict(printer, &name, ended)
}

/// Has the controller make the plan and every check, prints them, and leaves nothing behind.
///
/// # Errors
/// When there is no plan in time, or something stands in the way.
pub async fn plan(printer: Printer, home: &ControlPlaneClient, choice: &RestoreChoice) -> Outcome {
    let backup = backup(printer, home, choice).await?;
    let job = job(choice, None, &backup, true, clock::now())?;
    let created = run::create(printer, home, &job, false).await?;
    let name = views::name(&created.metadata);
    let ended =
        wait::until_over::<FleetRestoreJob>(home, &name, Some(PLANNING), &mut Progress::new(printer, false))
            .await;
    // A plan that stays would do no harm.
    let _ = home.api::<FleetRestoreJob>().delete(&name, &DeleteParams::default()).await;
    let Ended::Over(job) = ended? else {
        return Err(Failure::CouldNotAsk(
            "no control plane made the plan in time; is one running?".to_owned(),
        ));
    };
    let status = job.status.clone().unwrap_or_default();
    if printer.format().is_for_programs() {
        printer.value(&job)?;
    } else {
        printer.text(&restore::plan(&status.plan).render(0))?;
        let verdict = status.conditions.iter().find(|c| c.type_ == "Complete");
        printer.note(verdict.map(|c| c.message.as_str()).unwrap_or_default());
    }
    if status.phase == Some(Phase::Succeeded) { Ok(()) } else { Err(Failure::Unhealthy) }
}

/// The restore point that is meant: by its name, or by its name without the cluster's.
async fn backup(printer: Printer, home: &ControlPlaneClient, choice: &RestoreChoice) -> Outcome<FleetBackup> {
    for name in [choice.from.clone(), format!("{}.{}", choice.from, choice.cluster)] {
        if let Some(found) = home.find::<FleetBackup>(&name).await? {
            return Ok(found);
        }
    }
    let list = printer.command(&format!("backups --cluster {}", choice.cluster));
    Err(Failure::Failed(format!("there is no restore point `{}` {home}; {list} lists them", choice.from)))
}

/// The object that asks for the restore.
fn job(
    choice: &RestoreChoice,
    name: Option<&String>,
    backup: &FleetBackup,
    dry_run: bool,
    now: Timestamp,
) -> Outcome<FleetRestoreJob> {
    let kind = if dry_run { "plan-restore" } else { "restore" };
    let name = run::name(name, kind, now)?;
    Ok(FleetRestoreJob {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: FleetRestoreJobSpec {
            backup: backup.metadata.name.clone(),
            cluster: Some(choice.cluster.clone()),
            datacenters: choice.datacenters.iter().map(|typed| datacenter(typed)).collect::<Outcome<_>>()?,
            order: choice.order,
            start_deadline_seconds: i64::try_from(choice.start_deadline.as_secs()).unwrap_or(i64::MAX),
            datacenter_timeout_seconds: None,
            dry_run,
            cancel: false,
        },
        status: None,
    })
}

/// `dc1`, `cassandra/dc1` or `eu-1/cassandra/dc1`.
fn datacenter(typed: &str) -> Outcome<RestoreDatacenter> {
    let parts: Vec<&str> = typed.split('/').collect();
    let (data_plane, namespace, name) = match parts.as_slice() {
        [name] => (None, None, *name),
        [namespace, name] => (None, Some(*namespace), *name),
        [plane, namespace, name] => (Some(*plane), Some(*namespace), *name),
        _ => return Err(usage(typed)),
    };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(usage(typed));
    }
    Ok(RestoreDatacenter {
        data_plane: data_plane.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
        datacenter: name.to_owned(),
        medusa_backup: None,
    })
}

fn usage(typed: &str) -> Failure {
    Failure::CouldNotAsk(format!("`{typed}` is not `NAME`, `NAMESPACE/NAME` or `PLANE/NAMESPACE/NAME`"))
}

/// What the restore is, for the person who started it.
fn describe(job: &FleetRestoreJob) -> String {
    let what = if job.spec.datacenters.is_empty() { "all datacenters" } else { "the named datacenters" };
    let (backup, cluster) = (job.spec.backup.as_deref(), job.spec.cluster.as_deref());
    format!("`{}` into {what} of `{}`", backup.unwrap_or_default(), cluster.unwrap_or_default())
}

/// Asks the person at the terminal; where there is none, nobody can have agreed.
fn confirm(printer: Printer, choice: &RestoreChoice, backup: &FleetBackup) -> Outcome {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::CouldNotAsk(
            "a restore takes away what was written since the backup; where nobody can be asked, say --yes"
                .to_owned(),
        ));
    }
    let since = moment(backup.status.as_ref().and_then(|s| s.start_time.as_ref()));
    printer.note(&format!(
        "This stops datacenters of `{}`, and what was written since {since} is gone afterwards. Type `yes` to go on:",
        choice.cluster
    ));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::CouldNotAsk("not confirmed; nothing was done".to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::cli::{
        args::{Cli, FleetVerb, Planned, Verb},
        views::fixtures::now,
    };

    fn asked(words: &str) -> Outcome<FleetRestoreJob> {
        let words = format!("medusa-fleet restore shop --from nightly {words}");
        let cli = Cli::try_parse_from(words.split(' ').filter(|w| !w.is_empty())).unwrap();
        let Verb::Fleet(FleetVerb::Restore(args)) = cli.verb else { panic!("another verb") };
        let mut backup = FleetBackup::default();
        backup.metadata.name = Some("nightly.shop".to_owned());
        job(&args.choice, args.name.as_ref(), &backup, false, now())
    }

    #[test]
    fn what_is_typed_is_what_is_asked_for() {
        let job = asked("--dc dc1,eu-1/shop/dc2 --order serial --start-deadline 10m").unwrap();
        assert_eq!(job.metadata.name.as_deref(), Some("restore-20261102120000"));
        let expected = json!({
            "backup": "nightly.shop", "cluster": "shop", "order": "Serial", "startDeadlineSeconds": 600,
            "dryRun": false, "cancel": false,
            "datacenters": [{"datacenter": "dc1"}, {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc2"}],
        });
        assert_eq!(serde_json::to_value(&job.spec).unwrap(), expected);
        assert_eq!(describe(&job), "`nightly.shop` into the named datacenters of `shop`");
        assert_eq!(describe(&asked("").unwrap()), "`nightly.shop` into all datacenters of `shop`");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_here() {
        for words in ["--dc a/b/c/d", "--dc /dc1", "--name Back"] {
            assert!(matches!(asked(words), Err(Failure::CouldNotAsk(_))), "{words}");
        }
    }

    #[test]
    fn a_plan_takes_what_a_restore_takes() {
        let words = "medusa-fleet plan restore shop --from nightly --dc dc1";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Verb::Fleet(FleetVerb::Plan { verb }) = cli.verb else { panic!("another verb") };
        let Planned::Restore(choice) = verb else { panic!("another plan") };
        assert_eq!((choice.cluster.as_str(), choice.datacenters.len()), ("shop", 1));
    }
}
