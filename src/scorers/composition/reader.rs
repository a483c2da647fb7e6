//! Finds the objects of pocket's world in an image.

use image::RgbImage;

use super::outline::{self, Mask};
use crate::world::{Background, Colour, Shape, render};

/// An object found in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its fill.
    pub colour: Colour,
    /// How well each shape fits its outline, in the order of [`Shape::ALL`]: 0 to 1.
    pub fits: Vec<f64>,
    /// Its centre in pixels, y downwards.
    pub centre: (f64, f64),
    /// The radius of the shape that fits best, in 64ths of the image's shorter side.
    pub radius: f64,
}

impl Found {
    /// Whether it would be called a `shape`: no other fits clearly better, and it fits at all.
    pub fn is(&self, shape: Shape) -> bool {
        let best = self.fits.iter().copied().fold(0.0, f64::max);
        let fit = Shape::ALL.iter().position(|other| *other == shape);
        fit.is_some_and(|index| self.fits[index] >= LEAST_FIT && self.fits[index] >= best - TIE)
    }

    /// By how much a `shape` fits better than any other, as [`Self::is`] counts it.
    pub fn margin(&self, shape: Shape) -> f64 {
        let (mut own, mut other) = (0.0, 0f64);
        for (fit, one) in self.fits.iter().zip(Shape::ALL) {
            match *one == shape {
                true => own = *fit,
                false => other = other.max(*fit),
            }
        }
        own - (other - TIE)
    }

    /// The shape that fits best.
    pub fn shape(&self) -> Shape {
        let best = (0..self.fits.len()).max_by(|&a, &b| self.fits[a].total_cmp(&self.fits[b]));
        Shape::ALL[best.unwrap_or(0)]
    }
}

/// What an image shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// The biggest first.
    pub objects: Vec<Found>,
    /// The flat colour that most of the image has, if it is one of the world's.
    pub background: Option<Background>,
    /// What of it could as well have been read otherwise.
    pub open: Open,
}

/// What a small change of an image may turn.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Open {
    /// How near some part of a blob that has a colour of its own is to where it begins to be an object: 1
    /// there, its share of that size below, one over it above; 0 where every blob has one colour.
    pub split: f64,
    /// Pixels, in 4096ths of the image, that have nearly as much of the background as of a paint.
    pub blurred: f64,
    /// Blobs that are a little too small to be an object.
    pub specks: usize,
}

/// A pixel whose share of a paint is so near to a half may fall to either side.
const EVEN: f64 = 0.1;

/// A blob of less than this share of the smallest object's pixels does not grow into one.
const NEARLY: f64 = 0.2;

/// An outline that overlaps its best template by less is no shape of the world.
const LEAST_FIT: f64 = 0.6;

/// Two shapes whose overlaps differ by less cannot be told apart.
const TIE: f64 = 0.01;

/// A colour farther (0–255, Euclidean) from a background's is not that background.
const GROUND_REACH: f64 = 60.0;

/// A smaller blob, in pixels of a 64×64 image, is a speck and no object: half the smallest shape.
const SPECK: f64 = 24.0;

/// The objects and the background of `image`.
pub fn read(image: &RgbImage) -> Sight {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels: Vec<[f64; 3]> = image.pixels().map(|pixel| pixel.0.map(f64::from)).collect();
    let (background, ground) = find_background(&pixels);
    // A pixel nearer to the ground than half the way to any paint has no larger share of it.
    let far = Colour::ALL
        .iter()
        .map(|&colour| square_distance(&render::paint(colour).map(f64::from), &ground))
        .fold(f64::INFINITY, f64::min);
    let lines: Vec<Line> = Colour::ALL
        .iter()
        .map(|&colour| Line::to(colour, &ground))
        .collect();
    let mut blurred = 0usize;
    let labels: Vec<Option<u8>> = pixels
        .iter()
        .map(|pixel| {
            if square_distance(pixel, &ground) < 0.25 * far {
                return None;
            }
            let (label, share) = unmix(pixel, &ground, &lines);
            blurred += usize::from((share - 0.5).abs() < EVEN);
            (share >= 0.5).then_some(label)
        })
        .collect();
    let unit = width.min(height) as f64 / 64.0;
    let speck = SPECK * unit * unit;
    let mut open = Open {
        blurred: blurred as f64 / (unit * unit),
        ..Open::default()
    };
    let mut masks: Vec<(u8, Mask)> = Vec::new();
    for blob in blobs(width, height, |at| labels[at].map(|_| 0)) {
        let area = blob.area() as f64;
        if area < speck {
            open.specks += usize::from(area > NEARLY * speck);
            continue;
        }
        let (parts, split) = split_by_colour(&blob, &labels, width, height, speck);
        masks.extend(parts);
        open.split = open.split.max(split);
    }
    masks.sort_by_key(|(_, mask)| std::cmp::Reverse(mask.area()));
    let objects = masks
        .iter()
        .map(|(colour, mask)| {
            let fitted = outline::fit(mask);
            Found {
                colour: Colour::ALL[usize::from(*colour)],
                centre: mask.centroid(),
                radius: fitted.radius / unit,
                fits: fitted.overlaps,
            }
        })
        .collect();
    Sight {
        objects,
        background,
        open,
    }
}

