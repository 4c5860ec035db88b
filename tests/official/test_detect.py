"""Networks are recognised by their tensors alone."""

import pytest
import torch
from official_cases import fresh_weights, recorded_weights

from refusion.errors import CheckpointError
from refusion.nets import ConditionalNAFNet, ConditionalUNet, LatentUNet
from refusion.official.detect import detect_latent_unet, detect_network, part_of

NAFNET = {"width": 8, "enc_blk_nums": [1, 0, 3], "middle_blk_num": 2, "dec_blk_nums": [2, 1, 1]}
NETWORKS = [
    (ConditionalNAFNet, NAFNET),
    (ConditionalNAFNet, NAFNET | {"img_channel": 8}),
    (ConditionalNAFNet, NAFNET | {"img_channel": 4, "lens": True}),
    (ConditionalNAFNet, NAFNET | {"stereo": True}),
    (ConditionalNAFNet, NAFNET | {"conditional": False}),
    (ConditionalUNet, {"nf": 8, "depth": 3}),
    (ConditionalUNet, {"nf": 4, "depth": 5}),
    (ConditionalUNet, {"nf": 8, "depth": 2, "conditional": False, "mid_attention": "softmax"}),
]
LATENTS = [{}, {"ch": 64, "ch_mult": [1, 2, 4], "embed_dim": 4}, {"ch": 4, "ch_mult": [3]}]


def on_meta(net, settings):
    with torch.device("meta"):
        return net(**settings)


@pytest.mark.parametrize(("net", "settings"), NETWORKS)
def test_network_is_built_again_from_what_was_detected(net, settings):
    state = on_meta(net, settings).state_dict()
    found = detect_network(state, "a.pth")
    assert found.type == net.__name__
    assert {key: found.settings[key] for key in settings} == settings
    again = on_meta(net, found.settings).state_dict()
    assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in state.items()}
    assert part_of(state, "a.pth") == "network"


@pytest.mark.parametrize("settings", LATENTS)
def test_latent_unet(settings):
    state = on_meta(LatentUNet, settings).state_dict()
    found = detect_latent_unet(state, "a.pth")
    assert found.type == "LatentUNet"
    assert {key: found.settings[key] for key in settings} == settings
    assert part_of(state, "a.pth") == "latent_unet"


@pytest.mark.parametrize("case", ["pixel", "latent", "bokeh", "stereo", "local"])
def test_recorded_nafnets(recorded, case):
    about, _ = recorded(f"conditional_nafnet_{case}")
    found = detect_network(recorded_weights(f"conditional_nafnet_{case}")[0], "a.pth").settings
    keys = ("img_channel", "width", "enc_blk_nums", "middle_blk_num", "dec_blk_nums")
    assert {key: found[key] for key in keys} == {key: about["settings"][key] for key in keys}
    assert (found["lens"], found["stereo"]) == (case == "bokeh", case == "stereo")


def state_of(net, **settings):
    return fresh_weights(net(**settings))


UNET = state_of(ConditionalUNet, nf=4, depth=2)
REFUSED = {
    "empty": ({"conv.weight": torch.zeros(1)}, r"no network of the authors' release .*conv"),
    "latent": (state_of(LatentUNet, ch=4), "is a latent U-Net.*give it as --latent"),
    "missing": ({k: v for k, v in UNET.items() if "mid_block2" not in k}, "mid_block2.*absent"),
    "more": (UNET | {"extra.weight": torch.zeros(2)}, "'extra.weight' is .2,., expected absent"),
    "kernel": (UNET | {"init_conv.weight": torch.zeros(4, 6, 3, 3)}, r"\(4, 6, 7, 7\)"),
    "channels": (UNET | {"init_conv.weight": torch.zeros(4, 5, 7, 7)}, "has 5 input channels"),
    "flat": (UNET | {"init_conv.weight": torch.zeros(4)}, "no convolution 'init_conv.weight'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unknown_networks_are_refused_with_the_reason(name):
    state, message = REFUSED[name]
    with pytest.raises(CheckpointError, match=rf"^a\.pth: .*{message}"):
        detect_network(state, "a.pth")


def test_a_network_is_no_latent_unet():
    with pytest.raises(CheckpointError, match=r"is a ConditionalUNet.*give it as --net"):
        detect_latent_unet(UNET, "a.pth")
    state = state_of(LatentUNet, ch=4, ch_mult=[1, 2])
    for name in ("encoder.0.3.weight", "encoder.1.0.block1.proj.weight"):
        state[name] = torch.zeros(6, 4, 4, 4)
    with pytest.raises(CheckpointError, match=r"levels have \[6, 8\] channels"):
        detect_latent_unet(state, "a.pth")
