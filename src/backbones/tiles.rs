//! Decoding a picture in overlapping tiles, as diffusers' `enable_tiling` does, where memory does not
//! hold the whole.

use candle_core::{DType, Device, Tensor};

use super::costs::Cost;
use super::placement::Placement;
use crate::{Error, Result, device};

/// How much of a tile is blended into the next, along each side: diffusers' constant.
const OVERLAP: f64 = 0.25;
/// Sides of tiles that are tried where memory is short, in pixels.
const SIDES: [usize; 4] = [1024, 768, 512, 256];

/// How a model's pictures are decoded.
#[derive(Debug)]
pub struct Tiles {
    device: Device,
    /// The side that was asked for.
    asked: Option<usize>,
    cost: Cost,
    /// Pixels to one latent, along each side.
    scale: usize,
}

impl Tiles {
    /// # Errors
    /// A side that was asked for and does not fit the model.
    pub fn new(placement: &Placement, cost: Cost, scale: usize) -> Result<Self> {
        let least = 4 * scale;
        if let Some(asked) = placement.tile
            && (asked < least || !asked.is_multiple_of(least))
        {
            return Err(Error::invalid(
                "vae-tile",
                format!("tiles of {asked} pixels do not fit this model"),
                format!("Send a multiple of {least}, such as 512"),
            ));
        }
        Ok(Self {
            device: placement.device.clone(),
            asked: placement.tile,
            cost,
            scale,
        })
    }

    /// Latents (rows, channels, height, width) → (rows, 3, height', width'), by `decode`, which does
    /// the same for a tile of them.
    ///
    /// # Errors
    /// Memory that does not even hold a small tile.
    pub fn decode(
        &self,
        latents: &Tensor,
        decode: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let latents = latents.to_device(&self.device)?;
        let (_, _, h, w) = latents.dims4()?;
        let Some(side) = self.side(w * self.scale, h * self.scale)? else {
            return decode(&latents);
        };
        match side / self.scale < h.max(w) {
            true => in_tiles(&latents, side, self.scale, decode),
            false => decode(&latents),
        }
    }

    /// Pixels along a tile's side; `None`: the whole at once.
    fn side(&self, width: usize, height: usize) -> Result<Option<usize>> {
        if self.asked.is_some() {
            return Ok(self.asked);
        }
        let whole = self.cost.bytes(width, height);
        if whole <= device::LITTLE {
            return Ok(None);
        }
        let free = match device::memory(&self.device) {
            Some(memory) if whole > memory.free => memory.free,
            _ => return Ok(None),
        };
        let smaller = SIDES.iter().filter(|side| **side < width.max(height));
        let fits = |side: &&usize| self.cost.bytes(**side, **side) <= free;
        match smaller.copied().find(|side| fits(&side)) {
            Some(side) => {
                tracing::info!("decoding in tiles of {side} pixels: memory is short");
                Ok(Some(side))
            }
            None => Err(device::short_of(
                &self.device,
                "decoding the picture",
                self.cost.bytes(SIDES[3], SIDES[3]).min(whole),
                free,
            )),
        }
    }
}

/// Tiles of `side` pixels, each decoded by itself, and the edges of neighbours blended.
fn in_tiles(
    latents: &Tensor,
    side: usize,
    scale: usize,
    decode: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (_, _, h, w) = latents.dims4()?;
    let tile = side / scale;
    let stride = (tile as f64 * (1.0 - OVERLAP)) as usize;
    let blend = (side as f64 * OVERLAP) as usize;
    let limit = side - blend;
    let mut above: Vec<Picture> = Vec::new();
    let mut rows = Vec::new();
    for top in (0..h).step_by(stride) {
        let mut row: Vec<Picture> = Vec::new();
        for (column, left) in (0..w).step_by(stride).enumerate() {
            let part = latents
                .narrow(2, top, tile.min(h - top))?
                .narrow(3, left, tile.min(w - left))?
                .contiguous()?;
            let mut own = Picture::of(&decode(&part)?)?;
            if let Some(above) = above.get(column) {
                own.blend_below(above, blend);
            }
            if let Some(before) = row.last() {
                own.blend_right_of(before, blend);
            }
            row.push(own);
        }
        let cropped = row.iter().map(|tile| tile.cropped(limit));
        rows.push(Tensor::cat(&cropped.collect::<Result<Vec<_>>>()?, 3)?);
        above = row;
    }
    Ok(Tensor::cat(&rows, 2)?.to_device(latents.device())?)
}

/// A decoded tile: planes of (height, width), one a row and channel.
struct Picture {
    values: Vec<f32>,
    shape: (usize, usize, usize, usize),
}

impl Picture {
    fn of(image: &Tensor) -> Result<Self> {
        let shape = image.dims4()?;
        let values = image.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(Self { values, shape })
    }

