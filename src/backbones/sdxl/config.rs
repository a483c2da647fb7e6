//! What `unet/config.json` says, in one form whatever way it is written.

use serde::Deserialize;
use serde_json::Value;

use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::layers::activation::Activation;

const PATH: &str = "unet/config.json";

/// One value for all blocks, or one a block.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    // First, so that a list is one value a block even where the values may be lists themselves.
    Many(Vec<T>),
    One(T),
}

impl<T: Clone> OneOrMany<T> {
    fn per_block(&self, blocks: usize) -> Vec<T> {
        match self {
            Self::One(value) => vec![value.clone(); blocks],
            Self::Many(values) => values.clone(),
        }
    }
}

/// The file as it is; the defaults are diffusers' `UNet2DConditionModel`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct File {
    sample_size: Option<OneOrMany<usize>>,
    in_channels: usize,
    out_channels: usize,
    center_input_sample: bool,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    down_block_types: Vec<String>,
    mid_block_type: Option<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<usize>,
    layers_per_block: OneOrMany<usize>,
    downsample_padding: usize,
    mid_block_scale_factor: f64,
    act_fn: Activation,
    norm_num_groups: Option<usize>,
    norm_eps: f64,
    cross_attention_dim: OneOrMany<usize>,
    transformer_layers_per_block: OneOrMany<OneOrMany<usize>>,
    reverse_transformer_layers_per_block: Option<Vec<OneOrMany<usize>>>,
    attention_head_dim: OneOrMany<usize>,
    num_attention_heads: Option<OneOrMany<usize>>,
    use_linear_projection: bool,
    addition_embed_type: Option<String>,
    addition_time_embed_dim: Option<usize>,
    projection_class_embeddings_input_dim: Option<usize>,
    resnet_time_scale_shift: String,
    time_embedding_type: String,
    time_embedding_dim: Option<usize>,
    time_embedding_act_fn: Option<Activation>,
    timestep_post_act: Option<Activation>,
    conv_in_kernel: usize,
    conv_out_kernel: usize,
}

impl Default for File {
    fn default() -> Self {
        let cross_down = "CrossAttnDownBlock2D".to_owned();
        let cross_up = "CrossAttnUpBlock2D".to_owned();
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: vec![
                cross_down.clone(),
                cross_down.clone(),
                cross_down,
                "DownBlock2D".into(),
            ],
            mid_block_type: Some("UNetMidBlock2DCrossAttn".into()),
            up_block_types: vec![
                "UpBlock2D".into(),
                cross_up.clone(),
                cross_up.clone(),
                cross_up,
            ],
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: OneOrMany::One(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: Activation::Silu,
            norm_num_groups: Some(32),
            norm_eps: 1e-5,
            cross_attention_dim: OneOrMany::One(1280),
            transformer_layers_per_block: OneOrMany::One(OneOrMany::One(1)),
            reverse_transformer_layers_per_block: None,
            attention_head_dim: OneOrMany::One(8),
            num_attention_heads: None,
            use_linear_projection: false,
            addition_embed_type: None,
            addition_time_embed_dim: None,
            projection_class_embeddings_input_dim: None,
            resnet_time_scale_shift: "default".into(),
            time_embedding_type: "positional".into(),
            time_embedding_dim: None,
            time_embedding_act_fn: None,
            timestep_post_act: None,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
        }
    }
}

/// Switches of diffusers' UNet that change what it computes and are not supported, with the only
/// value that is.
const UNSUPPORTED: [(&str, Value); 10] = [
    ("only_cross_attention", Value::Bool(false)),
    ("dual_cross_attention", Value::Bool(false)),
    ("class_embed_type", Value::Null),
    ("num_class_embeds", Value::Null),
    ("encoder_hid_dim", Value::Null),
    ("encoder_hid_dim_type", Value::Null),
    ("time_cond_proj_dim", Value::Null),
    ("class_embeddings_concat", Value::Bool(false)),
    ("cross_attention_norm", Value::Null),
    ("resnet_skip_time_act", Value::Bool(false)),
];

/// Published UNets have two or three a block.
const MOST_LAYERS: usize = 256;

/// A side of the UNet at one resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    pub channels: usize,
    /// Transformer layers of each of the block's attentions; `None` where it has no attention.
    pub transformers: Option<Vec<usize>>,
    pub resnets: usize,
    pub heads: usize,
    pub text_channels: usize,
}

/// How the middle of the UNet is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidKind {
    /// Two residual blocks around a transformer of this many layers.
    Attention(usize),
    /// One residual block.
    Plain,
    Absent,
}

