//! The layers that the families are built of.
//!
//! Feature maps are channels-last, (rows, height, width, channels), so that a 1×1 convolution and a
//! linear layer are one matrix product, and an image becomes tokens without a copy.

pub mod activation;
pub mod attention;
pub mod conv;
pub(crate) mod cpu;
pub mod embeddings;
pub mod encoder;
pub mod feed_forward;
pub mod fused;
pub mod joint;
pub mod linear;
pub mod norm;
pub mod patches;
pub mod resnet;
pub mod rotary;
pub mod transformer;
