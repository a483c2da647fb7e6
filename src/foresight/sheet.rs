//! The contact sheet of a ranking: what each seed's picture was going to be when it was judged.

use std::path::PathBuf;

use candle_core::Tensor;
use image::{Rgb, RgbImage};

use super::call::{Call, blocking};
use super::rank::Race;
use crate::Result;
use crate::backbones::Backbone;
use crate::candidate::{Candidate, Handle};
use crate::engine::picture_of;
use crate::pictures::{self, Tile};

/// A tile whose preview could no longer be paid.
const UNSEEN: Rgb<u8> = Rgb([128, 128, 128]);

/// Draws the previews, best first, and writes them whole or not at all. A preview that is not at
/// hand is made again where the budget takes it; one that patience does not reach stays unseen, and
/// the ranking is no less complete for it.
pub(super) async fn write(call: &mut Call<'_>, race: &Race, order: &[usize]) -> Result<PathBuf> {
    call.say("drawing the contact sheet");
    // What was predicted in this call was seen in it; what was read back was not.
    let keys: Vec<(Handle, usize)> = race
        .candidates
        .iter()
        .zip(&race.field)
        .map(|(candidate, standing)| (race.opened.handle(candidate), standing.at_step))
        .collect();
    let mut missing: Vec<usize> = Vec::new();
    if let Some(x0) = &call.x0 {
        missing.extend((0..keys.len()).filter(|&i| !x0.contains_key(&keys[i])));
    }
    for &stop in &race.stops {
        let lost: Vec<Candidate> = missing
            .iter()
            .filter(|&&i| race.field[i].at_step == stop)
            .map(|&i| race.candidates[i].clone())
            .collect();
        if !lost.is_empty() {
            call.look_again(&race.opened, lost, stop, race.purse(call))
                .await?;
        }
    }

    let mut tiles = Vec::with_capacity(order.len());
    let x0 = call.x0.take().unwrap_or_default();
    for (rank, &i) in order.iter().enumerate() {
        let settings = &race.candidates[i].settings;
        let seen = match x0.get(&keys[i]).cloned() {
            None => None,
            Some(x0) => {
                let backbone = race.opened.backbone.clone();
                call.within(blocking(move || preview(backbone.as_ref(), &x0)))
                    .await?
            }
        };
        let unseen = || RgbImage::from_pixel(settings.width as u32, settings.height as u32, UNSEEN);
        let quality = race.field[i]
            .prediction
            .as_ref()
            .map_or(f64::NAN, |p| p.quality);
        tiles.push(Tile {
            picture: seen.unwrap_or_else(unseen),
            lines: vec![
                format!("{}. seed {}", rank + 1, race.candidates[i].seed),
                format!("{quality:.2} at step {}", race.field[i].at_step),
            ],
            chosen: rank < race.keep,
        });
    }
    let best = order[0];
    let name = pictures::picture_name(&race.candidates[best], &keys[best].0);
    let path = call
        .foresight
        .out
        .join(format!("sheet-of-{}-{name}", order.len()));
    let (prompt, written) = (race.candidates[best].prompt.clone(), path.clone());
    blocking(move || {
        pictures::write_plain_png(&written, &pictures::contact_sheet(&prompt, &tiles))
    })
    .await?;
    call.out_of_time = false;
    Ok(path)
}

/// The picture that predicted latents (channels, height, width) stand for.
fn preview(backbone: &dyn Backbone, x0: &Tensor) -> Result<RgbImage> {
    let latents = x0
        .to_device(backbone.device())?
        .to_dtype(backbone.dtype())?
        .unsqueeze(0)?;
    picture_of(&backbone.decode(&latents)?)
}
