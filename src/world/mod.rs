//! The world that pocket draws: scenes of coloured shapes, the prompts that ask for them, and the
//! pictures that show them. It knows exactly what a prompt asks for, so that every claim about
//! quality can be measured.

pub mod parse;
pub mod random;
pub mod render;
pub mod sample;
pub mod scene;
mod vocabulary;
pub mod wording;

pub use parse::{Reading, describe, parse};
pub use render::{Layout, Placed, place};
pub use sample::{Prompt, Split, prompts, sample_from, sample_scene, split_of};
pub use scene::{Background, Colour, Object, Relation, Scene, Shape, Side, Size};
