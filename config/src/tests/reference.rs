//! docs/configuration.md lists every key with its type and default, as the schema has them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{file, schema};

/// One key as a row of the document tells it: path, type, default.
type Row = (String, String, String);

struct Rows<'a> {
    root: &'a Value,
    rows: BTreeSet<Row>,
}

impl Rows<'_> {
    fn table(&mut self, schema: &Value, key: &str) {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, value) in schema["properties"].as_object().into_iter().flatten() {
            let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let default = if required.contains(&name.as_str()) {
                "required".to_owned()
            } else {
                value.get("default").map_or("none".to_owned(), |value| format!("`{value}`").replace("\",\"", "\", \""))
            };
            self.value(value, &path, &default);
        }
        if schema["additionalProperties"].is_object() {
            let others = self.resolve(&schema["additionalProperties"]);
            self.value(&others, &format!("{key}.NAME"), "");
        }
    }

    fn value(&mut self, schema: &Value, key: &str, default: &str) {
        let resolved = self.resolve(schema);
        let words: Vec<String> =
            resolved["oneOf"].as_array().into_iter().flatten().map(|choice| format!("`{}`", choice["const"])).collect();
        let kind = match resolved["type"].as_str() {
            _ if !words.is_empty() => words.join(", "),
            Some("object") => {
                let empty = resolved["properties"].as_object().is_none_or(serde_json::Map::is_empty);
                if !empty || resolved["additionalProperties"].is_object() {
                    return self.table(&resolved, key);
                }
                "empty table".to_owned()
            }
            Some("array") => {
                let items = self.resolve(&schema["items"]);
                if items["type"] == "object" {
                    return self.table(&items, &format!("{key}[]"));
                }
                "texts".to_owned()
            }
            Some("string") if resolved.get("pattern").is_some() => "time".to_owned(),
            Some("string") => "text".to_owned(),
            Some("integer") => format!("{} to {}", schema["minimum"], schema["maximum"]),
            Some(other) => other.to_owned(),
            None => panic!("{key} has no type: {resolved}"),
        };
        self.rows.insert((key.to_owned(), kind, default.to_owned()));
    }

    fn resolve(&self, schema: &Value) -> Value {
        let reference = schema["$ref"].as_str().and_then(|text| self.root.pointer(text.trim_start_matches('#')));
        reference.unwrap_or(schema).clone()
    }
}

fn rows(root: &Value) -> BTreeSet<Row> {
    let mut rows = Rows { root, rows: BTreeSet::new() };
    rows.table(root, "");
    rows.rows
}

#[test]
fn every_key_stands_in_the_document_with_its_type_and_default() {
    let document = include_str!("../../../docs/configuration.md");
    let mut written = BTreeSet::new();
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        assert!(cells[3].len() > 5, "{line} says nothing");
        assert!(
            written.insert((cells[0].trim_matches('`').to_owned(), cells[1].to_owned(), cells[2].to_owned())),
            "{line} stands twice"
        );
    }
    let mut expected = rows(&schema::of::<file::Main>());
    expected.extend(rows(&schema::of::<file::UsersFile>()));
    let missing: Vec<&Row> = expected.difference(&written).collect();
    let unknown: Vec<&Row> = written.difference(&expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:#?}\nunknown: {unknown:#?}");
}

#[test]
fn the_schema_describes_every_key_and_knows_no_null() {
    fn walk(value: &Value) {
        match value {
            Value::Object(object) => {
                assert!(!object.values().any(|value| value.is_null() || value == "null"), "{value}");
                for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    assert!(property.get("description").is_some(), "{name} has no description: {property}");
                }
                object.values().for_each(walk);
            }
            Value::Array(items) => items.iter().for_each(walk),
            _ => {}
        }
    }
    let schema = crate::schema();
    walk(&schema);
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["public", "management", "listener", "directory", "cell"]));
}
