//! Tells a shape by its outline: the overlap with each shape of the world, drawn as big and where
//! the outline is.

use crate::world::{Shape, render};

/// Some pixels of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    members: Vec<usize>,
    width: usize,
}

impl Mask {
    /// The pixels with these indices, in an image of this width.
    pub fn new(members: Vec<usize>, width: usize) -> Self {
        Self { members, width }
    }

    /// How many pixels.
    pub fn area(&self) -> usize {
        self.members.len()
    }

    /// The indices of the pixels.
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    /// Takes in more pixels.
    pub fn extend(&mut self, more: &[usize]) {
        self.members.extend(more);
    }

    /// The centres of the pixels, y downwards.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.members.iter().map(|at| {
            (
                (at % self.width) as f64 + 0.5,
                (at / self.width) as f64 + 0.5,
            )
        })
    }

    /// The mean of the pixels' centres.
    pub fn centroid(&self) -> (f64, f64) {
        let n = self.area().max(1) as f64;
        let (x, y) = self
            .points()
            .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (x / n, y / n)
    }

    /// The left, top, right and bottom edges.
    fn bounds(&self) -> (f64, f64, f64, f64) {
        self.points().fold(
            (
                f64::INFINITY,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NEG_INFINITY,
            ),
            |(left, top, right, bottom), (x, y)| {
                (
                    left.min(x - 0.5),
                    top.min(y - 0.5),
                    right.max(x + 0.5),
                    bottom.max(y + 0.5),
                )
            },
        )
    }
}

/// How well an outline fits the shapes of the world.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Intersection over union with each shape, in the order of [`Shape::ALL`].
    pub overlaps: Vec<f64>,
    /// The radius of the best fit, in pixels.
    pub radius: f64,
}

/// No shape of radius 1 reaches farther from its centre along an axis.
const EXTENT: f64 = 1.3;

/// A shape of radius 1: its area, its centroid's height, and its bounds.
struct Template {
    area: f64,
    centroid: f64,
    bounds: (f64, f64, f64, f64),
}

impl Template {
    fn new(shape: Shape) -> Self {
        const GRID: i32 = 64;
        let step = 2.0 * EXTENT / f64::from(GRID);
        let (mut count, mut height) = (0.0, 0.0);
        let mut bounds = (f64::INFINITY, f64::INFINITY, -f64::INFINITY, -f64::INFINITY);
        for row in 0..GRID {
            for column in 0..GRID {
                let x = (f64::from(column) + 0.5) * step - EXTENT;
                let y = (f64::from(row) + 0.5) * step - EXTENT;
                if render::contains(shape, x, y) {
                    count += 1.0;
                    height += y;
                    bounds = (
                        f64::min(bounds.0, x - step / 2.0),
                        f64::min(bounds.1, y - step / 2.0),
                        f64::max(bounds.2, x + step / 2.0),
                        f64::max(bounds.3, y + step / 2.0),
                    );
                }
            }
        }
        Self {
            area: count * step * step,
            centroid: height / count,
            bounds,
        }
    }
}

/// Fits every shape to a mask: by area and centroid, by its bounds, and a little around the better.
pub fn fit(mask: &Mask) -> Fit {
    use std::sync::OnceLock;
    static TEMPLATES: OnceLock<Vec<Template>> = OnceLock::new();
    let templates = TEMPLATES.get_or_init(|| {
        Shape::ALL
            .iter()
            .map(|&shape| Template::new(shape))
            .collect()
    });
    let (cx, cy) = mask.centroid();
    let bounds = mask.bounds();
    let drawing = Drawing::of(mask);
    let placed: Vec<((f64, f64, f64), f64)> = Shape::ALL
        .iter()
        .zip(templates)
        .map(|(&shape, template)| {
            let by_area = (mask.area() as f64 / template.area).sqrt();
            let (left, top, right, bottom) = template.bounds;
            let by_bounds = 0.5
                * ((bounds.2 - bounds.0) / (right - left) + (bounds.3 - bounds.1) / (bottom - top));
            let by_area = (cx, cy - template.centroid * by_area, by_area);
            let by_bounds = (
                0.5 * (bounds.0 + bounds.2) - 0.5 * (left + right) * by_bounds,
                0.5 * (bounds.1 + bounds.3) - 0.5 * (top + bottom) * by_bounds,
                by_bounds,
            );
            let (first, second) = (
                drawing.overlap(shape, by_area),
                drawing.overlap(shape, by_bounds),
            );
            match second > first {
                true => (by_bounds, second),
                false => (by_area, first),
            }
        })
        .collect();
    let likeliest = placed
        .iter()
        .map(|(_, overlap)| *overlap)
        .fold(0.0, f64::max);
    let mut overlaps = Vec::with_capacity(templates.len());
    let mut best = (0.0, 0.0);
    for (&shape, &(place, first)) in Shape::ALL.iter().zip(&placed) {
        let mut highest = first;
        // What lies so far behind does not become the best by moving a little.
        if first >= likeliest - WITHIN_REACH {
            for factor in [0.93, 1.0, 1.07] {
                for (dx, dy) in [(0.0, 0.0), (0.4, 0.0), (-0.4, 0.0), (0.0, 0.4), (0.0, -0.4)] {
                    let near = (place.0 + dx, place.1 + dy, place.2 * factor);
                    let value = drawing.overlap(shape, near);
                    if value > highest {
                        highest = value;
                        if value > best.0 {
                            best = (value, near.2);
                        }
                    }
                }
            }
        }
        if highest > best.0 {
            best = (highest, place.2);
        }
        overlaps.push(highest);
    }
    Fit {
        overlaps,
        radius: best.1,
    }
}