/// Of the distance between two colours, which is only ever compared: no pixel needs the root.
fn square_distance(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The background that most pixels are near to, and its mean colour in this image; where there is
/// none, the middle of all pixels stands in for it.
fn find_background(pixels: &[[f64; 3]]) -> (Option<Background>, [f64; 3]) {
    let near = |background: Background| {
        let ground = render::ground(background).map(f64::from);
        let reach =
            move |pixel: &&[f64; 3]| square_distance(pixel, &ground) < GROUND_REACH * GROUND_REACH;
        pixels.iter().filter(reach)
    };
    let counted = Background::ALL
        .iter()
        .map(|&background| (background, near(background).count()))
        .max_by_key(|(_, count)| *count);
    match counted {
        Some((background, count)) if count * 4 > pixels.len() => {
            let mut mean = [0.0; 3];
            for member in near(background) {
                for (sum, value) in mean.iter_mut().zip(member.iter()) {
                    *sum += value / count as f64;
                }
            }
            (Some(background), mean)
        }
        _ => {
            let middle = |channel: usize| {
                let mut values: Vec<f64> = pixels.iter().map(|pixel| pixel[channel]).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or(0.0)
            };
            (None, [middle(0), middle(1), middle(2)])
        }
    }
}

/// The way from the background to a paint, which a pixel on an object's edge lies on.
struct Line {
    way: [f64; 3],
    /// The square of its length.
    length: f64,
}

impl Line {
    fn to(colour: Colour, ground: &[f64; 3]) -> Self {
        let paint = render::paint(colour).map(f64::from);
        let way: [f64; 3] = std::array::from_fn(|channel| paint[channel] - ground[channel]);
        let length = way.iter().fold(0.0, |sum, way| sum + way * way);
        Self {
            way,
            length: length.max(1.0),
        }
    }
}

/// The colour that explains a pixel best as a mixture with the background, and its share. So a pixel on the
/// edge of a red shape on white is half red, and not pink.
fn unmix(pixel: &[f64; 3], ground: &[f64; 3], lines: &[Line]) -> (u8, f64) {
    let mut best = (f64::INFINITY, 0.0, 0u8);
    for (index, line) in lines.iter().enumerate() {
        let off = (0..3).map(|channel| (pixel[channel] - ground[channel]) * line.way[channel]);
        let along = off.fold(0.0, |sum, off| sum + off);
        let share = (along / line.length).clamp(0.0, 1.1);
        let mixed: [f64; 3] = std::array::from_fn(|i| ground[i] + share * line.way[i]);
        let residual = square_distance(pixel, &mixed);
        if residual < best.0 {
            best = (residual, share, index as u8);
        }
    }
    (best.2, best.1)
}

/// The connected areas (diagonals count) of pixels that `kind` gives the same `Some`.
fn blobs(width: usize, height: usize, kind: impl Fn(usize) -> Option<u8>) -> Vec<Mask> {
    let mut seen = vec![false; width * height];
    let mut found = Vec::new();
    for start in 0..width * height {
        if seen[start] || kind(start).is_none() {
            continue;
        }
        seen[start] = true;
        let mut members = vec![start];
        let mut next = 0;
        while next < members.len() {
            let (x, y) = (members[next] % width, members[next] / width);
            next += 1;
            for ny in y.saturating_sub(1)..(y + 2).min(height) {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    let at = ny * width + nx;
                    if !seen[at] && kind(at) == kind(start) {
                        seen[at] = true;
                        members.push(at);
                    }
                }
            }
        }
        found.push(Mask::new(members, width));
    }
    found
}

/// Parts a blob in which several colours touch; thin rims and specks stay with the biggest part. Besides, its
/// share of [`Open::split`].
fn split_by_colour(
    blob: &Mask,
    labels: &[Option<u8>],
    width: usize,
    height: usize,
    speck: f64,
) -> (Vec<(u8, Mask)>, f64) {
    let mut inside = vec![false; width * height];
    for &at in blob.members() {
        inside[at] = true;
    }
    let mut parts = blobs(width, height, |at| labels[at].filter(|_| inside[at]));
    parts.sort_by_key(|part| std::cmp::Reverse(part.area()));
    let label = |part: &Mask| {
        part.members()
            .first()
            .and_then(|&at| labels[at])
            .unwrap_or(0)
    };
    let Some(biggest) = parts.first().map(Mask::area) else {
        return (Vec::new(), 0.0);
    };
    let least = speck.max(0.3 * biggest as f64);
    let mut kept: Vec<(u8, Mask)> = Vec::new();
    let mut rest: Vec<usize> = Vec::new();
    let mut split = 0f64;
    for (index, part) in parts.iter().enumerate() {
        let size = part.area() as f64 / least;
        if index > 0 {
            split = split.max(size.min(1.0 / size));
        }
        let substantial = part.area() as f64 >= speck
            && part.area() * 10 >= biggest * 3
            && has_core(part, width, height);
        if index == 0 || substantial {
            kept.push((label(part), part.clone()));
        } else {
            rest.extend(part.members());
        }
    }
    if let Some((_, main)) = kept.first_mut() {
        main.extend(&rest);
    }
    (kept, split)
}

/// Whether any pixel of a mask has all of its eight neighbours in the mask.
fn has_core(mask: &Mask, width: usize, height: usize) -> bool {
    let members: std::collections::HashSet<usize> = mask.members().iter().copied().collect();
    mask.members().iter().any(|&at| {
        let (x, y) = (at % width, at / width);
        x > 0
            && y > 0
            && x + 1 < width
            && y + 1 < height
            && (y - 1..=y + 1).all(|y| (x - 1..=x + 1).all(|x| members.contains(&(y * width + x))))
    })
}
