//! Compares a parsed file with its schema and reports *every* difference: unknown keys, wrong types, missing keys,
//! numbers out of range. (serde alone stops at the first.) On the way it notes where each key stands.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::JsonSchema;
use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{Place, Problem, document::Lines, schema};

/// Walks the document. Unknown keys are reported and dropped; says whether the rest can be read as `T`.
pub(crate) fn check<T: JsonSchema>(
    root: &mut DeValue<'_>,
    lines: &Lines<'_>,
    places: &mut BTreeMap<String, Place>,
    problems: &mut Vec<Problem>,
) -> bool {
    let schema = schema::of::<T>();
    let top = lines.place(0);
    let mut walk = Walk { root: &schema, lines, places, problems, whole: true };
    walk.value(&schema, root, "", &top);
    walk.whole
}

/// `parent.name`, quoted where TOML wants it.
pub(crate) fn join(parent: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let name = if bare { Cow::Borrowed(name) } else { Cow::Owned(format!("{name:?}")) };
    if parent.is_empty() { name.into_owned() } else { format!("{parent}.{name}") }
}

struct Walk<'a, 'b> {
    /// The whole schema, for references into it.
    root: &'a Value,
    lines: &'a Lines<'b>,
    places: &'a mut BTreeMap<String, Place>,
    problems: &'a mut Vec<Problem>,
    whole: bool,
}

impl<'a> Walk<'a, '_> {
    fn value(&mut self, schema: &'a Value, value: &mut DeValue<'_>, key: &str, place: &Place) {
        let schema = self.resolve(schema);
        let allowed = choices(schema);
        let expected =
            if allowed.is_empty() { schema.get("type").and_then(Value::as_str).unwrap_or("object") } else { "string" };
        match (expected, value) {
            ("object", DeValue::Table(table)) => self.table(schema, table, key, place),
            ("array", DeValue::Array(array)) => {
                self.between(schema, "minItems", "maxItems", array.len() as i128, " entries", key, place);
                let items = schema.get("items").unwrap_or(&Value::Null);
                for (index, item) in array.iter_mut().enumerate() {
                    let key = format!("{key}[{index}]");
                    let place = self.lines.start(&item.span());
                    self.places.entry(key.clone()).or_insert_with(|| place.clone());
                    self.value(items, item.get_mut(), &key, &place);
                }
            }
            ("string", DeValue::String(text)) => {
                if !allowed.is_empty() && !allowed.contains(&text.as_ref()) {
                    let hint = similar(text, &allowed).map(|near| format!("did you mean \"{near}\"?"));
                    let message = format!("unknown value {text:?}, expected one of {}", list(&allowed, '"'));
                    self.broken(place, key, message, hint);
                }
            }
            ("boolean", DeValue::Boolean(_)) => {}
            ("integer", DeValue::Integer(number)) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => self.between(schema, "minimum", "maximum", number, "", key, place),
                Err(_) => self.broken(place, key, "this is not a number of 64 bits".to_owned(), None),
            },
            (expected, value) => {
                let message = format!("{} is expected, not {}", article(expected), article(value.type_str()));
                self.broken(place, key, message, None);
            }
        }
    }

    fn table(&mut self, schema: &'a Value, table: &mut DeTable<'_>, key: &str, place: &Place) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let known: Vec<&str> = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str).collect();
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let mut meant = Vec::new();
        for (name, mut value) in std::mem::take(table) {
            let path = join(key, name.get_ref());
            let place = place_of(self.lines, &name, &value);
            self.places.entry(path.clone()).or_insert_with(|| place.clone());
            if let Some(schema) = properties.and_then(|p| p.get(name.get_ref().as_ref())).or(others) {
                self.value(schema, value.get_mut(), &path, &place);
                table.insert(name, value);
                continue;
            }
            let near = similar(name.get_ref(), &known);
            meant.extend(near);
            let expected =
                if known.is_empty() { "nothing".to_owned() } else { format!("one of {}", list(&known, '`')) };
            self.problems.push(Problem {
                place: self.lines.start(&name.span()),
                key: path,
                message: format!("unknown key, expected {expected}"),
                hint: near.map(|near| format!("did you mean `{near}`?")),
            });
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if table.contains_key(name) {
                continue;
            }
            self.whole = false;
            // A misspelt key was reported already; that it is missing too says nothing new.
            if !meant.contains(&name) {
                let about = properties.and_then(|p| p.get(name)).and_then(|schema| self.about(schema));
                self.broken(place, &join(key, name), "missing key".to_owned(), about);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one sentence with two bounds, used for lengths and for numbers")]
    fn between(&mut self, schema: &Value, min: &str, max: &str, number: i128, unit: &str, key: &str, place: &Place) {
        let bound = |name| schema.get(name).and_then(Value::as_i64).map(i128::from);
        let (min, max) = (bound(min), bound(max));
        if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
            let expected = match (min, max) {
                (Some(min), Some(max)) => format!("{min} to {max}{unit} are expected"),
                (Some(min), None) => format!("at least {min}{unit} are expected"),
                (None, max) => format!("at most {}{unit} are expected", max.unwrap_or_default()),
            };
            self.broken(place, key, format!("{number} is out of range: {expected}"), None);
        }
    }

    fn broken(&mut self, place: &Place, key: &str, message: String, hint: Option<String>) {
        self.whole = false;
        self.problems.push(Problem { place: place.clone(), key: key.to_owned(), message, hint });
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        reference.and_then(|path| self.root.pointer(path)).unwrap_or(schema)
    }

    /// What a key is for, from its comment.
    fn about(&self, schema: &'a Value) -> Option<String> {
        let text = schema.get("description").or_else(|| self.resolve(schema).get("description"))?.as_str()?;
        Some(text.trim_end_matches('.').to_owned())
    }
}

/// A key stands where its value does; a `[table]` where its name does.
fn place_of(lines: &Lines<'_>, name: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Place {
    let inline = value.span().start >= name.span().end;
    if inline { lines.start(&value.span()) } else { lines.start(&name.span()) }
}

/// The words an enumeration allows.
fn choices(schema: &Value) -> Vec<&str> {
    let words = schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let one_of = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    words.chain(one_of.filter_map(|choice| choice.get("const")?.as_str())).collect()
}

fn article(kind: &str) -> String {
    match kind {
        "object" | "table" => "a table".to_owned(),
        "array" | "integer" => format!("an {kind}"),
        other => format!("a {other}"),
    }
}

/// `a`, `b`, `c`, each in the given quotes.
pub(crate) fn list(words: &[&str], quote: char) -> String {
    words.iter().map(|word| format!("{quote}{word}{quote}")).collect::<Vec<_>>().join(", ")
}

/// The word most like `text`, when one is like it at all.
pub(crate) fn similar<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    if text.len() > SIMILAR_BYTES_MAX {
        return None;
    }
    let near = words.iter().map(|word| (distance(text, word), *word)).min()?;
    (near.0 <= near.1.len().max(text.len()) / 3).then_some(near.1)
}

/// Letters to change, insert or drop to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(from != *to)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Longer words are nobody's slip of the finger.
const SIMILAR_BYTES_MAX: usize = 64;