/// How much better a shape's overlap may get by moving a little.
const WITHIN_REACH: f64 = 0.15;

/// A mask as a small picture, to hold shapes against.
struct Drawing {
    left: i64,
    top: i64,
    columns: i64,
    rows: i64,
    inside: Vec<bool>,
    area: usize,
}

impl Drawing {
    fn of(mask: &Mask) -> Self {
        let (left, top, right, bottom) = mask.bounds();
        let (left, top) = (left as i64, top as i64);
        let (columns, rows) = (right as i64 - left, bottom as i64 - top);
        let mut inside = vec![false; (columns * rows).max(0) as usize];
        for (x, y) in mask.points() {
            inside[((y as i64 - top) * columns + x as i64 - left) as usize] = true;
        }
        Self {
            left,
            top,
            columns,
            rows,
            inside,
            area: mask.area(),
        }
    }

    /// Intersection over union with a shape, both on the grid of pixels.
    fn overlap(&self, shape: Shape, place: (f64, f64, f64)) -> f64 {
        // A loop of its own for each shape, without a choice for each pixel in it: most of the time
        // that a scoring takes is spent here.
        macro_rules! counted {
            ($($one:ident),*) => {
                match shape {
                    $(Shape::$one => self.counted(place, render::extent(shape), |x, y| {
                        render::contains(Shape::$one, x, y)
                    }),)*
                }
            };
        }
        let (drawn, both) = counted!(Circle, Square, Triangle, Star, Heart, Diamond, Cross, Ring);
        both as f64 / (self.area + drawn - both).max(1) as f64
    }

    /// How many pixels a shape of this extent has, and how many of them are in the mask.
    #[inline(always)]
    fn counted(
        &self,
        (x, y, radius): (f64, f64, f64),
        extent: f64,
        contains: impl Fn(f64, f64) -> bool,
    ) -> (usize, usize) {
        let reach = extent * radius;
        let span = |at: f64| (at - reach).floor() as i64..(at + reach).ceil() as i64 + 1;
        let (columns, rows) = (span(x), span(y));
        let across: Vec<f64> = columns
            .clone()
            .map(|column| (column as f64 + 0.5 - x) / radius)
            .collect();
        // Of these columns, those that the mask's rows have too.
        let left = self.left.clamp(columns.start, columns.end);
        let right = (self.left + self.columns).clamp(left, columns.end);
        let shared = (left - columns.start) as usize..(right - columns.start) as usize;
        let (mut drawn, mut both) = (0usize, 0usize);
        for row in rows {
            let down = (row as f64 + 0.5 - y) / radius;
            let count = |part: &[f64]| {
                let within = part.iter().map(|&x| usize::from(contains(x, down)));
                within.sum::<usize>()
            };
            let own = row - self.top;
            if !(0..self.rows).contains(&own) || shared.is_empty() {
                drawn += count(&across);
                continue;
            }
            drawn += count(&across[..shared.start]) + count(&across[shared.end..]);
            let start = (own * self.columns + left - self.left) as usize;
            let held = &self.inside[start..start + shared.len()];
            for (&x, &held) in across[shared.clone()].iter().zip(held) {
                let within = contains(x, down);
                drawn += usize::from(within);
                both += usize::from(within & held);
            }
        }
        (drawn, both)
    }
}
