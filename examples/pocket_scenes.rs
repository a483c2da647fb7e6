//! Writes scenes of pocket's world for its training and for looking at:
//! `cargo run --release --example pocket_scenes -- OUT [--split train|heldout|family] [--count N]
//! [--seed S] [--captions C] [--side PIXELS]`
//! OUT/images.u8 holds N × side × side × 3 bytes, OUT/captions.jsonl a line of C wordings a picture.

use std::fs::{File, create_dir_all};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use foreseed::world::random::Random;
use foreseed::world::wording::{Style, word};
use foreseed::world::{Split, render, sample_from};

#[derive(Parser)]
struct Arguments {
    /// The folder to write to.
    out: PathBuf,
    /// Which scenes.
    #[arg(long, default_value = "train")]
    split: Side,
    /// How many pictures.
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// The seed of the scenes, the wordings and the pictures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Wordings a picture.
    #[arg(long, default_value_t = 4)]
    captions: usize,
    /// Width and height.
    #[arg(long, default_value_t = 64)]
    side: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Train,
    Heldout,
    Family,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let split = match arguments.split {
        Side::Train => Split::Train,
        Side::Heldout => Split::HeldOut,
        Side::Family => Split::Family,
    };
    create_dir_all(&arguments.out)?;
    let create = |name: &str| -> Result<BufWriter<File>> {
        let path = arguments.out.join(name);
        let file = File::create(&path).with_context(|| format!("cannot write {path:?}"))?;
        Ok(BufWriter::new(file))
    };
    let (mut images, mut captions) = (create("images.u8")?, create("captions.jsonl")?);
    for index in 0..arguments.count {
        let mut random = Random::nth(arguments.seed, index);
        let scene = sample_from(split, &mut random);
        let wordings: Vec<String> = (0..arguments.captions)
            .map(|_| word(&scene, &Style::sample(&mut random), &mut random))
            .collect();
        let layout = render::place(&scene, arguments.side, arguments.side, &mut random);
        images.write_all(&render::draw(&layout, arguments.side, arguments.side))?;
        serde_json::to_writer(&mut captions, &wordings)?;
        captions.write_all(b"\n")?;
    }
    images.flush()?;
    captions.flush()?;
    Ok(())
}
