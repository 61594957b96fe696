//! Names as people search them: without accents and capitals, in words.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// A text without capitals and accents, ligatures taken apart: `Œuvre d’Évry` is `oeuvre d’evry`.
pub(super) fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            'œ' => folded.push_str("oe"),
            'æ' => folded.push_str("ae"),
            'ß' => folded.push_str("ss"),
            'ø' => folded.push('o'),
            'ł' => folded.push('l'),
            c => folded.push(c),
        }
    }
    folded
}

/// The words of a folded text: what stands between characters that are neither letters nor digits.
pub(super) fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}
