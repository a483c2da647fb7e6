//! The names that diffusers and transformers give the tensors of a checkpoint in SDXL's original
//! layout (Stability AI's `generative-models`, and OpenCLIP within it).

use serde::Deserialize;
use serde_json::Value;

use super::HELD;
use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::weights::{Part, Share};

/// Names of one component.
pub struct Names {
    prefix: &'static str,
    kind: Kind,
}

enum Kind {
    Unet { layers: usize },
    Vae { levels: usize },
    Clip,
    OpenClip,
}

impl Names {
    /// Those of `component`, which one of [`HELD`] is; numbers of blocks come from its configuration.
    pub fn of(files: &ModelFiles, component: &str) -> Result<Self> {
        let prefix = HELD.iter().find(|(held, _)| *held == component);
        let kind = match component {
            "unet" => Kind::Unet {
                layers: layers_per_block(files)?,
            },
            "vae" => Kind::Vae {
                levels: vae_levels(files)?,
            },
            "text_encoder" => Kind::Clip,
            _ => Kind::OpenClip,
        };
        Ok(Self {
            prefix: prefix.map_or("", |(_, prefix)| prefix),
            kind,
        })
    }

    /// The tensors that the stored one is in diffusers' layout: none where it is another
    /// component's, more than one where it is several in one.
    pub fn translated(&self, stored: &str) -> Vec<(String, Part)> {
        let Some(name) = stored.strip_prefix(self.prefix) else {
            return Vec::new();
        };
        match self.kind {
            Kind::OpenClip => open_clip(name),
            Kind::Clip => vec![(name.to_owned(), Part::Whole)],
            Kind::Unet { layers } => {
                let (module, kind) = name.rsplit_once('.').unwrap_or((name, ""));
                // What is not known keeps its name, so that it shows among what is left over.
                let module = unet_module(module, '.', layers).unwrap_or(module.to_owned());
                vec![(format!("{module}.{kind}"), Part::Whole)]
            }
            Kind::Vae { levels } => vec![(vae(name, levels), Part::Whole)],
        }
    }
}

/// `layers_per_block` of the UNet, which the original layout counts its blocks by.
pub fn layers_per_block(files: &ModelFiles) -> Result<usize> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        layers_per_block: Value,
    }
    let config: Config = files.json("unet/config.json")?;
    match config.layers_per_block {
        // diffusers' default.
        Value::Null => Ok(2),
        Value::Number(layers) => Ok(layers.as_u64().unwrap_or(2) as usize),
        Value::Array(layers) if layers.windows(2).all(|pair| pair[0] == pair[1]) => {
            Ok(layers.first().and_then(Value::as_u64).unwrap_or(2) as usize)
        }
        other => Err(files.error(format!(
            "unet/config.json: layers_per_block = {other} has no original layout: blocks of as many \
             layers have"
        ))),
    }
}

fn vae_levels(files: &ModelFiles) -> Result<usize> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        block_out_channels: Vec<usize>,
    }
    let config: Config = files.json("vae/config.json")?;
    Ok(config.block_out_channels.len().max(1))
}

/// Modules outside of the UNet's blocks.
const UNET_ENDS: [(&str, &str); 7] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// Modules of a residual block.
const RESNET: [(&str, &str); 6] = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

/// The module that diffusers has at `path` of the original UNet, whose blocks have so many `layers`.
/// Both have their parts joined by `separator`: a point, or an underscore where a LoRA lost the
/// points. `None` where the original layout has no such module.
pub fn unet_module(path: &str, separator: char, layers: usize) -> Option<String> {
    let joined = |dotted: &str| dotted.replace('.', &separator.to_string());
    let ends = UNET_ENDS.iter().find(|(from, _)| joined(from) == path);
    if let Some((_, to)) = ends {
        return Some(joined(to));
    }
    let number = |path: &str| -> Option<(usize, String)> {
        let (number, rest) = path.split_once(separator)?;
        Some((number.parse().ok()?, rest.to_owned()))
    };
    let under = |name: &str| path.strip_prefix(&joined(name));
    // A block's residual layer, its transformer, or what changes the size; the transformer's inner
    // names are the same in both layouts.
    let (place, rest) = if let Some(rest) = under("input_blocks.") {
        let (block, rest) = number(rest)?;
        let block = block.checked_sub(1)?;
        let (level, layer) = (block / (layers + 1), block % (layers + 1));
        let (part, rest) = number(&rest)?;
        match part {
            0 if rest == "op" => (
                format!("down_blocks.{level}.downsamplers.0.conv"),
                String::new(),
            ),
            0 => (
                format!("down_blocks.{level}.resnets.{layer}"),
                resnet(&rest, separator)?,
            ),
            1 => (format!("down_blocks.{level}.attentions.{layer}"), rest),
            _ => return None,
        }
    } else if let Some(rest) = under("middle_block.") {
        let (part, rest) = number(rest)?;
        match part {
            0 | 2 => (
                format!("mid_block.resnets.{}", part / 2),
                resnet(&rest, separator)?,
            ),
            1 => ("mid_block.attentions.0".to_owned(), rest),
            _ => return None,
        }
    } else if let Some(rest) = under("output_blocks.") {
        let (block, rest) = number(rest)?;
        let (level, layer) = (block / (layers + 1), block % (layers + 1));
        let (part, rest) = number(&rest)?;
        match part {
            0 => (
                format!("up_blocks.{level}.resnets.{layer}"),
                resnet(&rest, separator)?,
            ),
            1 | 2 if rest == "conv" => (
                format!("up_blocks.{level}.upsamplers.0.conv"),
                String::new(),
            ),
            1 => (format!("up_blocks.{level}.attentions.{layer}"), rest),
            _ => return None,
        }
    } else {
        return None;
    };
    Some(match rest.is_empty() {
        true => joined(&place),
        false => format!("{}{separator}{rest}", joined(&place)),
    })
}