/// The pooled text and the picture's size as a second embedding beside the time's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedEmbedding {
    /// Channels of each of the six numbers.
    pub number_channels: usize,
    /// Pooled text and all numbers.
    pub inputs: usize,
}

/// A UNet's shape.
#[derive(Clone, Debug)]
pub struct UnetConfig {
    /// Height and width of the latents that the model is made for.
    pub sample_size: Option<(usize, usize)>,
    pub channels: usize,
    pub center_input: bool,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    pub down: Vec<BlockConfig>,
    pub mid: MidKind,
    pub up: Vec<BlockConfig>,
    pub downsample_padding: usize,
    pub mid_scale: f64,
    pub act: Activation,
    pub groups: usize,
    pub eps: f64,
    pub linear_projection: bool,
    pub added: Option<AddedEmbedding>,
    pub time_scales: bool,
    pub time_channels: usize,
    pub time_act: Option<Activation>,
    pub time_post_act: Option<Activation>,
    pub conv_in_kernel: usize,
    pub conv_out_kernel: usize,
}

impl UnetConfig {
    /// Reads and checks the file: everything that it says is either followed or refused by name.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let raw: Value = files.json(PATH)?;
        let bad = |problem: String| files.error(format!("{PATH}: {problem}"));
        for (name, only) in &UNSUPPORTED {
            let value = raw.get(name).unwrap_or(only);
            let all_off = matches!(value, Value::Array(values) if values.iter().all(|v| v == only));
            if value != only && !all_off {
                return Err(bad(format!("{name} = {value} is not supported: {only} is")));
            }
        }
        if let Some(kind) = raw.get("attention_type").and_then(Value::as_str)
            && kind != "default"
        {
            return Err(bad(format!(
                "attention_type = {kind} is not supported: default is"
            )));
        }
        let file: File = serde_json::from_value(raw).map_err(|e| bad(e.to_string()))?;
        file.check(&bad)?;
        let blocks = file.block_out_channels.len();
        let heads = file
            .num_attention_heads
            .as_ref()
            .unwrap_or(&file.attention_head_dim)
            .per_block(blocks);
        let layers = file.layers_per_block.per_block(blocks);
        let text = file.cross_attention_dim.per_block(blocks);
        let transformers = file.transformer_layers_per_block.per_block(blocks);
        for (name, have) in [
            ("attention_head_dim", heads.len()),
            ("layers_per_block", layers.len()),
            ("cross_attention_dim", text.len()),
            ("transformer_layers_per_block", transformers.len()),
        ] {
            if have != blocks {
                return Err(bad(format!(
                    "{name} has {have} entries for {blocks} blocks"
                )));
            }
        }
        let block = |i: usize, kind: &str, extra: usize, depth: &OneOrMany<usize>| {
            let resnets = layers[i] + extra;
            let channels = file.block_out_channels[i];
            let transformers = match kind {
                "DownBlock2D" | "UpBlock2D" => None,
                "CrossAttnDownBlock2D" | "CrossAttnUpBlock2D" => Some(depth.per_block(resnets)),
                other => {
                    return Err(bad(format!(
                        "the block {other} is not supported: DownBlock2D, CrossAttnDownBlock2D, \
                         UpBlock2D and CrossAttnUpBlock2D are"
                    )));
                }
            };
            if let Some(depths) = &transformers
                && (depths.len() < resnets || heads[i] == 0 || heads[i] > channels)
            {
                return Err(bad(format!(
                    "block {i} has {channels} channels, {} heads and {} transformer depths for \
                     {resnets} layers",
                    heads[i],
                    depths.len()
                )));
            }
            Ok(BlockConfig {
                channels,
                transformers,
                resnets,
                heads: heads[i],
                text_channels: text[i],
            })
        };
        let down = (0..blocks)
            .map(|i| block(i, &file.down_block_types[i], 0, &transformers[i]))
            .collect::<Result<Vec<_>>>()?;
        let reversed = match &file.reverse_transformer_layers_per_block {
            Some(reversed) if reversed.len() != blocks => {
                return Err(bad(format!(
                    "reverse_transformer_layers_per_block has {} entries for {blocks} blocks",
                    reversed.len()
                )));
            }
            Some(reversed) => reversed.clone(),
            None => transformers.iter().rev().cloned().collect(),
        };
        let up = (0..blocks)
            .map(|i| block(blocks - 1 - i, &file.up_block_types[i], 1, &reversed[i]))
            .collect::<Result<Vec<_>>>()?;
        let mid = match file.mid_block_type.as_deref() {
            Some("UNetMidBlock2DCrossAttn") => {
                let (channels, heads) = (file.block_out_channels[blocks - 1], heads[blocks - 1]);
                if heads == 0 || heads > channels {
                    return Err(bad(format!(
                        "the middle block has {channels} channels and {heads} heads"
                    )));
                }
                let depth = transformers[blocks - 1].per_block(1);
                MidKind::Attention(depth.first().copied().unwrap_or(1))
            }
            Some("UNetMidBlock2D") => MidKind::Plain,
            None => MidKind::Absent,
            Some(other) => {
                return Err(bad(format!(
                    "the middle block {other} is not supported: UNetMidBlock2DCrossAttn and \
                     UNetMidBlock2D are"
                )));
            }
        };
        let added = match file.addition_embed_type.as_deref() {
            None => None,
            Some("text_time") => match (
                file.addition_time_embed_dim,
                file.projection_class_embeddings_input_dim,
            ) {
                (Some(number_channels), Some(inputs)) => Some(AddedEmbedding {
                    number_channels,
                    inputs,
                }),
                _ => {
                    return Err(bad(
                        "addition_embed_type = text_time needs addition_time_embed_dim and \
                         projection_class_embeddings_input_dim"
                            .into(),
                    ));
                }
            },
            Some(other) => {
                return Err(bad(format!(
                    "addition_embed_type = {other} is not supported: text_time is"
                )));
            }
        };
        Ok(Self {
            sample_size: match &file.sample_size {
                Some(OneOrMany::One(side)) => Some((*side, *side)),
                Some(OneOrMany::Many(sides)) if sides.len() == 2 => Some((sides[0], sides[1])),
                _ => None,
            },
            channels: file.in_channels,
            center_input: file.center_input_sample,
            flip_sin_to_cos: file.flip_sin_to_cos,
            freq_shift: file.freq_shift,
            down,
            mid,
            up,
            downsample_padding: file.downsample_padding,
            mid_scale: file.mid_block_scale_factor,
            act: file.act_fn,
            groups: file.norm_num_groups.unwrap_or_default(),
            eps: file.norm_eps,
            linear_projection: file.use_linear_projection,
            added,
            time_scales: file.resnet_time_scale_shift == "scale_shift",
            time_channels: file
                .time_embedding_dim
                .unwrap_or(4 * file.block_out_channels[0]),
            time_act: file.time_embedding_act_fn,
            time_post_act: file.timestep_post_act,
            conv_in_kernel: file.conv_in_kernel,
            conv_out_kernel: file.conv_out_kernel,
        })
    }

    /// Channels after the first convolution.
    pub fn first_channels(&self) -> usize {
        self.down[0].channels
    }
}

