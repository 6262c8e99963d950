//! Label selectors as kubectl reads them: `env=prod,tier!=test,zone in (a,b),!old`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Reads a label selector.
///
/// # Errors
/// What is expected, for people.
pub fn parse(text: &str) -> Result<LabelSelector, String> {
    let mut selector = LabelSelector::default();
    for part in split_outside_parentheses(text) {
        let requirement = requirement(part.trim()).ok_or_else(|| {
            format!("`{part}` is not a label requirement such as `env=prod`, `tier!=test`, `zone in (a,b)` or `!old`")
        })?;
        match requirement {
            (key, "=", mut values) => {
                let value = values.pop().unwrap_or_default();
                let labels = selector.match_labels.get_or_insert_default();
                if labels.insert(key.clone(), value).is_some() {
                    return Err(format!("label `{key}` cannot have two values"));
                }
            }
            (key, operator, values) => {
                let values = (!values.is_empty()).then_some(values);
                selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                    key,
                    operator: operator.to_owned(),
                    values,
                });
            }
        }
    }
    Ok(selector)
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(part: &str) -> Option<(String, &'static str, Vec<String>)> {
    let key = |text: &str| {
        let text = text.trim();
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        (!text.is_empty() && text.chars().all(fine)).then(|| text.to_owned())
    };
    let value = |text: &str| {
        let text = text.trim();
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.chars().all(fine).then(|| text.to_owned())
    };
    if let Some(absent) = part.strip_prefix('!') {
        return Some((key(absent)?, "DoesNotExist", Vec::new()));
    }
    if let Some((name, unwanted)) = part.split_once("!=") {
        return Some((key(name)?, "NotIn", vec![value(unwanted)?]));
    }
    if let Some((name, wanted)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some((key(name)?, "=", vec![value(wanted)?]));
    }
    if let Some(list) = part.strip_suffix(')') {
        let (head, list) = list.split_once('(')?;
        let (name, operator) = head.trim().rsplit_once(' ')?;
        let operator = match operator {
            "in" => "In",
            "notin" => "NotIn",
            _ => return None,
        };
        return Some((key(name)?, operator, list.split(',').map(value).collect::<Option<_>>()?));
    }
    Some((key(part)?, "Exists", Vec::new()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_kubectl_knows_is_read() {
        let selector = parse("env=prod,tier!=test, zone in (a, b),team notin (x),new,!old").unwrap();
        let expected = json!({
            "matchLabels": {"env": "prod"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["test"]},
                {"key": "zone", "operator": "In", "values": ["a", "b"]},
                {"key": "team", "operator": "NotIn", "values": ["x"]},
                {"key": "new", "operator": "Exists"},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        });
        assert_eq!(serde_json::to_value(selector).unwrap(), expected);
    }

    #[rstest]
    #[case("")]
    #[case("env=prod,")]
    #[case("env = a b")]
    #[case("zone among (a,b)")]
    #[case("=x")]
    #[case("env=a,env=b")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(parse(text).is_err());
    }
}
