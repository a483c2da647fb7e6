//! Which module of a model a LoRA's keys are for.

use crate::backbones::checkpoint;
use crate::backbones::files::ModelFiles;

/// A module by the component it is in and its path, as a LoRA's file calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub component: &'static str,
    /// Joined by points, or by underscores alone where `flat`.
    pub path: String,
    pub flat: bool,
}

/// How kohya's scripts begin a component's modules, whose points they turn into underscores.
const FLAT: [(&str, &str); 4] = [
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
];

/// How diffusers begins a component's modules.
const DOTTED: [(&str, &str); 4] = [
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("transformer.", "transformer"),
];

/// The role of a LoRA's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Down,
    Up,
    /// What the product is multiplied by, over its rank.
    Alpha,
}

/// How a LoRA's keys end: kohya's, PEFT's, and diffusers' of before.
const ROLES: [(&str, Role); 12] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
];

/// Modules by the names that diffusers' attention processors gave them.
const PROCESSOR: [(&str, &str); 4] = [
    ("to_q", "q_proj"),
    ("to_k", "k_proj"),
    ("to_v", "v_proj"),
    ("to_out", "out_proj"),
];

/// What a LoRA's key names; `None` for one that is of no supported kind.
pub fn read(key: &str) -> Option<(Target, Role)> {
    let (module, role) = match key.strip_suffix(".alpha") {
        Some(module) => (module.to_owned(), Role::Alpha),
        None => ROLES.iter().find_map(|(end, role)| {
            let module = key.strip_suffix(end)?;
            let module = match end.starts_with("_lora") {
                true => out_of_processor(module),
                false => module.to_owned(),
            };
            Some((module, *role))
        })?,
    };
    let of = |starts: &[(&str, &'static str)], flat| {
        starts.iter().find_map(|&(start, component)| {
            let path = module.strip_prefix(start)?.to_owned();
            Some(Target {
                component,
                path,
                flat,
            })
        })
    };
    let target = of(&FLAT, true).or_else(|| of(&DOTTED, false))?;
    Some((target, role))
}

/// `attn1.processor.to_out` is `attn1.to_out.0`, and `self_attn.to_q` is `self_attn.q_proj`.
fn out_of_processor(module: &str) -> String {
    let module = module.replace(".processor.", ".");
    let Some((place, projection)) = module.rsplit_once('.') else {
        return module;
    };
    if place.ends_with("self_attn") {
        let found = PROCESSOR.iter().find(|(old, _)| *old == projection);
        return found.map_or(module.clone(), |(_, new)| format!("{place}.{new}"));
    }
    match projection {
        "to_out" => format!("{module}.0"),
        _ => module,
    }
}

/// What the original layout of this model's UNet counts its blocks by; `None` where there is none.
pub fn layers(files: &ModelFiles) -> Option<usize> {
    checkpoint::layers_per_block(files).ok()
}

/// What a module of a model is looked up by: its path with points, and without them.
pub fn keys(component: &str, module: &str) -> [String; 2] {
    let module = unprefixed(component, module, '.');
    [format!("={module}"), module.replace('.', "_")]
}

/// What a LoRA's target is looked up by, as [`keys`] writes it. `layers`: see [`layers`].
pub fn key_of(target: &Target, layers: Option<usize>) -> String {
    let separator = if target.flat { '_' } else { '.' };
    let path = unprefixed(target.component, &target.path, separator);
    let original = layers
        .filter(|_| target.component == "unet")
        .and_then(|layers| checkpoint::unet_module(path, separator, layers));
    let path = original.as_deref().unwrap_or(path);
    match target.flat {
        true => path.to_owned(),
        false => format!("={path}"),
    }
}

/// Files and LoRAs differ in whether the text encoders' modules begin with `text_model`.
fn unprefixed<'a>(component: &str, path: &'a str, separator: char) -> &'a str {
    let inner = path
        .strip_prefix("text_model")
        .and_then(|rest| rest.strip_prefix(separator));
    match component.starts_with("text_encoder") {
        true => inner.unwrap_or(path),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Option<(&'static str, String, Role)> {
        let (target, role) = read(name)?;
        Some((target.component, key_of(&target, Some(2)), role))
    }

    #[test]
    fn keys_of_every_layout_lead_to_the_model_s_modules() {
        let attention = "down_blocks.1.attentions.0.transformer_blocks.0.attn1";
        let [dotted, flat] = keys("unet", &format!("{attention}.to_q"));
        let out = keys("unet", &format!("{attention}.to_out.0"));
        let text = keys(
            "text_encoder_2",
            "text_model.encoder.layers.3.self_attn.q_proj",
        );
        for (name, component, expected, role) in [
            (
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
                "unet",
                &flat,
                Role::Down,
            ),
            (
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.alpha",
                "unet",
                &flat,
                Role::Alpha,
            ),
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight",
                "unet",
                &dotted,
                Role::Up,
            ),
            (
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
                "unet",
                &out[0],
                Role::Up,
            ),
            (
                "lora_te2_text_model_encoder_layers_3_self_attn_q_proj.lora_up.weight",
                "text_encoder_2",
                &text[1],
                Role::Up,
            ),
            (
                "text_encoder_2.text_model.encoder.layers.3.self_attn.to_q_lora.down.weight",
                "text_encoder_2",
                &text[0],
                Role::Down,
            ),
            (
                "text_encoder_2.encoder.layers.3.self_attn.q_proj.lora_linear_layer.down.weight",
                "text_encoder_2",
                &text[0],
                Role::Down,
            ),
        ] {
            assert_eq!(
                key(name),
                Some((component, expected.clone(), role)),
                "{name}"
            );
        }
        for foreign in [
            "lora_unet_x.hada_w1_a",
            "unet.conv_in.weight",
            "x.lora_A.weight",
        ] {
            assert_eq!(key(foreign), None, "{foreign}");
        }
    }
}
