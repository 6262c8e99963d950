//! How much memory an object takes, about. Pure: it says nothing of how much may be taken.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// What a value in a list or map takes besides its text: its length, its place on the heap and in its map.
const VALUE: usize = 64;
/// What an object takes in a section whatever it holds: its key, its counts and its node.
const OBJECT: usize = 256;

/// About how many bytes of memory `object` takes, from what it would be as JSON. A list of ten thousand empty names is
/// short as text, so that every value counts as well as every character.
pub fn weight(object: &impl Serialize) -> usize {
    let mut counter = Counter::default();
    // Whatever cannot be written ends early; what was counted until then is counted.
    let _ = object.serialize(&mut Serializer::with_formatter(io::sink(), &mut counter));
    counter.0.saturating_add(OBJECT)
}

#[derive(Default)]
struct Counter(usize);

impl Formatter for &mut Counter {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, _: &mut W, _: bool) -> io::Result<()> {
        self.0 = self.0.saturating_add(VALUE);
        Ok(())
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, _: &mut W, _: bool) -> io::Result<()> {
        self.0 = self.0.saturating_add(VALUE);
        Ok(())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, _: &mut W, text: &str) -> io::Result<()> {
        self.0 = self.0.saturating_add(text.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_and_every_character_counts() {
        let of = |value| weight(&value) - OBJECT;
        assert_eq!(of(json!({})), 0);
        assert_eq!(of(json!({"a": "bcd"})), VALUE + 4);
        assert_eq!(of(json!(["", "", ""])), 3 * VALUE, "many empty values are not free");
        assert_eq!(of(json!({"a": {"b": [1, 2]}})), 2 * VALUE + 2 + 2 * VALUE);
    }
}
