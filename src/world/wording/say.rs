//! Puts a scene into words, in the style asked for.

use super::{Case, Counts, Form, Ground, NUMBERS, Opening, Sides, Style, Telling};
use crate::world::random::Random;
use crate::world::scene::{Background, Object, Relation, Scene, Side, Size};

/// A part of a sentence: one or more objects, related or counted together.
enum Clause {
    /// Objects that are alike, and how many.
    Alike(Object, usize),
    /// A chain of objects, each standing on a side of the next.
    Chain(Vec<Object>, Vec<Side>),
}

/// `scene` said in `style`; the order of what is unrelated is up to `random`.
pub fn word(scene: &Scene, style: &Style, random: &mut Random) -> String {
    let body = match style.telling {
        Telling::Once => once(scene, style, random),
        Telling::Again => {
            let again = scene.objects.iter().map(|object| again(object, style));
            let parts = std::iter::once(once(scene, style, random)).chain(again);
            parts.collect::<Vec<_>>().join(", ")
        }
        telling => retold(scene, telling, style, random),
    };
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

/// Everything once, what is related in chains.
fn once(scene: &Scene, style: &Style, random: &mut Random) -> String {
    let mut clauses = clauses(scene, style);
    random.shuffle(&mut clauses);
    let parts: Vec<String> = clauses.iter().map(|clause| say(clause, style)).collect();
    join(&parts, style)
}

/// Each relation by itself, with "the" before what was named already.
fn retold(scene: &Scene, telling: Telling, style: &Style, random: &mut Random) -> String {
    let mut relations = scene.relations.clone();
    if style.inverted {
        relations.iter_mut().for_each(|r| *r = r.inverse());
    }
    random.shuffle(&mut relations);
    let mut order: Vec<usize> = (0..scene.objects.len()).collect();
    random.shuffle(&mut order);
    let mut named = vec![false; scene.objects.len()];
    let mut say = |index: usize| {
        let object = &scene.objects[index];
        match std::mem::replace(&mut named[index], true) {
            false => say_one(object, style),
            true => again(object, style),
        }
    };
    let mut parts: Vec<String> = Vec::new();
    if telling == Telling::Listed {
        parts.extend(order.iter().copied().map(&mut say));
    }
    for relation in &relations {
        let inverse = (telling == Telling::BothEnds).then(|| relation.inverse());
        for said in std::iter::once(*relation).chain(inverse) {
            let subject = say(said.subject);
            let side = say_side(said.side, style.sides);
            parts.push(format!("{subject} {side} {}", say(said.object)));
        }
    }
    let related = |index: usize| {
        let mut ends = relations.iter().flat_map(|r| [r.subject, r.object]);
        telling == Telling::Listed || ends.any(|end| end == index)
    };
    let alone = order.iter().copied().filter(|index| !related(*index));
    parts.extend(alone.map(&mut say));
    parts.join(", ")
}

/// A relation of two objects that were named before: "the blue square right of the red circle".
pub fn restate(scene: &Scene, relation: Relation) -> String {
    let the = |index: usize| again(&scene.objects[index], &Style::PLAIN);
    let side = say_side(relation.side, Sides::Plain);
    format!("{} {side} {}", the(relation.subject), the(relation.object))
}

/// An object that was named before.
fn again(object: &Object, style: &Style) -> String {
    format!("the {}", describe(object, false, style))
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
