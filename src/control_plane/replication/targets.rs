//! The annotation `targets` of a MedusaConfiguration. Pure.

use std::collections::BTreeSet;

use super::desired::{Places, SHOWN};
use crate::api::{Reason, Why, labels, names};

/// Most mistakes that are named.
const NAMED: usize = 10;

/// Reads a `targets` annotation: `*`, or `<dataPlane>/<namespace>` separated by commas or white space;
/// either side may be `*`, meaning every data plane, and every namespace there that hosts a datacenter.
pub(super) fn targets(annotation: &str, places: &Places) -> (BTreeSet<(String, String)>, Vec<Why>) {
    let mut targets = BTreeSet::new();
    let mut problems = Vec::new();
    let words = annotation.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
    for word in words {
        let shown = names::shown(word, SHOWN);
        let (plane, namespace) = match read(word) {
            Ok(target) => target,
            Err(fix) => {
                let message = format!("annotation `{}` holds `{shown}`; {fix}", labels::TARGETS);
                problems.push(Why::new(Reason::InvalidTargets, message));
                continue;
            }
        };
        if plane != "*" && !places.hosting.contains_key(plane) {
            let message = format!(
                "annotation `{}` names data plane `{}`, which is not registered",
                labels::TARGETS,
                names::shown(plane, SHOWN)
            );
            problems.push(Why::new(Reason::UnknownDataPlane, message));
            continue;
        }
        for (name, hosting) in places.hosting.iter().filter(|(name, _)| plane == "*" || *name == plane) {
            if namespace == "*" {
                targets.extend(hosting.iter().map(|ns| (name.clone(), ns.clone())));
            } else {
                targets.insert((name.clone(), namespace.to_owned()));
            }
        }
    }
    let more = problems.len().saturating_sub(NAMED);
    if more > 0 {
        problems.truncate(NAMED);
        let message =
            format!("annotation `{}` holds {more} more words that cannot be followed", labels::TARGETS);
        problems.push(Why::new(Reason::InvalidTargets, message));
    }
    (targets, problems)
}

/// Data plane and namespace of one word, or how to write it.
fn read(word: &str) -> Result<(&str, &str), &'static str> {
    if word == "*" {
        return Ok(("*", "*"));
    }
    match word.split_once('/') {
        Some((plane, namespace))
            if !plane.is_empty() && !namespace.is_empty() && !namespace.contains('/') =>
        {
            if namespace == "*" || names::is_namespace(namespace) {
                Ok((plane, namespace))
            } else {
                Err("no namespace can be called that: at most 63 of a-z, 0-9 and `-`")
            }
        }
        Some(_) | None => Err("write `*` or `<dataPlane>/<namespace>`"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn places() -> Places {
        let hosting = BTreeMap::from([("eu".to_owned(), BTreeSet::from(["cass".to_owned()]))]);
        Places { hosting, ..Places::default() }
    }

    #[test]
    fn a_namespace_that_is_no_name_is_refused_where_it_is_read() {
        for word in
            ["eu/Cass", "eu/a.b", "eu/..", "eu/a%2e", "eu/a?b", "eu/-a", &format!("eu/{}", "n".repeat(64))]
        {
            let (targets, problems) = targets(word, &places());
            assert!(targets.is_empty(), "{word}");
            assert_eq!(problems.len(), 1, "{word}");
            assert_eq!(problems[0].reason, Reason::InvalidTargets);
            assert!(problems[0].message.contains("no namespace can be called"), "{}", problems[0].message);
        }
        assert_eq!(targets("eu/cass,*", &places()), ([("eu".to_owned(), "cass".to_owned())].into(), vec![]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_an_annotation_holds_messages_are_few_short_and_plain(text in "[\\PC\u{1b}\u{202e}/, ]{0,400}") {
            let (targets, problems) = targets(&text, &places());
            prop_assert!(targets.iter().all(|(plane, ns)| plane == "eu" && names::is_namespace(ns)));
            prop_assert!(problems.len() <= NAMED + 1);
            for problem in problems {
                prop_assert!(problem.message.len() < 300 && !problem.message.contains('\u{1b}'), "{}", problem.message);
            }
        }
    }
}
