//! The names that diffusers gives the tensors of a GGUF file.

use crate::backbones::weights::{Part, Share};

/// How a file names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As diffusers does: Qwen-Image's files.
    Diffusers,
    /// As Black Forest Labs do, who wrote several projections as one.
    Flux,
}

/// What some programs put before all names.
const PREFIX: &str = "model.diffusion_model.";

/// Modules outside of the blocks.
const ENDS: [(&str, &str); 10] = [
    (
        "time_in.in_layer",
        "time_text_embed.timestep_embedder.linear_1",
    ),
    (
        "time_in.out_layer",
        "time_text_embed.timestep_embedder.linear_2",
    ),
    (
        "vector_in.in_layer",
        "time_text_embed.text_embedder.linear_1",
    ),
    (
        "vector_in.out_layer",
        "time_text_embed.text_embedder.linear_2",
    ),
    (
        "guidance_in.in_layer",
        "time_text_embed.guidance_embedder.linear_1",
    ),
    (
        "guidance_in.out_layer",
        "time_text_embed.guidance_embedder.linear_2",
    ),
    ("txt_in", "context_embedder"),
    ("img_in", "x_embedder"),
    ("final_layer.linear", "proj_out"),
    ("final_layer.adaLN_modulation.1", "norm_out.linear"),
];

/// Modules of a block with two streams.
const DOUBLE: [(&str, &str); 12] = [
    ("img_mod.lin", "norm1.linear"),
    ("txt_mod.lin", "norm1_context.linear"),
    ("img_attn.norm.query_norm", "attn.norm_q"),
    ("img_attn.norm.key_norm", "attn.norm_k"),
    ("txt_attn.norm.query_norm", "attn.norm_added_q"),
    ("txt_attn.norm.key_norm", "attn.norm_added_k"),
    ("img_attn.proj", "attn.to_out.0"),
    ("txt_attn.proj", "attn.to_add_out"),
    ("img_mlp.0", "ff.net.0.proj"),
    ("img_mlp.2", "ff.net.2"),
    ("txt_mlp.0", "ff_context.net.0.proj"),
    ("txt_mlp.2", "ff_context.net.2"),
];

/// Modules of a block with one.
const SINGLE: [(&str, &str); 4] = [
    ("modulation.lin", "norm.linear"),
    ("norm.query_norm", "attn.norm_q"),
    ("norm.key_norm", "attn.norm_k"),
    ("linear2", "proj_out"),
];

/// Modules that are several in one: their shares of the rows.
const FUSED: [(&str, &[(&str, usize)]); 3] = [
    (
        "img_attn.qkv",
        &[("attn.to_q", 1), ("attn.to_k", 1), ("attn.to_v", 1)],
    ),
    (
        "txt_attn.qkv",
        &[
            ("attn.add_q_proj", 1),
            ("attn.add_k_proj", 1),
            ("attn.add_v_proj", 1),
        ],
    ),
    // The feed-forward is four times as wide as the block, a constant of diffusers in no file.
    (
        "linear1",
        &[
            ("attn.to_q", 1),
            ("attn.to_k", 1),
            ("attn.to_v", 1),
            ("proj_mlp", 4),
        ],
    ),
];

impl Layout {
    /// That of a file with these names.
    pub fn of<'a>(mut names: impl Iterator<Item = &'a str>) -> Self {
        match names.any(|name| plain(name).starts_with("double_blocks.")) {
            true => Self::Flux,
            false => Self::Diffusers,
        }
    }

    /// The tensors that the stored one is in diffusers' layout. What is not known keeps its name, so
    /// that it shows among what is left over.
    pub fn translated(self, stored: &str) -> Vec<(String, Part)> {
        let name = plain(stored);
        match self {
            Self::Diffusers => vec![(name.to_owned(), Part::Whole)],
            Self::Flux => flux(name).unwrap_or_else(|| vec![(name.to_owned(), Part::Whole)]),
        }
    }
}

fn plain(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

fn flux(name: &str) -> Option<Vec<(String, Part)>> {
    let (module, kind) = name.rsplit_once('.')?;
    let kind = if kind == "scale" { "weight" } else { kind };
    let found = |table: &[(&str, &'static str)], module: &str| {
        let found = table.iter().find(|(from, _)| *from == module);
        found.map(|&(_, to)| to)
    };
    if let Some(to) = found(&ENDS, module) {
        let part = match to {
            // Shift before scale there, scale before shift here.
            "norm_out.linear" => Part::HalvesSwapped,
            _ => Part::Whole,
        };
        return Some(vec![(format!("{to}.{kind}"), part)]);
    }
    let (place, table, rest): (_, &[(&str, &str)], _) =
        if let Some(rest) = module.strip_prefix("double_blocks.") {
            ("transformer_blocks", &DOUBLE, rest)
        } else {
            let rest = module.strip_prefix("single_blocks.")?;
            ("single_transformer_blocks", &SINGLE, rest)
        };
    let (block, rest) = rest.split_once('.')?;
    let named = |module: &str| format!("{place}.{block}.{module}.{kind}");
    if let Some(to) = found(table, rest) {
        return Some(vec![(named(to), Part::Whole)]);
    }
    let (_, parts) = FUSED.iter().find(|(from, _)| *from == rest)?;
    let of: usize = parts.iter().map(|(_, share)| share).sum();
    let mut from = 0;
    let mut translated = Vec::new();
    for (module, share) in *parts {
        let to = from + share;
        translated.push((named(module), Part::Rows(Share { from, to, of })));
        from = to;
    }
    Some(translated)
}
