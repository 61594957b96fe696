//! The language of a page: the visible switch, then the remembered choice, then `Accept-Language`, then French.

use guichet_config::Text;

/// A language the pages speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lang {
    /// French.
    Fr,
    /// English.
    En,
}

impl Lang {
    /// Of `?lang=` and the cookie.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "fr" => Some(Self::Fr),
            "en" => Some(Self::En),
            _ => None,
        }
    }

    /// The best of an `Accept-Language` field (RFC 9110 §12.5.4). French when it names neither.
    pub(crate) fn accepted(field: &str) -> Self {
        let mut best = (Self::Fr, 0u16);
        for item in field.split(',').take(32) {
            let mut parts = item.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split('-').next().unwrap_or_default();
            let Some(lang) = Self::named(&primary.to_ascii_lowercase()) else { continue };
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, per_mille);
            if quality > best.1 {
                best = (lang, quality);
            }
        }
        best.0
    }

    /// `fr` or `en`, for the `lang` attribute.
    pub(crate) fn code(self) -> &'static str {
        self.pick("fr", "en")
    }

    /// The one of two texts.
    pub(crate) fn pick<'a>(self, fr: &'a str, en: &'a str) -> &'a str {
        match self {
            Self::Fr => fr,
            Self::En => en,
        }
    }

    /// The one of a configured text; the other where it is empty.
    pub(crate) fn of(self, text: &Text) -> &str {
        let (wanted, other) = match self {
            Self::Fr => (&text.fr, &text.en),
            Self::En => (&text.en, &text.fr),
        };
        if wanted.is_empty() { other } else { wanted }
    }
}

/// A quality value in thousandths; what cannot be read counts as zero.
fn per_mille(value: &str) -> u16 {
    value.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).map_or(0, |q| (q * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_quality_wins() {
        assert_eq!(Lang::accepted("en-GB,en;q=0.9,fr;q=0.8"), Lang::En);
        assert_eq!(Lang::accepted("de, en;q=0.3, fr-CA;q=0.5"), Lang::Fr);
        assert_eq!(Lang::accepted("en;q=0, fr;q=0.1"), Lang::Fr);
    }

    #[test]
    fn nothing_usable_means_french() {
        for field in ["", "de", "*", "en;q=0", "en;q=x", ";;;,,,", "q=1"] {
            assert_eq!(Lang::accepted(field), Lang::Fr, "{field:?}");
        }
    }
}
