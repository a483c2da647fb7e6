//! Draws a scene: flat, softly shaded shapes on a plain background.

use super::random::Random;
use super::scene::{Background, Colour, Scene, Shape, Size};

/// Samples a pixel side: coverage comes in sixteenths.
const SAMPLES: usize = 4;

/// How much lighter an object's top is than its middle, and how much darker its bottom.
const SHADE: f64 = 0.07;

/// Objects shrunk so far that their relations cannot be what keeps them from fitting.
const HOPELESS: f64 = 0.6;

/// The red, green and blue (0–255) of a colour.
pub fn paint(colour: Colour) -> [u8; 3] {
    match colour {
        Colour::Red => [222, 48, 52],
        Colour::Green => [46, 164, 79],
        Colour::Blue => [46, 92, 224],
        Colour::Yellow => [250, 206, 44],
        Colour::Purple => [136, 62, 186],
        Colour::Cyan => [44, 200, 222],
        Colour::Orange => [244, 130, 34],
        Colour::Pink => [250, 132, 186],
    }
}

/// The red, green and blue (0–255) of a background.
pub fn ground(background: Background) -> [u8; 3] {
    match background {
        Background::White => [250, 249, 246],
        Background::Black => [22, 22, 28],
        Background::Gray => [132, 134, 140],
    }
}

/// The radius of an object on a picture whose shorter side is 64, before jitter.
pub fn radius(size: Option<Size>) -> f64 {
    match size {
        Some(Size::Small) => 6.5,
        None => 9.0,
        Some(Size::Large) => 12.0,
    }
}

/// How far a shape of radius 1 reaches from its centre.
fn reach(shape: Shape) -> f64 {
    match shape {
        Shape::Circle | Shape::Ring => 1.0,
        Shape::Heart | Shape::Cross => 1.1,
        Shape::Square | Shape::Triangle | Shape::Diamond => 1.2,
        Shape::Star => 1.25,
    }
}

/// Whether a point (x to the right, y downwards) lies in a shape of radius 1 around the origin.
/// Radii are chosen so that the shapes look about equally big.
pub fn contains(shape: Shape, x: f64, y: f64) -> bool {
    match shape {
        Shape::Circle => x * x + y * y <= 1.0,
        Shape::Ring => (0.30..=1.0).contains(&(x * x + y * y)),
        Shape::Square => x.abs().max(y.abs()) <= 0.87,
        Shape::Diamond => x.abs() / 0.98 + y.abs() / 1.2 <= 1.0,
        Shape::Cross => x.abs().min(y.abs()) <= 0.34 && x.abs().max(y.abs()) <= 1.02,
        // Equal sides, the centroid at the origin.
        Shape::Triangle => y <= 0.6 && 1.732 * x.abs() - y <= 1.2,
        Shape::Star => in_star(x, y),
        Shape::Heart => {
            // The classic sextic (x² + y² − 1)³ ≤ x² y³, moved and scaled to fill the circle.
            let (x, y) = (1.13 * x, 0.12 - 1.13 * y);
            let bulk = x * x + y * y - 1.0;
            bulk * bulk * bulk <= x * x * y * y * y
        }
    }
}

/// A five-pointed star with a point upwards: folded onto one half of one point, then one edge.
fn in_star(x: f64, y: f64) -> bool {
    const OUTER: f64 = 1.25;
    const INNER: f64 = 0.56;
    let square = x * x + y * y;
    // Between the inner corners all is star, and beyond the points nothing: most pixels are told here.
    if square <= 0.99 * INNER * INNER || square >= 1.01 * OUTER * OUTER {
        return square < 1.0;
    }
    let distance = libm::sqrt(square);
    let fifth = core::f64::consts::TAU / 5.0;
    let angle = libm::atan2(x, -y);
    let folded = (angle - fifth * libm::round(angle / fifth)).abs();
    let (px, py) = (distance * libm::cos(folded), distance * libm::sin(folded));
    // The edge runs from (OUTER, 0) to the inner corner.
    let (ix, iy) = (
        INNER * libm::cos(fifth / 2.0),
        INNER * libm::sin(fifth / 2.0),
    );
    (ix - OUTER) * py - iy * (px - OUTER) >= 0.0
}

/// An object where it stands in a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// Its outline.
    pub shape: Shape,
    /// Its fill.
    pub colour: Colour,
    /// The centre, y downwards.
    pub centre: (f64, f64),
    /// The radius.
    pub radius: f64,
}

/// A scene with all that its prompt leaves open decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// In the order of the scene's objects.
    pub objects: Vec<Placed>,
    /// The flat colour behind them.
    pub background: Background,
}

