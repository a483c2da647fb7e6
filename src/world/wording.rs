//! Says a scene in words, in many ways: some often, some rarely, so that wording matters.

mod say;

use super::random::Random;

pub use say::{restate, word};

/// How a scene is put into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whole phrases or a bare list.
    pub form: Form,
    /// What comes before the objects.
    pub opening: Opening,
    /// How the background is named.
    pub ground: Ground,
    /// How "left of" is said.
    pub sides: Sides,
    /// Upper and lower case.
    pub case: Case,
    /// Whether alike objects are counted ("two red circles") or repeated.
    pub counts: Counts,
    /// Whether rare synonyms are used ("tiny", "big", "grey").
    pub synonyms: bool,
    /// Whether relations may be said from the other end.
    pub inverted: bool,
    /// How often objects and relations are named.
    pub telling: Telling,
}

/// How often objects and relations are named. No training text named anything twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Once: "a red circle left of a blue square above a green star"
    Once,
    /// Each relation by itself: "a red circle left of a blue square, the blue square above a green star"
    Paired,
    /// So, and from the other end: "a red circle left of a blue square, the blue square right of the
    /// red circle"
    BothEnds,
    /// All objects, then how they stand: "a red circle, a blue square, the red circle left of the blue
    /// square"
    Listed,
    /// Once, and then every object again: "…, the red circle, the blue square"
    Again,
}

/// Whole phrases or a bare list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// "a red circle, a blue square and a green star"
    Sentence,
    /// "a red circle and a blue square and a green star"
    Ands,
    /// "red circle, blue square, green star"
    Terse,
    /// "red circle blue square green star"
    Bare,
}

/// What comes before the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Nothing.
    None,
    /// "a picture of", "an image of", "a drawing of", "there is"
    Phrase(&'static str),
    /// "three shapes:"
    Total(&'static str),
}

/// How the background is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// "… on a white background"
    OnA,
    /// "…, white background"
    Comma,
    /// "… on white"
    On,
    /// "white background: …"
    First,
    /// "… against a white background"
    Against,
}

/// How a relation is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// "left of", "above"
    Plain,
    /// "to the left of", "above"
    ToThe,
    /// "on the left of", "over", "under"
    OnThe,
    /// "is to the left of", "is above"
    Is,
}

/// Upper and lower case, and a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// As it is.
    Lower,
    /// A capital first and a full stop.
    Sentence,
    /// All capitals.
    Upper,
}

/// How objects that are alike are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// "two red circles"
    Words,
    /// "2 red circles"
    Digits,
    /// "a red circle and a red circle"
    Repeated,
}

impl Style {
    /// The commonest wording.
    pub const PLAIN: Self = Self {
        form: Form::Sentence,
        opening: Opening::None,
        ground: Ground::OnA,
        sides: Sides::Plain,
        case: Case::Lower,
        counts: Counts::Words,
        synonyms: false,
        inverted: false,
        telling: Telling::Once,
    };

    /// A style at random, each at the rate at which training saw it.
    pub fn sample(random: &mut Random) -> Self {
        Self {
            form: random.weighted(&[
                (0.62, Form::Sentence),
                (0.10, Form::Ands),
                (0.25, Form::Terse),
                (0.03, Form::Bare),
            ]),
            opening: random.weighted(&[
                (0.74, Opening::None),
                (0.07, Opening::Phrase("a picture of")),
                (0.03, Opening::Phrase("an image of")),
                (0.01, Opening::Phrase("a drawing of")),
                (0.03, Opening::Phrase("there is")),
                (0.10, Opening::Total("shapes")),
                (0.02, Opening::Total("objects")),
            ]),
            ground: random.weighted(&[
                (0.68, Ground::OnA),
                (0.22, Ground::Comma),
                (0.05, Ground::On),
                (0.03, Ground::First),
                (0.02, Ground::Against),
            ]),
            sides: random.weighted(&[
                (0.62, Sides::Plain),
                (0.30, Sides::ToThe),
                (0.03, Sides::OnThe),
                (0.05, Sides::Is),
            ]),
            case: random.weighted(&[
                (0.80, Case::Lower),
                (0.16, Case::Sentence),
                (0.04, Case::Upper),
            ]),
            counts: random.weighted(&[
                (0.86, Counts::Words),
                (0.04, Counts::Digits),
                (0.10, Counts::Repeated),
            ]),
            synonyms: random.chance(0.03),
            inverted: random.chance(0.3),
            telling: Telling::Once,
        }
    }
}

/// The words for a number up to [`Scene::MAX_OBJECTS`].
pub const NUMBERS: [&str; 5] = ["no", "one", "two", "three", "four"];
