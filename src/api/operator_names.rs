//! How cass-operator and k8ssandra-operator make a name of any text (upstream: Names): the names of StatefulSets, pods,
//! services, and of everything k8ssandra-operator calls after the Cassandra cluster.

/// A DNS-1035 label as it is; anything else lower-cased, `_` made `-`, and its valid pieces put together.
#[must_use]
pub fn label(text: &str) -> String {
    clean(text, |c| c.is_ascii_lowercase(), |c| c == '-')
}

/// The same for a DNS-1123 subdomain, which may begin with a digit and hold dots.
#[must_use]
pub fn subdomain(text: &str) -> String {
    clean(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), |c| c == '-' || c == '.')
}

fn clean(text: &str, may_begin: fn(char) -> bool, may_join: fn(char) -> bool) -> String {
    let lower = text.to_lowercase().replace('_', "-");
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut cleaned = String::new();
    // What may become part of the piece under way, once a character that may end it follows.
    let mut pending = String::new();
    let mut inside = false;
    for c in lower.chars() {
        if inside && is_alphanumeric(c) {
            cleaned.push_str(&pending);
            pending.clear();
            cleaned.push(c);
        } else if inside && may_join(c) {
            pending.push(c);
        } else {
            pending.clear();
            inside = may_begin(c);
            if inside {
                cleaned.push(c);
            }
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("shop", "shop")]
    #[case("First Cluster", "firstcluster")]
    #[case("my_cluster", "my-cluster")]
    #[case("-a-", "a")]
    #[case("1st one", "stone")]
    #[case("a-.b", "ab")]
    #[case("a--b", "a--b")]
    fn cluster_names_are_cleaned_as_cass_operator_does(#[case] name: &str, #[case] cleaned: &str) {
        assert_eq!(label(name), cleaned);
    }

    #[rstest]
    #[case("1a", "1a")]
    #[case("eu.west", "eu.west")]
    #[case("Rack 1", "rack1")]
    fn rack_names_may_begin_with_a_digit(#[case] name: &str, #[case] cleaned: &str) {
        assert_eq!(subdomain(name), cleaned);
    }
}
