"""OSEDiff: its files, its single step and its interface."""

import osediff_cases
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from refusion.errors import CheckpointError, ConfigError
from refusion.images.samples import to_float
from refusion.restorers import Conditions, load_osediff
from refusion.restorers.osediff.restorer import DECODER_TILE, ENCODER_TILE, TILE, OSEDiff, one_step
from refusion.restorers.osediff.weights import (
    apply_osediff,
    published_modules,
    read_osediff,
    save_osediff,
)
from refusion.stable_diffusion import encode_photo, load_stable_diffusion
from refusion.stable_diffusion.libraries import import_library


@pytest.fixture(scope="module")
def weights(tiny_sd):
    pytest.importorskip("peft")
    return osediff_cases.made_weights(tiny_sd)


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    return osediff_cases.write_files(tmp_path_factory.mktemp("lora"), weights)


@pytest.fixture(scope="module")
def restorer(tiny_sd, files):
    return load_osediff(tiny_sd, files[0], device="cpu", precision="fp32")


def photo(height=20, width=26, batch=1):
    generator = torch.Generator().manual_seed(height + width)
    return torch.rand(batch, 3, height, width, generator=generator)


def test_adapted_layers_are_those_of_the_published_code(tiny_sd):
    sd = load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")
    unet, vae = published_modules(sd).values()
    assert "conv_in" in unet["default_encoder"] and "conv_out" in unet["default_decoder"]
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert {f"{block}.attn2.to_out.0", f"{block}.ff.net.0.proj", f"{block}.ff.net.2"} <= set(
        unet["default_encoder"]
    )
    assert all("mid_block" in name for name in unet["default_others"])
    every = [name for names in unet.values() for name in names]
    assert len(every) == len(set(every))
    assert not [name for name in every if "norm" in name or "time_emb" in name]
    (encoder,) = vae.values()
    assert "quant_conv" in encoder and "encoder.mid_block.attentions.0.to_q" in encoder
    assert not [name for name in encoder if "post_quant" in name or name.startswith("decoder")]


def test_both_file_layouts_give_bitwise_equal_results(restorer, tiny_sd, files):
    theirs = load_osediff(tiny_sd, files[1], device="cpu", precision="fp32")
    assert torch.equal(theirs.restore(photo()), restorer.restore(photo()))
    first, second = (read_osediff(file) for file in files)
    for part in ("unet", "vae"):
        ours, also = getattr(first, part), getattr(second, part)
        assert ours.keys() == also.keys() and first.rank(part) == osediff_cases.RANK
        assert all(torch.equal(ours[name], also[name]) for name in ours)


def test_merged_adapters_give_the_same_result_except_for_rounding(restorer, tiny_sd, files):
    merged = load_osediff(tiny_sd, files[1], merge=True, device="cpu", precision="fp32")
    assert not [n for n, _ in merged.sd.unet.named_parameters() if "lora" in n]
    assert (merged.restore(photo()) - restorer.restore(photo())).abs().max() < 1e-5


def test_adapters_have_the_published_scale(tiny_sd, files, weights):
    """alpha / rank = 8 / 4, as in the published files, so the weight is W + 2 B A."""
    merged = load_osediff(tiny_sd, files[1], merge=True, device="cpu", precision="fp32")
    plain = load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")
    layer = "mid_block.attentions.0.proj_in"
    down, up = (weights.unet[f"{layer}.lora_{side}.default_others.weight"] for side in "AB")
    own, now = (sd.unet.get_submodule(layer).weight for sd in (plain, merged.sd))
    torch.testing.assert_close(now, own + 2 * up @ down)


def test_adapters_change_the_result_but_not_the_decoder(restorer, tiny_sd):
    plain = load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")
    assert (OSEDiff(plain).restore(photo()) - restorer.restore(photo())).abs().mean() > 0.01
    own = restorer.sd.vae.decoder.state_dict()
    assert all(torch.equal(own[k], v) for k, v in plain.vae.decoder.state_dict().items())


def test_the_step_agrees_with_the_ddpm_scheduler(restorer):
    """The published code uses one step of `DDPMScheduler`, from time 999 to the end."""
    sd, image = restorer.sd, photo(16, 16)
    scheduler_class = import_library("diffusers", "x").DDPMScheduler
    scheduler = scheduler_class.from_config(dict(sd.scheduler), clip_sample=False)
    scheduler.set_timesteps(timesteps=[999])
    with torch.no_grad():
        prompts = sd.embed(["a house"])
        z = encode_photo(sd, image)
        expected = scheduler.step(sd.predict(z, 999, prompts), 999, z).prev_sample
        found = one_step(sd, z, prompts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 18)])