fn resnet(rest: &str, separator: char) -> Option<String> {
    let joined = |dotted: &str| dotted.replace('.', &separator.to_string());
    let found = RESNET.iter().find(|(from, _)| joined(from) == rest);
    found.map(|(_, to)| (*to).to_owned())
}

/// A tensor of AutoencoderKL, whose levels are counted from the finest in the original decoder.
fn vae(name: &str, levels: usize) -> String {
    const PARTS: [(&str, &str); 14] = [
        (".mid.block_1.", ".mid_block.resnets.0."),
        (".mid.block_2.", ".mid_block.resnets.1."),
        (".mid.attn_1.norm.", ".mid_block.attentions.0.group_norm."),
        (".mid.attn_1.q.", ".mid_block.attentions.0.to_q."),
        (".mid.attn_1.k.", ".mid_block.attentions.0.to_k."),
        (".mid.attn_1.v.", ".mid_block.attentions.0.to_v."),
        (".mid.attn_1.proj_out.", ".mid_block.attentions.0.to_out.0."),
        ("coder.norm_out.", "coder.conv_norm_out."),
        (".nin_shortcut.", ".conv_shortcut."),
        (".upsample.", ".upsamplers.0."),
        (".downsample.", ".downsamplers.0."),
        (".block.", ".resnets."),
        ("decoder.up.", "decoder.up_blocks."),
        ("encoder.down.", "encoder.down_blocks."),
    ];
    let mut name = name.to_owned();
    if let Some((level, rest)) = name
        .strip_prefix("decoder.up.")
        .and_then(|rest| rest.split_once('.'))
        && let Ok(level) = level.parse::<usize>()
        && level < levels
    {
        name = format!("decoder.up.{}.{rest}", levels - 1 - level);
    }
    for (from, to) in PARTS {
        name = name.replace(from, to);
    }
    name
}

/// A tensor of OpenCLIP's text half, where the three projections of an attention are one.
fn open_clip(name: &str) -> Vec<(String, Part)> {
    const LAYER: [(&str, &str); 5] = [
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("attn.out_proj.", "self_attn.out_proj."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
    ];
    let whole = |name: String| vec![(name, Part::Whole)];
    let embeddings = "text_model.embeddings";
    let layer = name
        .strip_prefix("transformer.resblocks.")
        .and_then(|rest| rest.split_once('.'));
    if let Some((layer, rest)) = layer {
        let place = format!("text_model.encoder.layers.{layer}");
        let fused = [
            ("attn.in_proj_weight", "weight"),
            ("attn.in_proj_bias", "bias"),
        ];
        if let Some((_, kind)) = fused.iter().find(|(fused, _)| *fused == rest) {
            let projections = ["q_proj", "k_proj", "v_proj"].into_iter().enumerate();
            return projections
                .map(|(index, projection)| {
                    let name = format!("{place}.self_attn.{projection}.{kind}");
                    (name, Part::Rows(Share::nth(index, 3)))
                })
                .collect();
        }
        let renamed = LAYER.iter().find_map(|(from, to)| {
            let rest = rest.strip_prefix(from)?;
            Some(format!("{place}.{to}{rest}"))
        });
        return whole(renamed.unwrap_or_else(|| format!("{place}.{rest}")));
    }
    match name {
        "token_embedding.weight" => whole(format!("{embeddings}.token_embedding.weight")),
        "positional_embedding" => whole(format!("{embeddings}.position_embedding.weight")),
        "ln_final.weight" | "ln_final.bias" => {
            whole(name.replace("ln_final", "text_model.final_layer_norm"))
        }
        "text_projection" => vec![("text_projection.weight".to_owned(), Part::Transposed)],
        other => whole(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_the_unet_are_found_with_points_and_without() {
        for (original, diffusers) in [
            ("input_blocks.0.0", "conv_in"),
            (
                "input_blocks.1.0.in_layers.2",
                "down_blocks.0.resnets.0.conv1",
            ),
            ("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
            (
                "input_blocks.4.1.transformer_blocks.1.attn2.to_out.0",
                "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_out.0",
            ),
            (
                "input_blocks.8.0.skip_connection",
                "down_blocks.2.resnets.1.conv_shortcut",
            ),
            ("middle_block.1.proj_in", "mid_block.attentions.0.proj_in"),
            ("middle_block.2.out_layers.3", "mid_block.resnets.1.conv2"),
            ("output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv"),
            (
                "output_blocks.8.0.emb_layers.1",
                "up_blocks.2.resnets.2.time_emb_proj",
            ),
            ("label_emb.0.2", "add_embedding.linear_2"),
        ] {
            assert_eq!(unet_module(original, '.', 2).as_deref(), Some(diffusers));
            let flat = |path: &str| path.replace('.', "_");
            let found = unet_module(&flat(original), '_', 2);
            assert_eq!(found, Some(flat(diffusers)), "{original}");
        }
        for unknown in ["input_blocks.x.0.op", "output_blocks.1.3.conv", "zero_conv"] {
            assert_eq!(unet_module(unknown, '.', 2), None);
        }
    }
}
