//! Says a scene in words, in many ways: some often, some rarely, so that wording matters.

use super::random::Random;
use super::scene::{Background, Object, Scene, Side, Size};

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
        }
    }
}

/// The words for a number up to [`Scene::MAX_OBJECTS`].
pub const NUMBERS: [&str; 5] = ["no", "one", "two", "three", "four"];

/// A part of a sentence: one or more objects, related or counted together.
enum Clause {
    /// Objects that are alike, and how many.
    Alike(Object, usize),
    /// A chain of objects, each standing on a side of the next.
    Chain(Vec<Object>, Vec<Side>),
}

/// `scene` said in `style`; the order of what is unrelated is up to `random`.
pub fn word(scene: &Scene, style: &Style, random: &mut Random) -> String {
    let mut clauses = clauses(scene, style);
    random.shuffle(&mut clauses);
    let parts: Vec<String> = clauses.iter().map(|clause| say(clause, style)).collect();
    let body = join(&parts, style);
    let opened = match style.opening {
        Opening::None => body,
        Opening::Phrase(phrase) => format!("{phrase} {body}"),
        Opening::Total(noun) => match scene.objects.len() {
            1 => body,
            n => format!("{} {noun}: {body}", NUMBERS[n.min(4)]),
        },
    };
    let text = match scene.background {
        Some(background) => with_ground(&opened, background, style),
        None => opened,
    };
    match style.case {
        Case::Lower => text,
        Case::Upper => text.to_uppercase(),
        Case::Sentence => {
            let mut letters = text.chars();
            let first: String = letters
                .next()
                .map(|c| c.to_uppercase().collect())
                .unwrap_or_default();
            format!("{first}{}.", letters.as_str())
        }
    }
}

/// Groups the objects into what is said together. Relations come in chains of neighbours, as
/// [`super::sample::sample_scene`] makes them; other relations are said as pairs.
fn clauses(scene: &Scene, style: &Style) -> Vec<Clause> {
    let mut said = vec![false; scene.objects.len()];
    let mut clauses = Vec::new();
    let mut chain: Option<(usize, Vec<Object>, Vec<Side>)> = None;
    for relation in &scene.relations {
        said[relation.subject] = true;
        said[relation.object] = true;
        let target = scene.objects[relation.object];
        match &mut chain {
            Some((last, objects, sides)) if *last == relation.subject => {
                *last = relation.object;
                objects.push(target);
                sides.push(relation.side);
            }
            _ => {
                clauses.extend(chain.take().map(|(_, o, s)| Clause::Chain(o, s)));
                let subject = scene.objects[relation.subject];
                chain = Some((relation.object, vec![subject, target], vec![relation.side]));
            }
        }
    }
    clauses.extend(chain.map(|(_, o, s)| Clause::Chain(o, s)));
    if style.inverted {
        for clause in &mut clauses {
            if let Clause::Chain(objects, sides) = clause {
                objects.reverse();
                sides.reverse();
                sides.iter_mut().for_each(|side| *side = side.inverse());
            }
        }
    }
    for (index, &object) in scene.objects.iter().enumerate() {
        if std::mem::replace(&mut said[index], true) {
            continue;
        }
        let mut count = 1;
        if style.counts != Counts::Repeated {
            let later = said.iter_mut().zip(&scene.objects).skip(index + 1);
            for (said, _) in later.filter(|(said, other)| !**said && **other == object) {
                *said = true;
                count += 1;
            }
        }
        clauses.push(Clause::Alike(object, count));
    }
    clauses
}

fn say(clause: &Clause, style: &Style) -> String {
    match clause {
        Clause::Alike(object, 1) => say_one(object, style),
        Clause::Alike(object, count) => {
            let number = match style.counts {
                Counts::Digits => count.to_string(),
                _ => NUMBERS[(*count).min(4)].to_string(),
            };
            format!("{number} {}", describe(object, true, style))
        }
        Clause::Chain(objects, sides) => {
            let mut text = say_one(&objects[0], style);
            for (object, &side) in objects[1..].iter().zip(sides) {
                text.push_str(&format!(
                    " {} {}",
                    say_side(side, style.sides),
                    say_one(object, style)
                ));
            }
            text
        }
    }
}

fn say_side(side: Side, sides: Sides) -> &'static str {
    match (sides, side) {
        (Sides::Plain, side) => side.word(),
        (Sides::ToThe, Side::LeftOf) => "to the left of",
        (Sides::ToThe, Side::RightOf) => "to the right of",
        (Sides::OnThe, Side::LeftOf) => "on the left of",
        (Sides::OnThe, Side::RightOf) => "on the right of",
        (Sides::OnThe, Side::Above) => "over",
        (Sides::OnThe, Side::Below) => "under",
        (Sides::Is, Side::LeftOf) => "is to the left of",
        (Sides::Is, Side::RightOf) => "is to the right of",
        (Sides::Is, Side::Above) => "is above",
        (Sides::Is, Side::Below) => "is below",
        (Sides::ToThe, side) => side.word(),
    }
}

fn say_one(object: &Object, style: &Style) -> String {
    let name = describe(object, false, style);
    match style.form {
        Form::Terse | Form::Bare => name,
        Form::Sentence | Form::Ands if name.starts_with("orange") => format!("an {name}"),
        Form::Sentence | Form::Ands => format!("a {name}"),
    }
}

fn describe(object: &Object, several: bool, style: &Style) -> String {
    let size = match (object.size, style.synonyms) {
        (None, _) => None,
        (Some(size), false) => Some(size.word()),
        (Some(Size::Small), true) => Some("tiny"),
        (Some(Size::Large), true) => Some("big"),
    };
    let shape = if several {
        object.shape.plural()
    } else {
        object.shape.word().to_string()
    };
    let words = [
        size.map(str::to_string),
        object.colour.map(|colour| colour.word().to_string()),
        Some(shape),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn join(parts: &[String], style: &Style) -> String {
    match style.form {
        Form::Ands => parts.join(" and "),
        Form::Terse => parts.join(", "),
        Form::Bare => parts.join(" "),
        Form::Sentence => match parts {
            [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
            _ => parts.join(", "),
        },
    }
}

fn with_ground(text: &str, background: Background, style: &Style) -> String {
    let name = match (background, style.synonyms) {
        (Background::Gray, true) => "grey",
        (background, _) => background.word(),
    };
    match style.ground {
        Ground::OnA => format!("{text} on a {name} background"),
        Ground::Comma => format!("{text}, {name} background"),
        Ground::On => format!("{text} on {name}"),
        Ground::First => format!("{name} background: {text}"),
        Ground::Against => format!("{text} against a {name} background"),
    }
}