def test_photos_of_any_size_are_enlarged(restorer, size):
    large = OSEDiff(restorer.sd, upscale=3)
    assert large.info.scale == 3
    assert large.restore(photo(*size)).shape == (1, 3, 3 * size[0], 3 * size[1])


def test_the_result_depends_on_photo_seed_and_options_only(restorer):
    pair = photo(batch=2)
    together = restorer.restore(pair, seed=[3, 4])
    torch.testing.assert_close(restorer.restore(pair[:1], seed=3), together[:1])
    # The noise of the encoder has a small effect, because AdaIN copies statistics of the photo.
    assert not torch.equal(restorer.restore(pair[:1], seed=5), together[:1])
    assert torch.equal(restorer.restore(pair, seed=[3, 4]), together)


def test_tiles_are_close_to_the_whole_photo(restorer):
    image = photo(48, 40)
    whole, tiled = (restorer.restore(image, tile=tile) for tile in (None, 32))
    assert torch.equal(restorer.restore(image, tile=48), whole)
    assert not torch.equal(tiled, whole)
    assert (tiled.mean((2, 3)) - whole.mean((2, 3))).abs().max() < 0.02


def test_color_fix_keeps_the_mean_colour_of_the_photo(restorer):
    image = 0.3 + 0.2 * photo(40, 40)
    for color_fix, limit in (("adain", 0.01), ("wavelet", 0.05)):
        result = OSEDiff(restorer.sd, color_fix=color_fix).restore(image)
        assert (result.mean((2, 3)) - image.mean((2, 3))).abs().max() < limit
    result = OSEDiff(restorer.sd, color_fix="none").restore(image)
    assert (result.mean((2, 3)) - image.mean((2, 3))).abs().max() > 0.05


def test_the_prompt_is_a_text_a_function_or_a_condition(restorer):
    image, seen = photo(), []

    def caption(one):
        seen.append(one.shape)
        return "a red brick wall"

    prompted = restorer.restore(image, conditions=Conditions(prompt="a red brick wall"))
    assert not torch.equal(prompted, restorer.restore(image))
    for prompt in ("a red brick wall", caption):
        other = OSEDiff(restorer.sd, prompt=prompt, upscale=1)
        assert torch.equal(other.restore(image), prompted)
    assert seen == [(3, 20, 26)]


def test_strength_and_16_bit_photos(restorer):
    image = (photo() * 65535).round().to(torch.uint16)
    assert torch.equal(restorer.restore(image, strength=0.0), image)
    result = restorer.restore(image)
    assert result.dtype == torch.uint16
    expected = restorer.restore(to_float(image))
    assert (to_float(result) - expected).abs().max() <= 0.51 / 65535
    half = restorer.restore(to_float(image), strength=0.5)
    torch.testing.assert_close(half, (to_float(image) + expected) / 2)


def test_bfloat16_is_close_to_float32(restorer, tiny_sd, files):
    narrow = load_osediff(tiny_sd, files[0], device="cpu", precision="bf16")
    assert narrow.info.precision == "bf16"
    assert (narrow.restore(photo()) - restorer.restore(photo())).abs().mean() < 0.03


def test_overflow_in_bfloat16_is_computed_again_in_float32(restorer, tiny_sd, files, caplog):
    """This includes the text encoder, and an infinite value is not clamped to white."""
    expected = restorer.restore(photo())
    for part in ("text_encoder", "decoder"):
        narrow = load_osediff(tiny_sd, files[0], device="cpu", precision="bf16")
        network = narrow.sd.text_encoder if part == "text_encoder" else narrow.sd.vae.decoder

        def overflow(module, given, output):
            is_narrow = next(module.parameters()).dtype == torch.bfloat16
            if isinstance(output, torch.Tensor):
                return output + float("inf") if is_narrow else output
            output[0].mul_(float("nan") if is_narrow else 1.0)
            return output

        network.register_forward_hook(overflow)
        caplog.clear()
        assert (narrow.restore(photo()) - expected).abs().mean() < 0.03
        assert "OSEDiff: no finite result in bf16; again in fp32" in caplog.text


def test_no_network_input_is_larger_than_a_tile(restorer):
    sd, seen = restorer.sd, {}
    networks = {"unet": sd.unet, "encoder": sd.vae.encoder, "decoder": sd.vae.decoder}
    hooks = [
        network.conv_in.register_forward_pre_hook(
            lambda module, given, name=name: seen.setdefault(name, set()).add(
                max(given[0].shape[-2:])
            )
        )
        for name, network in networks.items()
    ]
    restorer.restore(photo(72, 80), tile=32)
    for hook in hooks:
        hook.remove()
    assert {n: max(s) for n, s in seen.items()} == {"unet": 16, "encoder": 32, "decoder": 16}
    assert (TILE, ENCODER_TILE, DECODER_TILE) == (96, 1024, 8 * 224)  # published


