"""A Stable Diffusion small enough for tests, in the layout of diffusers, made without a network."""

import json

import torch
from safetensors.torch import load_file, save_file

from refusion.stable_diffusion.libraries import import_library

LIBRARIES = ("diffusers", "transformers")
WIDTHS = (16, 32)  # of the U-Net's levels: latents in multiples of 2
VAE_WIDTHS = (8, 16)  # of the VAE's levels: 2 pixels per latent pixel
WORDS, HIDDEN = 16, 12  # tokens of a prompt, values per token
SIDE = 16  # pixels of the pictures it would have been trained on

UNET = {
    "sample_size": SIDE // 2,
    "block_out_channels": WIDTHS,
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": HIDDEN,
    "attention_head_dim": (2, 4),  # diffusers' word for the number of heads
    "norm_num_groups": 4,
    "use_linear_projection": True,
}
VAE = {
    "block_out_channels": VAE_WIDTHS,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
    "sample_size": SIDE,
}
TEXT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": WORDS,
}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def vocabulary():
    """Keys of CLIP without merges: every byte, every byte at the end of a word, two marks."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in kept] + [chr(256 + n) for n in range(256 - len(kept))]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}


def make_stable_diffusion(folder, seed=0, **scheduler):
    """Write the folder, as published ones are laid out; `scheduler` replaces its settings."""
    diffusers, transformers = (import_library(name, folder) for name in LIBRARIES)
    words = vocabulary()
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), pad_token_id=len(words) - 1, **ends, **TEXT
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        diffusers.UNet2DConditionModel(**UNET).save_pretrained(folder / "unet")
        diffusers.AutoencoderKL(**VAE).save_pretrained(folder / "vae")
        transformers.CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer", words)
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", {**SCHEDULER, **scheduler})
    return folder


def write_tokenizer(folder, words):
    """The three files of a published tokenizer, by hand."""
    folder.mkdir()
    write_json(folder / "vocab.json", words)
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    marks |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": WORDS, **marks}
    write_json(folder / "tokenizer_config.json", settings)


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def rewrite(folder, part, change):
    """Change the tensors of one network's file: `change(tensors)` in place."""
    path = next((folder / part).glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
