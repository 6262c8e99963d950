//! `adopt`: what another fleet left in the data planes becomes this one's, or what an earlier installation left is given
//! up.
//!
//! It writes the record of the fleet's names, and nothing in a data plane: the control plane does the rest.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    api::{Conditions as _, fleet::DataPlane, labels, names},
    cli::{
        args::Adopt,
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::{self, Printer},
    },
    control_plane::identity::{FleetRecord, INHERITED, RECORD, is_name},
};

/// What is known of the fleet's names, and what the data planes say waits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    fleet: Option<String>,
    adopted: Vec<String>,
    forgotten: Vec<String>,
    waiting: Vec<Left>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Left {
    data_plane: String,
    message: String,
}

/// Shows the names, or adds one.
///
/// # Errors
/// When no control plane has worked here, a name cannot be one, or the record cannot be written.
pub async fn run(printer: Printer, home: &ControlPlaneClient, args: &Adopt) -> Outcome {
    let maps: Api<ConfigMap> = Api::namespaced(home.client.clone(), &home.namespace);
    let found = maps.get_opt(RECORD).await;
    let found = found.map_err(|error| Failure::reading(&format!("configmap `{RECORD}` {home}"), &error))?;
    let Some(found) = found else {
        return Err(Failure::Failed(format!(
            "there is no configmap `{RECORD}` {home}: no control plane has worked there yet; start it first"
        )));
    };
    let (record, wrong) = FleetRecord::read(&found.data.clone().unwrap_or_default());
    if !wrong.is_empty() {
        let ignored = wrong.join(", ");
        output::aside(&format!(
            "note: configmap `{RECORD}` {home} has what cannot be a name, or too many: {ignored}"
        ));
    }
    let waiting = waiting(&home.list::<DataPlane>().await?);
    if args.from.is_none() && args.forget.is_none() {
        return show(printer, record, waiting);
    }
    let changed = changed(record.clone(), args)?;
    for line in plan(&record, args) {
        printer.say(&line)?;
    }
    for Left { data_plane, message } in &waiting {
        printer.say(&format!("data plane `{data_plane}`: {message}"))?;
    }
    if changed == record {
        return printer.say("that is so already: nothing is changed");
    }
    if args.dry_run {
        return printer.say("nothing was changed (--dry-run)");
    }
    let metadata = json!({"uid": found.uid(), "resourceVersion": found.resource_version()});
    let patch = Patch::Merge(json!({"metadata": metadata, "data": changed.data()}));
    let params =
        PatchParams { field_manager: Some(labels::MANAGER_CLI.to_owned()), ..PatchParams::default() };
    let written = maps.patch(RECORD, &params, &patch).await;
    written.map_err(|error| Failure::writing(&format!("configmap `{RECORD}` {home}"), &error))?;
    printer.say(
        "written; the control plane starts anew and looks at every data plane. `kubectl medusa dataplanes` and `adopt` \
         say what is left",
    )
}

/// What the data planes say waits for what it was made from.
fn waiting(planes: &[DataPlane]) -> Vec<Left> {
    let said = planes.iter().filter_map(|plane| {
        let condition = plane.status.as_ref()?.conditions.of_type(INHERITED)?;
        Some(Left { data_plane: plane.name_any(), message: condition.message.clone() })
    });
    said.collect()
}

fn show(printer: Printer, record: FleetRecord, waiting: Vec<Left>) -> Outcome {
    let names = Names {
        fleet: record.fleet,
        adopted: record.adopted.into_iter().collect(),
        forgotten: record.forgotten.into_iter().collect(),
        waiting,
    };
    if printer.format().is_for_programs() {
        return printer.value(&names);
    }
    printer.say(&format!("fleet: {}", names.fleet.as_deref().unwrap_or("not named yet")))?;
    let lists = [("adopted", &names.adopted), ("forgotten installations", &names.forgotten)];
    for (what, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        printer.say(&format!("{what}: {}", list.join(", ")))?;
    }
    if names.waiting.is_empty() {
        return printer.say("nothing of an earlier installation waits in a data plane");
    }
    for Left { data_plane, message } in &names.waiting {
        printer.say(&format!("data plane `{data_plane}`: {message}"))?;
    }
    Ok(())
}

/// The record with what is asked for.
fn changed(mut record: FleetRecord, args: &Adopt) -> Outcome<FleetRecord> {
    let checked = |name: &String| {
        if is_name(name) {
            return Ok(name.clone());
        }
        let name = names::shown(name, 80);
        Err(Failure::CouldNotAsk(format!("`{name}` cannot be the name of a fleet or of an installation")))
    };
    if let Some(name) = &args.from {
        let name = checked(name)?;
        if record.fleet.as_ref() == Some(&name) {
            return Err(Failure::CouldNotAsk(format!(
                "`{name}` is this fleet's own name: what it wrote is taken over without being asked for"
            )));
        }
        record.adopted.insert(name);
    }
    if let Some(installation) = &args.forget {
        record.forgotten.insert(checked(installation)?);
    }
    Ok(record)
}

/// What is going to happen, for people.
fn plan(record: &FleetRecord, args: &Adopt) -> Vec<String> {
    let fleet = record.fleet.as_deref().unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(name) = &args.from {
        lines.push(format!(
            "in every data plane, what fleet `{name}` wrote becomes fleet `{fleet}`'s: copies, deployed Medusa, schedules and \
             what runs. Nothing restarts. What has no object here yet is kept until there is one"
        ));
        lines.push(format!(
            "the control plane of `{name}` must not run any more: the two would undo each other's work"
        ));
    }
    if let Some(installation) = &args.forget {
        lines.push(format!(
            "what installation `{installation}` left and no object here asks for is taken back: copies and schedules are \
             deleted, and Medusa is removed from its datacenters, which restarts their pods. Backups stay in their bucket"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(from: Option<&str>, forget: Option<&str>) -> Adopt {
        Adopt { from: from.map(str::to_owned), forget: forget.map(str::to_owned), dry_run: false }
    }

    fn shop() -> FleetRecord {
        FleetRecord { fleet: Some("shop".to_owned()), ..FleetRecord::default() }
    }

    #[test]
    fn a_name_is_added_once_and_its_own_is_refused() {
        let once = changed(shop(), &args(Some("mall"), None)).unwrap();
        assert_eq!(Vec::from_iter(&once.adopted), ["mall"]);
        assert_eq!(changed(once.clone(), &args(Some("mall"), None)).unwrap(), once);
        assert!(changed(shop(), &args(Some("shop"), None)).is_err());
        assert!(changed(shop(), &args(Some("a b"), None)).is_err());
        let forgotten = changed(shop(), &args(None, Some("medusa-fleet.0b1c"))).unwrap();
        assert_eq!(Vec::from_iter(&forgotten.forgotten), ["medusa-fleet.0b1c"]);
    }

    #[test]
    fn the_plan_says_what_restarts() {
        let said = plan(&shop(), &args(Some("mall"), Some("ns.1"))).join("\n");
        assert!(said.contains("Nothing restarts") && said.contains("restarts their pods"), "{said}");
    }
}
