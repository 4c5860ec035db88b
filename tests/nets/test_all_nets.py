"""What every network of the table must do, whatever its architecture."""

import hashlib

import pytest
import torch
from net_cases import CASES

from refusion.nets import (
    NETS,
    ConditionalNAFNet,
    ConditionalUNet,
    LatentUNet,
    NAFNet,
    SwinIR,
    UnconditionalUNet,
)

BOKEH_DEPTHS = {"enc_blk_nums": [2, 2, 4, 8], "middle_blk_num": 12, "dec_blk_nums": [2, 2, 2, 2]}
GOPRO = {"enc_blk_nums": [1, 1, 1, 28], "middle_blk_num": 1, "dec_blk_nums": [1, 1, 1, 1]}
# Published sizes: parameters as in the papers (137.1 M, 131.4 M, ...) and a digest of all names
# and shapes; a change of either makes published weights unreadable.
PUBLISHED = {
    "ir-sde": (ConditionalUNet, {}, 137_147_523, "ce5f8c2edcdcd1db"),
    "ir-sde deshadow": (ConditionalUNet, {"nf": 32, "depth": 5}, 135_346_755, "7c99a6bd93cccd44"),
    "refusion": (ConditionalNAFNet, {}, 76_608_387, "58cf3a3cc669ba9e"),
    "latent haze": (
        ConditionalNAFNet,
        {"img_channel": 8, "wiring": "latent"},
        76_617_032,
        "c67a146a85a5ab70",
    ),
    "latent bokeh": (
        ConditionalNAFNet,
        {"img_channel": 4, "lens": True, **BOKEH_DEPTHS},
        131_467_716,
        "5c970e838417a454",
    ),
    "stereo": (ConditionalNAFNet, {"stereo": True}, 112_033_667, "0dd3e9054de46541"),
    "haze u-net": (LatentUNet, {}, 2_007_859, "156ef01867bf8da5"),
    "bokeh u-net": (
        LatentUNet,
        {"ch": 64, "ch_mult": [1, 2, 4], "embed_dim": 4},
        6_155_139,
        "172a5ed72250d470",
    ),
    "nafnet sidd": (NAFNet, {}, 29_159_715, "e416aa7a76fd3ab4"),
    "nafnet sidd wide": (NAFNet, {"width": 64}, 115_982_915, "e311aae9e167200f"),
    "nafnet gopro": (NAFNet, GOPRO, 17_111_907, "67d353bc56df7954"),
    "diffbir stage 1": (SwinIR, {}, 15_792_587, "e07e6e48b0882316"),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def one_of(inputs, index):
    return {name: value[index : index + 1] for name, value in inputs.items()}


def relative_error(value, reference):
    return ((value.float() - reference).norm() / reference.norm()).item()


def test_every_network_has_a_case():
    assert {case.net for case in CASES.values()} == set(NETS.values())
    assert all(net.__name__ == name for name, net in NETS.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name):
    net, settings, count, digest = PUBLISHED[name]
    with torch.device("meta"):
        built = net(**settings)
    state = {key: tuple(value.shape) for key, value in built.state_dict().items()}
    assert sum(parameter.numel() for parameter in built.parameters()) == count
    text = "\n".join(f"{key} {state[key]}" for key in sorted(state))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


@every_case
@torch.no_grad()
def test_any_size(case):
    net = case.build()
    sizes = [(1, 1), *((n, 34 - n) for n in range(1, 34))]
    for height, width in sizes:
        inputs = case.inputs(1, height, width)
        output = case.run(net, inputs)
        assert output.shape == (1, case.channels, height, width)
        assert output.isfinite().all(), (height, width)


@every_case
@torch.no_grad()
def test_batch_equals_one_by_one(case):
    net, inputs = case.build(), case.inputs(3, 17, 30)
    alone = torch.cat([case.run(net, one_of(inputs, i)) for i in range(3)])
    torch.testing.assert_close(case.run(net, inputs), alone, rtol=1e-4, atol=1e-5)


@every_case
def test_gradient_reaches_every_parameter(case):
    net, inputs = case.build(), case.inputs(2, 32, 64)
    case.run(net, inputs).square().mean().backward()
    largest = max(parameter.grad.abs().max() for parameter in net.parameters())
    for name, parameter in net.named_parameters():
        # Above what rounding leaves of a gradient that is zero.
        assert parameter.grad.abs().max() > 1e-8 * largest, name


@every_case
@torch.no_grad()
def test_every_input_matters(case):
    net, inputs = case.build(), case.inputs(2, 16, 24)
    output = case.run(net, inputs)
    for name, value in inputs.items():
        changed = case.run(net, {**inputs, name: value.flip(0)})
        is_told = case.net is not UnconditionalUNet and case.settings.get("conditional", True)
        unread = name == "mu" and not is_told
        assert torch.equal(changed, output) if unread else relative_error(changed, output) > 1e-3
    if "lens" in inputs:
        for column in range(3):
            lens = inputs["lens"].clone()
            lens[:, column] += 20
            assert relative_error(case.run(net, {**inputs, "lens": lens}), output) > 1e-4, column


@every_case
@torch.no_grad()
def test_deterministic_and_the_same_in_training(case):
    net, inputs = case.build(), case.inputs(1, 16, 24)
    before = torch.get_rng_state()
    output = case.run(net, inputs)
    assert torch.equal(case.run(net, inputs), output)
    assert torch.equal(case.run(net.train(), inputs), output)
    assert torch.equal(torch.get_rng_state(), before)


@every_case
@torch.no_grad()
def test_inputs_are_left_alone(case):
    net, inputs = case.build(), case.inputs(1, 16, 16)
    copies = {name: value.clone() for name, value in inputs.items()}
    case.run(net, inputs)
    assert all(torch.equal(value, copies[name]) for name, value in inputs.items())


@every_case
@torch.no_grad()
def test_channels_last_memory(case):
    net, inputs = case.build(), case.inputs(2, 18, 24)
    output = case.run(net, inputs)
    net = net.to(memory_format=torch.channels_last)
    images = {
        name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in inputs.items()
    }
    torch.testing.assert_close(case.run(net, images), output, rtol=1e-4, atol=1e-5)


@every_case
@torch.no_grad()
def test_bfloat16_weights(case):
    net, inputs = case.build(), case.inputs(1, 16, 24)
    output = case.run(net, inputs)
    # Times and lens numbers stay exact: the embedding is computed in float32.
    half = {name: value.bfloat16() if value.ndim == 4 else value for name, value in inputs.items()}
    rounded = case.run(net.bfloat16(), half)
    assert rounded.dtype == torch.bfloat16
    assert relative_error(rounded, output) < 0.05


@every_case
@torch.no_grad()
def test_bfloat16_autocast(case):
    net, inputs = case.build(), case.inputs(1, 16, 24)
    output = case.run(net, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = case.run(net, inputs)
    assert relative_error(rounded, output) < 0.05


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_timed])
@torch.no_grad()
def test_one_time_for_the_whole_batch(name):
    case = CASES[name]
    net, inputs = case.build(), case.inputs(2, 8, 16)
    inputs["t"] = torch.tensor([31, 31])
    output = case.run(net, inputs)
    for t in (31, 31.0, torch.tensor(31), torch.tensor([31])):
        torch.testing.assert_close(case.run(net, {**inputs, "t": t}), output)
