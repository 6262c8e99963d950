//! Whether what a replica published of a data plane is how it stands now. Pure.

use super::member::Holder;
use crate::{api::fleet::DataPlaneViewSpec, control_plane::data_planes::encoded::FORMAT};

/// The data plane that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct WatchedPlane<'a> {
    /// Its name.
    pub name: &'a str,
    /// Uid of its DataPlane.
    pub uid: &'a str,
    /// Its shard.
    pub shard: u32,
    /// A hash of the address by which it is to be reached.
    pub address_hash: &'a str,
}

/// The epoch in which it was published, where it counts.
///
/// # Errors
/// Why it does not, for people: what another says, or said earlier, is no knowledge.
pub fn judge(
    plane: WatchedPlane<'_>,
    holder: Option<&Holder>,
    published: Option<&DataPlaneViewSpec>,
) -> Result<i32, String> {
    let Some(Holder { shard: held, unsaid }) = holder else {
        return Err("no replica of the control plane watches it".to_owned());
    };
    let replica = &held.holder;
    if unsaid.covers(plane.name) {
        return Err(format!("replica `{replica}` cannot publish what it sees there; see its log"));
    }
    let Some(published) = published.filter(|published| published.data_plane_uid == plane.uid) else {
        return Err(format!("replica `{replica}` has not said yet what it sees there"));
    };
    // Of another shard is what a replica says that spreads them over another number of shards.
    let is_of_shard = u32::try_from(published.shard) == Ok(plane.shard);
    if !is_of_shard || published.epoch != held.epoch || published.holder != *replica {
        return Err(format!("replica `{replica}` has taken it over and has not said yet what it sees there"));
    }
    if published.format != FORMAT {
        return Err(format!(
            "replica `{replica}` is of another version, and this one cannot read what it publishes"
        ));
    }
    if published.address_hash != plane.address_hash {
        return Err(format!("replica `{replica}` still reaches it by another address"));
    }
    Ok(published.epoch)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{
        super::table::{Shard, Unsaid},
        *,
    };

    fn published() -> DataPlaneViewSpec {
        DataPlaneViewSpec {
            data_plane_uid: "u".to_owned(),
            shard: 3,
            holder: "a".to_owned(),
            epoch: 7,
            address_hash: "h".to_owned(),
            format: FORMAT,
            data: String::new(),
        }
    }

    const EU: WatchedPlane<'_> = WatchedPlane { name: "eu", uid: "u", shard: 3, address_hash: "h" };

    fn holder(unsaid: Unsaid) -> Holder {
        Holder { shard: Shard { holder: "a".to_owned(), epoch: 7 }, unsaid }
    }

    #[rstest]
    #[case::another_data_plane_of_that_name(|p: &mut DataPlaneViewSpec| p.data_plane_uid = "v".to_owned())]
    #[case::another_shard(|p: &mut DataPlaneViewSpec| p.shard = 4)]
    #[case::no_shard(|p: &mut DataPlaneViewSpec| p.shard = -1)]
    #[case::an_earlier_holder(|p: &mut DataPlaneViewSpec| p.epoch = 6)]
    #[case::a_later_epoch(|p: &mut DataPlaneViewSpec| p.epoch = i32::MAX)]
    #[case::another_replica(|p: &mut DataPlaneViewSpec| p.holder = "b".to_owned())]
    #[case::another_version(|p: &mut DataPlaneViewSpec| p.format = FORMAT + 1)]
    #[case::another_address(|p: &mut DataPlaneViewSpec| p.address_hash = "i".to_owned())]
    fn what_is_not_of_the_holder_now_is_no_knowledge(#[case] change: impl Fn(&mut DataPlaneViewSpec)) {
        let holder = holder(Unsaid::Nothing);
        let mut published = published();
        assert_eq!(judge(EU, Some(&holder), Some(&published)), Ok(7));
        change(&mut published);
        assert!(judge(EU, Some(&holder), Some(&published)).is_err());
    }

    #[test]
    fn without_a_holder_and_without_what_it_could_not_say_nothing_is_known() {
        fn why(holder: Option<&Holder>, published: Option<&DataPlaneViewSpec>) -> String {
            judge(EU, holder, published).unwrap_err()
        }
        let published = published();
        assert!(why(None, Some(&published)).contains("no replica"));
        assert!(why(Some(&holder(Unsaid::Nothing)), None).contains("has not said yet"));
        let unsaid = Unsaid::of(["eu".to_owned()].into());
        assert!(why(Some(&holder(unsaid)), Some(&published)).contains("cannot publish"));
        let of_another = Unsaid::of(["us".to_owned()].into());
        assert_eq!(judge(EU, Some(&holder(of_another)), Some(&published)), Ok(7));
    }
}
