//! JSON objects read strictly: a name that stands twice is refused, at any depth, as RFC 7515 §4 and RFC 7519 §4 allow.
//! serde_json alone keeps the last of two, other readers the first.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::TokenRefusal;

/// One object, and nothing behind it.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, TokenRefusal> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(_) => Err(TokenRefusal::Malformed),
        Err(error) if error.to_string().starts_with(REPEATED) => Err(TokenRefusal::RepeatedName),
        Err(_) => Err(TokenRefusal::Malformed),
    }
}

/// A value whose objects have no name twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(REPEATED));
            }
        }
        Ok(Value::Object(object))
    }
}

const REPEATED: &str = "a name stands twice";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_whole_or_not() {
        let read = object(br#"{"a":[1,-2,0.5,{"b":null}],"c":true,"d":"\u00e9"}"#).unwrap();
        let same: Value = serde_json::from_str(r#"{"a":[1,-2,0.5,{"b":null}],"c":true,"d":"\u00e9"}"#).unwrap();
        assert_eq!(Value::Object(read), same);
        for text in ["", "[]", "1", "{}x", "{} {}", "{", r#"{"a"}"#, r#"{"a":1,}"#, "{\"a\":\"\n\"}", "{a:1}"] {
            assert_eq!(object(text.as_bytes()), Err(TokenRefusal::Malformed), "{text}");
        }
        assert_eq!(object("[".repeat(10_000).as_bytes()), Err(TokenRefusal::Malformed), "depth is bounded");
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(TokenRefusal::Malformed));
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_however_it_is_spelt_and_wherever() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"b":[{"a":1,"a":2}]}"#, r#"{"a":{},"a":{}}"#] {
            assert_eq!(object(text.as_bytes()), Err(TokenRefusal::RepeatedName), "{text}");
        }
    }
}
