//! Reads the scene out of a prompt: tolerant of case, punctuation and filler, strict about meaning.

use std::ops::Range;

use super::scene::{Background, Colour, Object, Relation, Scene, Shape, Side, Size};
use super::vocabulary::{Meaning, meaning, words};
use super::wording::NUMBERS;
use crate::{Error, Result};

/// A prompt that the world can draw, and which words asked for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What the prompt asks for.
    pub scene: Scene,
    /// For each object of the scene, its words; objects that are counted together share them.
    pub words: Vec<ObjectWords>,
    /// For each relation of the scene, the bytes of the word for its side ("left", "above").
    pub relations: Vec<Range<usize>>,
    /// The bytes of the background's colour.
    pub background: Option<Range<usize>>,
}

/// The byte ranges of the words that ask for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectWords {
    /// The shape's word.
    pub shape: Range<usize>,
    /// The colour's word.
    pub colour: Option<Range<usize>>,
    /// The size's word.
    pub size: Option<Range<usize>>,
    /// The word for how many.
    pub count: Option<Range<usize>>,
}

impl ObjectWords {
    /// All of the object's words, in the order of the prompt.
    pub fn all(&self) -> Vec<Range<usize>> {
        let mut words: Vec<_> = [&self.count, &self.size, &self.colour]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        words.push(self.shape.clone());
        words.sort_by_key(|word| word.start);
        words
    }
}

/// What the world holds, for whoever asked for something else.
pub fn describe() -> String {
    let list = |words: Vec<&str>| words.join(", ");
    format!(
        "pocket draws one to {} shapes ({}), each in a colour ({}), small or large if you say so, \
         \"left of\", \"right of\", \"above\" or \"below\" one another, on a {} background; for \
         example \"a red circle left of two small blue squares on a white background\"",
        NUMBERS[Scene::MAX_OBJECTS],
        list(Shape::ALL.iter().map(|shape| shape.word()).collect()),
        list(Colour::ALL.iter().map(|colour| colour.word()).collect()),
        Background::ALL
            .iter()
            .map(|background| background.word())
            .collect::<Vec<_>>()
            .join(", ")
            .replace(", gray", " or gray"),
    )
}

fn outside(problem: String) -> Error {
    Error::invalid(
        "prompt",
        problem,
        format!(
            "The embedded model knows a small world only: {}",
            describe()
        ),
    )
}

/// What was read before the shape that it belongs to.
#[derive(Default)]
struct Pending {
    count: Option<(usize, Range<usize>)>,
    size: Option<(Size, Range<usize>)>,
    colour: Option<(Colour, Range<usize>)>,
    ground: Option<(Background, Range<usize>)>,
}

/// Keeps what is said of the next shape; an error where something else was said before.
fn wait<T: PartialEq>(
    pending: &mut Option<(T, Range<usize>)>,
    said: T,
    range: Range<usize>,
    prompt: &str,
) -> Result<()> {
    // What was said of a picture, as in "a large drawing of …", is not said of the shape.
    let of_another = |at: &Range<usize>| {
        let between = prompt.get(at.end..range.start).unwrap_or_default();
        between
            .split_whitespace()
            .any(|word| word.eq_ignore_ascii_case("of"))
    };
    match pending {
        Some((before, at)) if *before != said && !of_another(at) => {
            Err(contradiction(&prompt[at.clone()], &prompt[range]))
        }
        _ => {
            *pending = Some((said, range));
            Ok(())
        }
    }
}

fn contradiction(one: &str, other: &str) -> Error {
    outside(format!("{one:?} and {other:?} are said of the same thing"))
}

/// A run of objects that were said together.
type Group = Range<usize>;

struct Reader {
    reading: Reading,
    pending: Pending,
    /// The groups in the order of the prompt; a group named again is there again.
    last: Option<Group>,
    /// A side that waits for its object.
    side: Option<(Group, Side, Range<usize>)>,
    /// "on the left", said of a group and of nothing else.
    absolute: Vec<(Group, Side, Range<usize>)>,
    total: Option<(usize, Range<usize>)>,
}

