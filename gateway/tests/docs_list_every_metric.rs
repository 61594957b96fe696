//! The names in `docs/metrics.md` are the names in the code.

use std::collections::BTreeSet;

fn names(text: &str, before: char) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("guichet_") {
        if at > 0 && text[..at].ends_with(before) {
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            found.insert(name);
        }
    }
    found
}

#[test]
fn docs_list_every_metric() {
    let code = names(include_str!("../src/telemetry/metric.rs").split("mod tests").next().unwrap(), '"');
    let docs = names(include_str!("../../docs/metrics.md").split("## What to watch").next().unwrap(), '`');

    let undocumented: Vec<_> = code.difference(&docs).collect();
    let gone: Vec<_> = docs.difference(&code).collect();
    assert!(undocumented.is_empty() && gone.is_empty(), "not in docs/metrics.md: {undocumented:?}; gone: {gone:?}");
}