def test_invalid_arguments_raise_an_error(restorer, tiny_sd, tmp_path):
    for options in ({"steps": 2}, {"sampler": "posterior"}):
        with pytest.raises(ConfigError, match="OSEDiff takes 1 step"):
            restorer.restore(photo(), **options)
    with pytest.raises(ConfigError, match=r"color_fix: .* did you mean 'adain'"):
        OSEDiff(restorer.sd, color_fix="adin")
    with pytest.raises(ConfigError, match="upscale: expected 1 to 16"):
        OSEDiff(restorer.sd, upscale=0)
    import tiny_stable_diffusion

    other = tiny_stable_diffusion.make_stable_diffusion(tmp_path, prediction_type="v_prediction")
    with pytest.raises(CheckpointError, match="OSEDiff needs one that predicts noise"):
        OSEDiff(load_stable_diffusion(other, device="cpu", precision="fp32"))


BIAS = "conv_in.base_layer.bias"
DOWN = "conv_in.lora_A.default_encoder.weight"
EDITS = {  # changes of a file in the published layout
    "rank": lambda content, unet: content.update(rank_unet=5),
    "list": lambda content, unet: content.update(vae_lora_encoder_modules=["quant_conv"]),
    "no vae": lambda content, unet: content.pop("state_dict_vae"),
    "nan": lambda content, unet: unet.update({BIAS: unet[BIAS] * float("nan")}),
    "missing": lambda content, unet: unet.pop(BIAS),
    "unknown": lambda content, unet: unet.update(extra=torch.zeros(2)),
    "shape": lambda content, unet: unet.update({BIAS: torch.zeros(3)}),
    "a number": lambda content, unet: unet.update({DOWN: 5}),
    "no shape": lambda content, unet: unet.update({DOWN: torch.tensor(1.0)}),
    "rank 0": lambda content, unet: unet.update({DOWN: unet[DOWN][:0]}),
    "float8": lambda content, unet: unet.update({DOWN: unet[DOWN].to(torch.float8_e4m3fn)}),
    "adapter": lambda content, unet: unet.update({"conv_in.lora_A.a.b.weight": unet[DOWN]}),
    "list of lists": lambda content, unet: content.update(vae_lora_encoder_modules=[[1]]),
    "rank of many": lambda content, unet: content.update(rank_vae=torch.tensor([4, 4])),
    "code": lambda content, unet: content.update(rank_unet=print),
}


def broken(weights, kind, tmp_path):
    """Write a file with one error."""
    path = tmp_path / "bad"
    if kind == "safetensors":
        save_file({"unet.x": torch.zeros(1)}, path)
    elif kind in ("ours", "json"):
        save_osediff(path, weights, {}, None)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() if kind == "ours" else {"refusion": "[" * 100_000}
        save_file({**load_file(path), "extra": torch.zeros(1)}, path, metadata=metadata)
    elif kind in EDITS:
        content = osediff_cases.official_layout(weights)
        EDITS[kind](content, content["state_dict_unet"])
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing", r"no such file; expected osediff\.pkl"),
        ("safetensors", "does not contain weights of OSEDiff"),
        ("rank", "'rank_unet' is not the rank of the adapters in the file, 4"),
        ("list", "'vae_lora_encoder_modules' does not list exactly the layers"),
        ("no vae", "has no 'state_dict_vae'"),
        ("nan", r"'conv_in\.base_layer\.bias' holds NaN"),
        ("missing", r"no tensor 'unet\.conv_in\.base_layer\.bias' \(1 in all\)"),
        ("unknown", r"an unknown tensor 'unet\.extra'"),
        ("shape", r"of another shape 'unet\.conv_in\.base_layer\.bias'"),
        ("a number", "is a int, expected tensors"),
        ("no shape", "adapter 'conv_in.lora_A.default_encoder.weight' has rank 0 or is a scalar"),
        ("rank 0", "has rank 0 or is a scalar"),
        ("float8", "is stored as torch.float8_e4m3fn"),
        ("adapter", "contains the unknown adapter 'a.b' of the unet"),
        ("list of lists", "'vae_lora_encoder_modules' does not list exactly the layers"),
        ("rank of many", "'rank_vae' is not the rank of the adapters in the file, 4"),
        ("ours", "tensor 'extra' belongs to neither unet nor vae"),
        ("json", "its 'refusion' metadata is not JSON"),
        ("code", "holds Python objects besides tensors"),
    ],
)
def test_damaged_files_raise_an_error(tiny_sd, weights, tmp_path, kind, message):
    path = broken(weights, kind, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        adapters = read_osediff(path)
        sd = load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")
        apply_osediff(sd, adapters, path)