/// The scene that `prompt` asks for; the error names the word or the number that the world does
/// not know, and says what the world is.
pub fn parse(prompt: &str) -> Result<Reading> {
    let words = words(prompt);
    let mut reader = Reader {
        reading: Reading {
            scene: Scene::default(),
            words: Vec::new(),
            relations: Vec::new(),
            background: None,
        },
        pending: Pending::default(),
        last: None,
        side: None,
        absolute: Vec::new(),
        total: None,
    };
    for (index, (range, word)) in words.iter().enumerate() {
        let Some(meaning) = meaning(word) else {
            return Err(outside(format!("{word:?} is not a word of pocket's world")));
        };
        let next = words.get(index + 1).map(|(_, word)| word.as_str());
        let definite = reader.is_definite(&words[..index]);
        reader.take(meaning, range.clone(), next, definite, prompt)?;
    }
    reader.finish(prompt)
}

impl Reader {
    /// Whether the words just before say "the", past size and colour.
    fn is_definite(&self, before: &[(Range<usize>, String)]) -> bool {
        before
            .iter()
            .rev()
            .find(|(_, word)| !matches!(meaning(word), Some(Meaning::Size(_) | Meaning::Colour(_))))
            .is_some_and(|(_, word)| word == "the")
    }

    fn take(
        &mut self,
        meaning: Meaning,
        range: Range<usize>,
        next: Option<&str>,
        definite: bool,
        prompt: &str,
    ) -> Result<()> {
        match meaning {
            Meaning::Count(count) => wait(&mut self.pending.count, count, range, prompt)?,
            Meaning::Size(size) => wait(&mut self.pending.size, size, range, prompt)?,
            Meaning::Colour(colour) => wait(&mut self.pending.colour, colour, range, prompt)?,
            Meaning::Ground(ground) => wait(&mut self.pending.ground, ground, range, prompt)?,
            Meaning::Shape(shape, plural) => self.object(shape, plural, range, definite, prompt)?,
            Meaning::AnyShape => self.total = self.pending.count.take(),
            Meaning::GroundNoun => {
                if let Some(colour) = &self.pending.colour {
                    return Err(outside(format!(
                        "pocket has no {} background",
                        &prompt[colour.1.clone()]
                    )));
                }
                self.ground(prompt)?;
            }
            Meaning::Side(side) => {
                let Some(group) = self.last.clone() else {
                    return Err(outside(format!(
                        "{:?} stands before any shape, so what is placed is unclear",
                        &prompt[range]
                    )));
                };
                // "left" alone, at an end or before a comma, is a place and not a relation.
                let needs_of = matches!(side, Side::LeftOf | Side::RightOf);
                if needs_of && !matches!(next, Some("of" | "side")) {
                    self.absolute.push((group, side, range));
                } else {
                    self.side = Some((group, side, range));
                }
            }
            Meaning::It => self.it(),
            // "… on white, …": a background's colour with no noun after it.
            Meaning::Comma => self.ground(prompt)?,
            Meaning::Filler => {}
        }
        Ok(())
    }

