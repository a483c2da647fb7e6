//! What SDXL base 1.0 is configured as, for checkpoints without configuration files: the values of
//! `stabilityai/stable-diffusion-xl-base-1.0` that a loader reads. All fine-tuned SDXL models share
//! them, down to the names and shapes of their tensors.

use crate::backbones::files::Embedded;

/// SDXL base 1.0's configuration files.
pub const SDXL_BASE: Embedded = &[
    (
        "model_index.json",
        br#"{
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": true,
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"]
        }"#,
    ),
    (
        "scheduler/scheduler_config.json",
        br#"{
            "_class_name": "EulerDiscreteScheduler",
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "steps_offset": 1,
            "timestep_spacing": "leading"
        }"#,
    ),
    (
        "unet/config.json",
        br#"{
            "_class_name": "UNet2DConditionModel",
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "attention_head_dim": [5, 10, 20],
            "block_out_channels": [320, 640, 1280],
            "cross_attention_dim": 2048,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "layers_per_block": 2,
            "projection_class_embeddings_input_dim": 2816,
            "sample_size": 128,
            "transformer_layers_per_block": [1, 2, 10],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "use_linear_projection": true
        }"#,
    ),
    (
        "vae/config.json",
        br#"{
            "_class_name": "AutoencoderKL",
            "block_out_channels": [128, 256, 512, 512],
            "force_upcast": true,
            "latent_channels": 4,
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "scaling_factor": 0.13025,
            "up_block_types": [
                "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"
            ]
        }"#,
    ),
    (
        "text_encoder/config.json",
        br#"{
            "eos_token_id": 2,
            "hidden_act": "quick_gelu",
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "projection_dim": 768,
            "vocab_size": 49408
        }"#,
    ),
    (
        "text_encoder_2/config.json",
        br#"{
            "eos_token_id": 2,
            "hidden_act": "gelu",
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_attention_heads": 20,
            "num_hidden_layers": 32,
            "projection_dim": 1280,
            "vocab_size": 49408
        }"#,
    ),
];
