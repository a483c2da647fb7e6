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
#[inline]
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

/// No point of a shape of radius 1 is farther from its centre along either axis.
pub fn extent(shape: Shape) -> f64 {
    match shape {
        Shape::Circle | Shape::Ring => 1.0,
        Shape::Square => 0.87,
        Shape::Cross | Shape::Heart => 1.02,
        Shape::Diamond | Shape::Triangle => 1.2,
        Shape::Star => OUTER,
    }
}

/// How far a star's points are from its centre, and its inner corners.
const OUTER: f64 = 1.25;
const INNER: f64 = 0.56;

/// A five-pointed star with a point upwards: folded onto one half of one point, then one edge.
#[inline]
fn in_star(x: f64, y: f64) -> bool {
    // The directions of three of the points (the other two mirror them), and of an inner corner as
    // seen from the first.
    const POINTS: [(f64, f64); 3] = [(0.0, -1.0), (SIN72, -COS72), (SIN36, COS36)];
    const SIN72: f64 = 0.951_056_516_295_153_5;
    const COS72: f64 = 0.309_016_994_374_947_45;
    const SIN36: f64 = 0.587_785_252_292_473_1;
    const COS36: f64 = 0.809_016_994_374_947_5;
    let x = x.abs();
    let (mut along, mut across) = (f64::NEG_INFINITY, 0.0);
    for (px, py) in POINTS {
        // The nearest point of the star is the one in whose direction most of the way goes.
        let forward = x * px + y * py;
        let nearer = forward > along;
        across = if nearer {
            (x * py - y * px).abs()
        } else {
            across
        };
        along = if nearer { forward } else { along };
    }
    // The edge runs from (OUTER, 0) to the inner corner.
    (INNER * COS36 - OUTER) * across - INNER * SIN36 * (along - OUTER) >= 0.0
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The even-odd rule on the star's ten corners.
    fn in_polygon(x: f64, y: f64) -> bool {
        let corner = |i: usize| {
            let angle = core::f64::consts::PI * i as f64 / 5.0;
            let far = if i.is_multiple_of(2) { OUTER } else { INNER };
            (far * libm::sin(angle), -far * libm::cos(angle))
        };
        let edges = (0..10).map(|i| (corner(i), corner((i + 1) % 10)));
        let crossed = edges.filter(|((ax, ay), (bx, by))| {
            (*ay > y) != (*by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax)
        });
        crossed.count() % 2 == 1
    }

    #[test]
    fn a_star_is_the_polygon_of_its_corners() {
        let mut random = Random::new(4);
        let mut at = || 2.8 * (random.below(1 << 20) as f64 / f64::from(1 << 20) - 0.5);
        let points: Vec<(f64, f64)> = (0..20_000).map(|_| (at(), at())).collect();
        let wrong = points
            .iter()
            .filter(|(x, y)| in_star(*x, *y) != in_polygon(*x, *y));
        assert_eq!(wrong.count(), 0);
    }

    #[test]
    fn no_shape_passes_its_extent_and_all_come_near_it() {
        for &shape in Shape::ALL {
            let line = |at: f64| {
                (-400..=400).any(|i| {
                    let along = f64::from(i) / 250.0;
                    [(at, along), (-at, along), (along, at), (along, -at)]
                        .iter()
                        .any(|(x, y)| contains(shape, *x, *y))
                })
            };
            assert!(!line(extent(shape) * 1.001), "{shape:?}");
            assert!(line(extent(shape) * 0.97), "{shape:?}");
        }
    }
}