    /// A shape's word: a new group of objects, or one named again.
    fn object(
        &mut self,
        shape: Shape,
        plural: bool,
        range: Range<usize>,
        definite: bool,
        prompt: &str,
    ) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if let Some((_, ground)) = &pending.ground {
            return Err(outside(format!(
                "pocket has no {} {}: white, black and gray are for backgrounds",
                &prompt[ground.clone()],
                shape.word()
            )));
        }
        let colour = pending.colour.as_ref().map(|colour| colour.0);
        let size = pending.size.as_ref().map(|size| size.0);
        if definite && let Some(known) = self.known(shape, colour, size) {
            self.relate(known.clone());
            self.last = Some(known);
            return Ok(());
        }
        let count = match &pending.count {
            Some((count, _)) => *count,
            None if plural => {
                return Err(outside(format!(
                    "{:?} does not say how many",
                    &prompt[range]
                )));
            }
            None => 1,
        };
        let scene = &mut self.reading.scene;
        let start = scene.objects.len();
        let all = start.saturating_add(count);
        if count == 0 || all > Scene::MAX_OBJECTS {
            return Err(outside(format!(
                "the prompt asks for {} objects and pocket draws one to {}",
                if count == 0 { 0 } else { all },
                Scene::MAX_OBJECTS
            )));
        }
        let object = Object {
            shape,
            colour,
            size,
        };
        let words = ObjectWords {
            shape: range,
            colour: pending.colour.map(|colour| colour.1),
            size: pending.size.map(|size| size.1),
            count: pending.count.map(|count| count.1),
        };
        for _ in 0..count {
            scene.objects.push(object);
            self.reading.words.push(words.clone());
        }
        let group = start..start + count;
        self.relate(group.clone());
        self.last = Some(group);
        Ok(())
    }

    /// The objects that "the red circle" names again.
    fn known(&self, shape: Shape, colour: Option<Colour>, size: Option<Size>) -> Option<Group> {
        let objects = &self.reading.scene.objects;
        let fits = |object: &Object| {
            object.shape == shape
                && (colour.is_none() || object.colour == colour)
                && (size.is_none() || object.size == size)
        };
        // Of "a small red circle" and "a red circle", "the red circle" is the second.
        let named =
            |object: &Object| fits(object) && object.colour == colour && object.size == size;
        let start = (objects.iter().position(named)).or_else(|| objects.iter().position(fits))?;
        let same = objects[start..]
            .iter()
            .take_while(|object| **object == objects[start])
            .count();
        Some(start..start + same)
    }

    /// Completes the side that waits for its object.
    fn relate(&mut self, group: Group) {
        if let Some((subjects, side, range)) = self.side.take() {
            self.add_relations(&subjects, side, &group, &range);
        }
    }

    fn add_relations(
        &mut self,
        subjects: &Group,
        side: Side,
        objects: &Group,
        range: &Range<usize>,
    ) {
        for subject in subjects.clone() {
            for object in objects.clone().filter(|object| *object != subject) {
                let relation = Relation {
                    subject,
                    side,
                    object,
                };
                // "A left of B, B right of A" asks for one thing, said twice.
                let said = |known: &Relation| *known == relation || *known == relation.inverse();
                if !self.reading.scene.relations.iter().any(said) {
                    self.reading.scene.relations.push(relation);
                    self.reading.relations.push(range.clone());
                }
            }
        }
    }

    /// "a red circle with a blue square below it": the group before the last.
    fn it(&mut self) {
        if let Some((subjects, ..)) = &self.side
            && subjects.start > 0
        {
            let before = subjects.start - 1;
            let objects = &self.reading.scene.objects;
            let first = objects[..=before]
                .iter()
                .rposition(|object| *object != objects[before])
                .map_or(0, |other| other + 1);
            self.relate(first..before + 1);
        }
    }

    /// The colour of the background.
    fn ground(&mut self, prompt: &str) -> Result<()> {
        let Some((ground, range)) = self.pending.ground.take() else {
            return Ok(());
        };
        match (self.reading.scene.background, &self.reading.background) {
            (Some(known), Some(said)) if known != ground => {
                Err(contradiction(&prompt[said.clone()], &prompt[range]))
            }
            _ => {
                self.reading.scene.background = Some(ground);
                self.reading.background = Some(range);
                Ok(())
            }
        }
    }

    fn finish(mut self, prompt: &str) -> Result<Reading> {
        self.ground(prompt)?;
        let left_over = [
            self.pending.colour.as_ref().map(|colour| &colour.1),
            self.pending.size.as_ref().map(|size| &size.1),
            self.pending.count.as_ref().map(|count| &count.1),
            self.side.as_ref().map(|side| &side.2),
        ];
        if let Some(range) = left_over.into_iter().flatten().next() {
            return Err(outside(format!(
                "{:?} belongs to no shape",
                &prompt[range.clone()]
            )));
        }
        if self.reading.scene.objects.is_empty() {
            return Err(outside("the prompt names no shape".into()));
        }
        if let Some((total, range)) = &self.total
            && *total != self.reading.scene.objects.len()
        {
            return Err(outside(format!(
                "the prompt says {:?} and lists {}",
                &prompt[range.clone()],
                self.reading.scene.objects.len()
            )));
        }
        // "A on the left and B on the right" places each by the other.
        let absolute = std::mem::take(&mut self.absolute);
        for (a, side, range) in &absolute {
            for (b, other, _) in &absolute {
                if a.start < b.start && *side == other.inverse() {
                    self.add_relations(a, *side, b, range);
                }
            }
        }
        Ok(self.reading)
    }
}

#[cfg(test)]
mod tests;
