use std::fmt;

/// Why a probe does not hold for some settings, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// All but the guidance is as it was trained for: it can predict, and what it says can be
    /// calibrated by pictures that were rendered with this guidance.
    Guidance(String),
    /// It cannot predict at all.
    Other(String),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guidance(why) | Self::Other(why) => f.write_str(why),
        }
    }
}

impl From<Misfit> for String {
    fn from(misfit: Misfit) -> Self {
        misfit.to_string()
    }
}