impl File {
    fn check(&self, bad: &dyn Fn(String) -> crate::Error) -> Result<()> {
        let blocks = self.block_out_channels.len();
        if blocks == 0
            || self.down_block_types.len() != blocks
            || self.up_block_types.len() != blocks
        {
            return Err(bad(format!(
                "{} down_block_types, {} up_block_types and {blocks} block_out_channels do not go \
                 together",
                self.down_block_types.len(),
                self.up_block_types.len()
            )));
        }
        let Some(groups) = self.norm_num_groups else {
            return Err(bad("norm_num_groups = null is not supported".into()));
        };
        for channels in &self.block_out_channels {
            if groups == 0 || *channels == 0 || channels % groups != 0 {
                return Err(bad(format!(
                    "{channels} channels are no multiple of norm_num_groups {groups}"
                )));
            }
        }
        // Checked before room is made for them.
        let many = self.layers_per_block.per_block(1);
        if let Some(many) = many.iter().find(|layers| **layers > MOST_LAYERS) {
            return Err(bad(format!(
                "layers_per_block is {many}, and more than {MOST_LAYERS} is no UNet"
            )));
        }
        for (name, kernel) in [
            ("conv_in_kernel", self.conv_in_kernel),
            ("conv_out_kernel", self.conv_out_kernel),
        ] {
            if kernel.is_multiple_of(2) {
                return Err(bad(format!("{name} is {kernel}, and must be odd")));
            }
        }
        if self.in_channels != self.out_channels {
            return Err(bad(format!(
                "in_channels {} and out_channels {} differ: inpainting and editing models are not \
                 supported",
                self.in_channels, self.out_channels
            )));
        }
        if self.time_embedding_type != "positional" {
            return Err(bad(format!(
                "time_embedding_type = {} is not supported: positional is",
                self.time_embedding_type
            )));
        }
        if !["default", "scale_shift"].contains(&self.resnet_time_scale_shift.as_str()) {
            return Err(bad(format!(
                "resnet_time_scale_shift = {} is not supported: default and scale_shift are",
                self.resnet_time_scale_shift
            )));
        }
        Ok(())
    }
}
