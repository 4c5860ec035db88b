"""A tiny Stable Diffusion from disk: what is read, what is refused."""

import ast
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tiny_stable_diffusion import HIDDEN, SIDE, WORDS, make_stable_diffusion, rewrite

import refusion
from refusion.errors import CheckpointError
from refusion.stable_diffusion import load_stable_diffusion


@pytest.fixture(scope="module")
def sd(tiny_sd):
    return load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")


@pytest.fixture
def folder(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "sd")


def refusal(folder):
    with pytest.raises(CheckpointError) as caught:
        load_stable_diffusion(folder, device="cpu", precision="fp32")
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message


def test_the_parts_are_frozen_and_tell_their_sizes(sd, tiny_sd):
    assert (sd.factor, sd.align, sd.side) == (2, 2, SIDE)
    assert sd.schedule.prediction == "epsilon" and sd.schedule.T == 1000
    assert sd.schedule.alpha_bar[-1].item() == pytest.approx(0.0046600, rel=1e-4)  # SD 2.1's
    assert (sd.precision, sd.device.type, sd.folder) == ("fp32", "cpu", tiny_sd)
    for network in sd.networks():
        assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_it_needs_no_torchvision(sd):
    assert not [name for name in sys.modules if name.split(".")[0] == "torchvision"]
    assert importlib.util.find_spec("diffusers") is not None


def test_prompts(sd):
    with torch.no_grad():
        both = sd.embed(["", "A sharp photo"])
        assert both.shape == (2, WORDS, HIDDEN)
        assert not torch.allclose(both[0], both[1])
        assert torch.allclose(both[1:], sd.embed(["a  sharp photo"]), atol=1e-6)  # CLIP's ways
        assert sd.embed(["word " * 100]).shape == (1, WORDS, HIDDEN)
        zt = torch.randn(2, 4, 6, 10, generator=torch.Generator().manual_seed(0))
        told = sd.predict(zt, 500, both)
        assert told.shape == zt.shape and not torch.allclose(
            told[:1], sd.predict(zt[:1], 500, both[1:])
        )
        assert torch.allclose(told[:1], sd.predict(zt[:1], 500, both[:1]), atol=1e-5)


def test_a_folder_without_its_parts(folder, tmp_path):
    shutil.rmtree(folder / "vae")
    message = refusal(folder)
    assert "without vae/config.json" in message and "stable-diffusion-2-1-base" in message
    assert "without unet/config.json, vae/config.json" in refusal(tmp_path / "nothing")


def test_pickles_are_refused(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    torch.save({}, file.with_suffix(".bin"))
    file.unlink()
    assert "holds a pickle" in refusal(folder)


def test_only_a_variant(folder, sd):
    for part in ("unet", "vae", "text_encoder"):
        file = next((folder / part).glob("*.safetensors"))
        file.rename(file.with_suffix(".fp16.safetensors"))
    found = load_stable_diffusion(folder, device="cpu", precision="bf16")
    assert found.precision == "bf16"
    own, whole = found.unet.conv_in.weight, sd.unet.conv_in.weight
    assert torch.equal(own, whole.to(torch.bfloat16))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_tensors_must_fit(folder, part):
    rewrite(folder, part, lambda tensors: tensors.pop(sorted(tensors)[0]))
    message = refusal(folder)
    assert part in message and "missing: " in message


def test_tensors_left_over_and_damaged_files(folder):
    rewrite(folder, "unet", lambda tensors: tensors.update(more=torch.zeros(1)))
    assert "unexpected: more" in refusal(folder)
    next((folder / "unet").glob("*.safetensors")).write_bytes(b"nothing")
    assert "unet: cannot be read" in refusal(folder)


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_other_models_are_refused(folder):
    change(folder / "scheduler" / "scheduler_config.json", prediction_type="sample")
    assert "prediction_type 'sample'" in refusal(folder)
    change(folder / "unet" / "config.json", _class_name="FluxTransformer2DModel")
    assert "describes FluxTransformer2DModel, expected UNet2DConditionModel" in refusal(folder)


SCHEDULER = "scheduler/scheduler_config.json"
HOSTILE = [
    ("text_encoder/config.json", {"architectures": 5}, "describes 5, expected CLIPTextModel"),
    ("text_encoder/config.json", {"architectures": [1, 2]}, r"describes \[1, 2\], expected"),
    ("unet/config.json", {"sample_size": None}, "latents of side None"),
    ("unet/config.json", {"sample_size": [8, 8]}, r"latents of side \[8, 8\]"),
    ("unet/config.json", {"sample_size": 0}, "latents of side 0"),
    ("vae/config.json", {"scaling_factor": "x"}, "scale 'x'"),
    ("vae/config.json", {"scaling_factor": 0.0}, r"scale 0\.0"),
    ("tokenizer/vocab.json", {f"w{n}": 600 + n for n in range(50)}, "a tokenizer of .* tokens"),
    (SCHEDULER, {"trained_betas": "abc"}, "the betas cannot be computed"),
]


@pytest.mark.parametrize(("file", "settings", "message"), HOSTILE)
def test_settings_that_make_no_sense_end_in_one_line(folder, file, settings, message):
    change(folder / file, **settings)
    assert re.search(message, refusal(folder))


def test_json_without_an_end_ends_in_one_line(folder):
    (folder / SCHEDULER).write_text("[" * 100_000)
    assert "cannot be read as JSON" in refusal(folder)


@pytest.mark.parametrize("length", [None, 500, 10**30])
def test_texts_are_as_long_as_the_text_encoder_takes(folder, length):
    """Whatever the tokenizer says; without a length transformers takes 10^30."""
    change(folder / "tokenizer/tokenizer_config.json", model_max_length=length)
    found = load_stable_diffusion(folder, device="cpu", precision="fp32")
    with torch.no_grad():
        assert found.embed(["a house"]).shape == (1, WORDS, HIDDEN)


def test_parts_of_different_models_are_refused(tmp_path, monkeypatch, tiny_sd):
    monkeypatch.setitem(make_stable_diffusion.__globals__["TEXT"], "hidden_size", 16)
    other = make_stable_diffusion(tmp_path / "other")
    assert f"{HIDDEN} values per token and a text encoder with 16" in refusal(other)


@pytest.mark.parametrize("library", ["diffusers", "transformers"])
def test_without_the_libraries_one_line_says_how(tiny_sd, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    assert f"needs {library}" in (message := refusal(tiny_sd))
    assert "pip install 'diffusers>=0.40" in message


def test_libraries_are_imported_only_where_they_are_needed():
    """By name and late, so that a plain install works and nothing waits for them."""
    package = Path(refusion.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found = {name.split(".")[0] for name in names} & {"diffusers", "transformers", "peft"}
            assert not found, f"{path}: {found}"