/// A position, a radius and (where free) a colour for every object, at random by `random`: nothing
/// overlaps, and every relation holds with room to spare. Relations that contradict each other are
/// given up.
pub fn place(scene: &Scene, width: usize, height: usize, random: &mut Random) -> Layout {
    let unit = width.min(height) as f64 / 64.0;
    let background = scene
        .background
        .unwrap_or_else(|| Background::ALL[random.below(Background::ALL.len())]);
    let colours: Vec<Colour> = scene
        .objects
        .iter()
        .map(|object| {
            object
                .colour
                .unwrap_or_else(|| Colour::ALL[random.below(Colour::ALL.len())])
        })
        .collect();
    let mut shrink = 1.0;
    loop {
        for _ in 0..400 {
            let objects: Vec<Placed> = scene
                .objects
                .iter()
                .zip(&colours)
                .map(|(object, &colour)| {
                    let radius = radius(object.size) * unit * shrink * random.between(0.93, 1.07);
                    let margin = radius * reach(object.shape) + unit;
                    let x = random.between(margin, width as f64 - margin);
                    let y = random.between(margin, height as f64 - margin);
                    Placed {
                        shape: object.shape,
                        colour,
                        centre: (x, y),
                        radius,
                    }
                })
                .collect();
            let fits = keeps_apart(&objects, 2.0 * unit) || shrink < HOPELESS * HOPELESS;
            let stands = keeps_relations(scene, &objects, 9.0 * unit) || shrink < HOPELESS;
            if fits && stands {
                return Layout {
                    objects,
                    background,
                };
            }
        }
        // Four large objects in a row do not fit at full size.
        shrink *= 0.985;
    }
}

fn keeps_apart(objects: &[Placed], gap: f64) -> bool {
    objects.iter().enumerate().all(|(i, a)| {
        objects[..i].iter().all(|b| {
            let (dx, dy) = (a.centre.0 - b.centre.0, a.centre.1 - b.centre.1);
            let room = a.radius * reach(a.shape) + b.radius * reach(b.shape) + gap;
            dx * dx + dy * dy >= room * room
        })
    })
}

fn keeps_relations(scene: &Scene, objects: &[Placed], gap: f64) -> bool {
    scene.relations.iter().all(|relation| {
        let (along, off) = relation.side.offset(
            objects[relation.subject].centre,
            objects[relation.object].centre,
        );
        along >= gap && along >= 1.1 * off
    })
}

/// The pixels of a layout: rows from the top, three bytes (red, green, blue) a pixel.
pub fn draw(layout: &Layout, width: usize, height: usize) -> Vec<u8> {
    let ground = ground(layout.background).map(f64::from);
    let mut pixels: Vec<f64> = ground.repeat(width * height);
    for object in &layout.objects {
        let reach = object.radius * reach(object.shape) + 1.0;
        let span = |centre: f64, side: usize| {
            let low = (centre - reach).floor().max(0.0) as usize;
            let high = ((centre + reach).ceil().max(0.0) as usize).min(side);
            low..high
        };
        let fill = paint(object.colour).map(f64::from);
        for row in span(object.centre.1, height) {
            for column in span(object.centre.0, width) {
                let cover = coverage(object, column, row);
                if cover == 0.0 {
                    continue;
                }
                let slope = (row as f64 + 0.5 - object.centre.1) / object.radius;
                let light = 1.0 - SHADE * slope;
                for (channel, value) in fill.iter().enumerate() {
                    let pixel = &mut pixels[3 * (row * width + column) + channel];
                    *pixel += cover * ((value * light).min(255.0) - *pixel);
                }
            }
        }
    }
    pixels
        .iter()
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
        .collect()
}

/// The share of a pixel that an object covers.
fn coverage(object: &Placed, column: usize, row: usize) -> f64 {
    let mut inside = 0;
    for i in 0..SAMPLES * SAMPLES {
        let x = column as f64 + ((i % SAMPLES) as f64 + 0.5) / SAMPLES as f64;
        let y = row as f64 + ((i / SAMPLES) as f64 + 0.5) / SAMPLES as f64;
        let (x, y) = (
            (x - object.centre.0) / object.radius,
            (y - object.centre.1) / object.radius,
        );
        inside += usize::from(contains(object.shape, x, y));
    }
    inside as f64 / (SAMPLES * SAMPLES) as f64
}

/// A picture of `scene`, what it leaves open decided by `seed`: `3 · width · height` bytes.
pub fn picture(scene: &Scene, width: usize, height: usize, seed: u64) -> Vec<u8> {
    let layout = place(scene, width, height, &mut Random::nth(seed, 0x5cee));
    draw(&layout, width, height)
}
