//! Which clusters are registered, and can they be used?

use jiff::Timestamp;

use super::{ago, message, name, reason, state};
use crate::{
    api::fleet::{DataPlane, DataPlaneStatus},
    cli::{duration, output::Table},
};

/// One row per data plane, by name.
#[must_use]
pub fn table(data_planes: &[DataPlane], wide: bool, now: Timestamp) -> Table {
    let mut header = vec!["NAME", "READY", "REASON", "VERSION", "DCS", "EXPIRES", "LAST CONTACT", "AGE"];
    if wide {
        header.extend(["CLUSTER ID", "CONTROLLER", "MESSAGE"]);
    }
    let mut table = Table::new(&header);
    for data_plane in data_planes {
        let unknown = DataPlaneStatus::default();
        let status = data_plane.status.as_ref().unwrap_or(&unknown);
        let mut row = vec![
            name(&data_plane.metadata),
            state(&status.conditions, "Ready"),
            reason(&status.conditions, "Ready"),
            status.kubernetes_version.clone().unwrap_or_default(),
            status.datacenters.map_or_else(String::new, |n| n.to_string()),
            expires(status, now),
            ago(status.last_contact_time.as_ref(), now),
            ago(data_plane.metadata.creation_timestamp.as_ref(), now),
        ];
        if wide {
            row.push(status.cluster_id.clone().unwrap_or_default());
            row.push(controller(status));
            row.push(message(&status.conditions, "Ready"));
        }
        table.row(row);
    }
    table
}

/// How long the credential still works.
#[must_use]
pub fn expires(status: &DataPlaneStatus, now: Timestamp) -> String {
    let at = status.credential.as_ref().and_then(|credential| credential.expires_at.as_ref());
    at.map_or_else(String::new, |at| duration::until(at.0, now))
}

/// Who reconciles the Medusa kinds there, with its version when known.
#[must_use]
pub fn controller(status: &DataPlaneStatus) -> String {
    status.medusa_controller.as_ref().map_or_else(String::new, |controller| match &controller.version {
        Some(version) => format!("{} {version}", controller.name),
        None => controller.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{data_planes, now};

    #[test]
    fn data_planes_show_whether_they_can_be_used_and_until_when() {
        insta::assert_snapshot!(table(&data_planes(), false, now()).render(0));
    }

    #[test]
    fn wide_data_planes_show_identity_controller_and_message() {
        insta::assert_snapshot!(table(&data_planes(), true, now()).render(0));
    }
}
