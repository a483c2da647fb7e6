//! The contact sheet of a ranking: what each seed's picture was going to be when it was judged.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Tensor;
use image::{Rgb, RgbImage};

use super::Foresight;
use super::call::{Call, blocking};
use super::race::Moment;
use super::rank::Ranking;
use crate::Result;
use crate::backbones::Backbone;
use crate::candidate::{Candidate, Handle};
use crate::engine::picture_of;
use crate::pictures::{self, Tile};

/// A tile whose preview could no longer be paid.
const UNSEEN: Rgb<u8> = Rgb([128, 128, 128]);

/// Tiles under a title.
pub struct Sheet {
    title: String,
    tiles: Vec<Tile>,
}

impl Sheet {
    pub(super) fn of(title: String, tiles: Vec<Tile>) -> Self {
        Self { title, tiles }
    }

    /// With room for every tile.
    pub fn large(&self) -> RgbImage {
        pictures::contact_sheet(&self.title, &self.tiles)
    }

    /// As it is shown in an answer: [`pictures::SHOWN_SIDE`] pixels a side at most.
    pub fn small(&self) -> RgbImage {
        pictures::small_sheet(&self.title, &self.tiles, pictures::SHOWN_SIDE)
    }

    /// Writes the large one, whole or not at all, where pictures are written, and gives the small one.
    /// Its name begins with `name` and ends with a digest of what it shows, so that no sheet takes the
    /// place of another one.
    pub(super) async fn write(
        self,
        foresight: &Foresight,
        name: &str,
    ) -> Result<(Option<PathBuf>, Arc<RgbImage>)> {
        let start = foresight.writes.then(|| foresight.out.join(name));
        blocking(move || {
            let path = match start {
                None => None,
                Some(start) => Some(pictures::write_named_by_content(&start, &self.large())?),
            };
            Ok((path, Arc::new(self.small())))
        })
        .await
    }
}

/// Draws the previews, best first. A preview that is not at hand is made again where the budget takes
/// it; one that patience does not reach stays unseen, and the ranking is no less complete for it.
pub(super) async fn write(
    call: &mut Call<'_>,
    ranking: &Ranking,
    order: &[usize],
) -> Result<(Option<PathBuf>, Arc<RgbImage>)> {
    call.say("drawing the contact sheet");
    // What was predicted in this call was seen in it; what was read back was not.
    let judged = |i: usize| ranking.race.judged(i);
    let keys: Vec<Option<(Handle, Moment)>> = ranking
        .candidates
        .iter()
        .enumerate()
        .map(|(i, candidate)| Some((ranking.opened.handle(candidate), seen_at(judged(i)?.1))))
        .collect();
    let mut missing: Vec<(Moment, Vec<Candidate>)> = Vec::new();
    for (candidate, key) in ranking.candidates.iter().zip(&keys) {
        let (Some(key), Some(x0)) = (key, &call.x0) else {
            continue;
        };
        if !x0.contains_key(key) {
            match missing.iter_mut().find(|(moment, _)| *moment == key.1) {
                Some((_, lost)) => lost.push(candidate.clone()),
                None => missing.push((key.1, vec![candidate.clone()])),
            }
        }
    }
    for (moment, lost) in missing {
        if call.out_of_time {
            break;
        }
        let purse = ranking.purse(call);
        call.look_again(&ranking.opened, lost, moment, purse)
            .await?;
    }

    let mut tiles = Vec::with_capacity(order.len());
    let x0 = call.x0.take().unwrap_or_default();
    for (rank, &i) in order.iter().enumerate() {
        let settings = &ranking.candidates[i].settings;
        let seen = match keys[i].as_ref().and_then(|key| x0.get(key)).cloned() {
            None => None,
            Some(x0) => {
                let backbone = ranking.opened.backbone.clone();
                call.within(blocking(move || preview(backbone.as_ref(), &x0)))
                    .await?
            }
        };
        let unseen = || RgbImage::from_pixel(settings.width as u32, settings.height as u32, UNSEEN);
        let (quality, step) = match judged(i) {
            Some((prediction, moment)) => (prediction.quality, moment.steps().to_string()),
            None => (f64::NAN, "0".into()),
        };
        tiles.push(Tile {
            picture: seen.unwrap_or_else(unseen),
            lines: vec![
                format!("#{} {quality:.2}", rank + 1),
                format!("seed {}", ranking.candidates[i].seed),
                format!("after step {step}"),
            ],
            chosen: rank < ranking.keep,
        });
    }
    let best = order[0];
    let name = pictures::picture_name(
        &ranking.candidates[best],
        &ranking.opened.handle(&ranking.candidates[best]),
    );
    let name = format!("sheet-of-{}-{name}", order.len());
    let prompt = ranking.candidates[best].prompt.clone();
    let written = Sheet::of(prompt, tiles)
        .write(call.foresight, &name)
        .await?;
    call.out_of_time = false;
    Ok(written)
}

/// Where a seed that was judged at `moment` is to be seen: before the first step is done there is
/// nothing, so that its second half is paid where the budget takes it.
fn seen_at(moment: Moment) -> Moment {
    match moment.steps_done() {
        0 => Moment::after(1),
        _ => moment,
    }
}

/// The picture that predicted latents (channels, height, width) stand for.
pub(super) fn preview(backbone: &dyn Backbone, x0: &Tensor) -> Result<RgbImage> {
    let latents = x0
        .to_device(backbone.device())?
        .to_dtype(backbone.dtype())?
        .unsqueeze(0)?;
    picture_of(&backbone.decode(&latents)?)
}
