//! `foreseed trace` gives what diffusers gives, on tiny random pipelines that
//! `tests/goldens/make_sdxl.py` made: texts, latents after every step, attention maps, the image.

#[allow(dead_code)]
mod parity;

#[test]
fn every_tensor_is_diffusers_within_the_bar() {
    parity::assert_every_tensor_is_diffusers("sdxl");
}

#[test]
fn half_precision_stays_near_diffusers() {
    for case in ["epsilon-negative", "sample-negative"] {
        parity::assert_picture_is_near("sdxl", case, "f16", 0.03);
        parity::assert_picture_is_near("sdxl", case, "bf16", 0.2);
    }
}