    /// Calls `f` with the index here and there of every pixel of `rows` × `columns` that begin here
    /// and end there.
    fn overlay(
        &mut self,
        other: &Self,
        (rows, columns): (usize, usize),
        weight: impl Fn(usize, usize) -> f32,
    ) {
        let (_, _, h, w) = self.shape;
        let (_, _, oh, ow) = other.shape;
        let planes = self.values.chunks_exact_mut(h * w);
        for (own, other) in planes.zip(other.values.chunks_exact(oh * ow)) {
            for y in 0..rows {
                for x in 0..columns {
                    let from = other[(oh - rows + y) % oh * ow + (ow - columns + x) % ow];
                    let to = &mut own[y * w + x];
                    let share = weight(y, x);
                    *to = from * (1.0 - share) + *to * share;
                }
            }
        }
    }

    /// From the lower edge of the tile above to its own upper one.
    fn blend_below(&mut self, above: &Self, extent: usize) {
        let extent = extent.min(above.shape.2).min(self.shape.2);
        let columns = self.shape.3;
        self.overlay(above, (extent, columns), |y, _| y as f32 / extent as f32);
    }

    /// From the right edge of the tile before to its own left one.
    fn blend_right_of(&mut self, before: &Self, extent: usize) {
        let extent = extent.min(before.shape.3).min(self.shape.3);
        let rows = self.shape.2;
        self.overlay(before, (rows, extent), |_, x| x as f32 / extent as f32);
    }

    /// Its first `limit` rows and columns.
    fn cropped(&self, limit: usize) -> Result<Tensor> {
        let (rows, channels, h, w) = self.shape;
        let whole = Tensor::from_slice(&self.values, (rows, channels, h, w), &Device::Cpu)?;
        Ok(whole
            .narrow(2, 0, limit.min(h))?
            .narrow(3, 0, limit.min(w))?
            .contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each latent becomes `scale` × `scale` pixels of its value, in three channels.
    fn enlarged(latents: &Tensor, scale: usize) -> Result<Tensor> {
        let (rows, _, h, w) = latents.dims4()?;
        let one = latents.narrow(1, 0, 1)?;
        Ok(one
            .reshape((rows, 1, h, 1, w, 1))?
            .broadcast_as((rows, 1, h, scale, w, scale))?
            .reshape((rows, 1, h * scale, w * scale))?
            .repeat((1, 3, 1, 1))?)
    }

    fn tiles(asked: Option<usize>, per_pixel: f64) -> Result<Tiles> {
        let placement = Placement {
            tile: asked,
            ..Placement::new(&Device::Cpu, DType::F32)
        };
        let cost = Cost {
            per_pixel,
            fixed: 0.0,
        };
        Tiles::new(&placement, cost, 4)
    }

    #[test]
    fn tiles_of_a_decoder_that_looks_at_single_latents_make_the_whole() {
        let values: Vec<f32> = (0..2 * 21 * 13).map(|i| ((i * 37) % 101) as f32).collect();
        let latents = Tensor::from_vec(values, (2, 1, 21, 13), &Device::Cpu).unwrap();
        let decode = |x: &Tensor| enlarged(x, 4);
        let whole = decode(&latents).unwrap();
        for side in [16, 32, 48, 64] {
            let tiles = tiles(Some(side), 0.0).unwrap();
            let tiled = tiles.decode(&latents, decode).unwrap();
            assert_eq!(tiled.dims(), whole.dims());
            let off = (&tiled - &whole).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f32>().unwrap() < 1e-4, "tiles of {side}");
        }
    }

    #[test]
    fn tiles_that_cannot_be_blended_are_refused() {
        for side in [0, 4, 20] {
            let error = tiles(Some(side), 0.0).unwrap_err().to_string();
            assert!(error.contains("a multiple of 16"), "{error}");
        }
    }

    #[test]
    fn what_no_memory_holds_is_an_error_and_what_some_holds_is_tiled() {
        let Some(memory) = device::memory(&Device::Cpu) else {
            return;
        };
        let latents = Tensor::zeros((1, 1, 512, 128), DType::F32, &Device::Cpu).unwrap();
        let seen = std::cell::RefCell::new(Vec::new());
        let decode = |x: &Tensor| {
            seen.borrow_mut().push(x.dim(2)?);
            enlarged(x, 4)
        };
        // The whole takes more memory than there is, a tile of 256 pixels a sixteenth of that.
        let per_pixel = 1.2 * memory.total as f64 / (2048.0 * 512.0);
        tiles(None, per_pixel)
            .unwrap()
            .decode(&latents, decode)
            .unwrap();
        assert!(seen.borrow().len() >= 4 && seen.borrow()[0] < 512);
        let error = tiles(None, 100.0 * per_pixel)
            .unwrap()
            .decode(&latents, decode);
        assert!(matches!(error.unwrap_err(), Error::OutOfMemory(_)));
    }
}
