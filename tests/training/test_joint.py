"""The joint stage trains both networks on what the restorer makes of a photo."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import mse_loss
from training_cases import TRAIN, make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.config import config_from_dict, config_to_dict
from refusion.config.parser import Component
from refusion.errors import ConfigError
from refusion.nets import NETS, ConditionalNAFNet
from refusion.restorers import Conditions, load_restorer
from refusion.sde import SeededNoise
from refusion.training import Trainer
from refusion.training.stages import joint
from refusion.training.stages.diffusion import NoisySample
from refusion.training.stages.joint import SCALE, JointStage

CPU = torch.device("cpu")
NETWORK = {
    "type": "ConditionalNAFNet",
    "img_channel": 4,
    "width": 8,
    "enc_blk_nums": [1],
    "dec_blk_nums": [1],
    "wiring": "latent",
}


@pytest.fixture
def trained(tmp_path):
    """A U-Net and a network in its latent, each trained for a few steps."""
    places = make_photos(tmp_path / "photos"), tmp_path / "cache"
    unet = Trainer(run_config("latent_unet", *places), device=CPU, runs=tmp_path)
    unet.train()
    latent = {"latent_unet": {"checkpoint": str(unet.model_file)}, "network": NETWORK}
    trainer = Trainer(run_config("diffusion", *places, **latent), device=CPU, runs=tmp_path)
    trainer.train()
    return places, trainer


def joint_config(trained, **changes):
    places, trainer = trained
    start = str(trainer.model_file)
    changes = {"objective": None, "latent_unet": {"checkpoint": start}, "init": start} | changes
    return run_config("joint", *places, network=NETWORK, **changes)


def test_both_networks_are_told_the_guide(tmp_path):
    """The whole of the three stages on rendered lenses; what is restored hangs on the guide."""
    photos, cache = make_photos(tmp_path / "photos"), tmp_path / "cache"

    def config(stage, **changes):
        plain = config_to_dict(run_config(stage, photos, cache, **changes))
        plain["data"]["train"]["degradation"] = {"type": "Bokeh"}
        plain["data"]["validation"][0]["degradation"] = {"type": "Bokeh"}
        return plain | {"task": "bokeh"}

    def trained(plain):
        trainer = Trainer(config_from_dict(plain), device=CPU, runs=tmp_path)
        trainer.train()
        return trainer

    component = {"type": "LatentUNet", "ch": 4, "ch_mult": [1, 2], "embed_dim": 4, "in_ch": 5}
    file = trained(config("latent_unet") | {"latent_unet": component}).model_file
    network = NETWORK | {"lens": True, "guide": 2}
    latent = {"latent_unet": {"checkpoint": str(file)}, "network": network}
    plain = config("diffusion", **latent)
    plain["data"] |= {"cached_latents": 4}
    file = trained(plain).model_file
    latent["latent_unet"] = {"checkpoint": str(file)}
    trainer = trained(config("joint", objective=None, init=str(file), **latent))
    item = trainer.validation["whole"][0]
    restorer = load_restorer(trainer.model_file, precision="fp32")
    assert restorer.info.needs == {"lens", "guide"}
    conditions = [
        Conditions(item["lens"], guide=guide) for guide in (item["guide"], 1 - item["guide"])
    ]
    first, second = (restorer.restore(item["lq"][None], conditions=each) for each in conditions)
    assert not torch.equal(first, second)


def test_loss_is_that_of_the_picture_the_restorer_makes(trained, tmp_path, monkeypatch):
    stage = JointStage(joint_config(trained), CPU)
    stage.network.load_state_dict(
        {
            name.removeprefix("network."): tensor
            for name, tensor in read_checkpoint(trained[1].model_file).tensors.items()
            if name.startswith("network.")
        }
    )
    generator = torch.Generator().manual_seed(2)
    lq, gt = torch.rand(2, 1, 3, 22, 26, generator=generator).unbind()

    def at_the_end(pair, _):
        """Where the restorer starts from, with its noise."""
        mu, t = pair["mu"], torch.tensor([stage.sde.T])
        noise = SeededNoise(0).initial(mu)
        xt = stage.sde.initial_state(mu, noise)
        return NoisySample(xt, noise, t, stage.network(xt, mu, t))

    monkeypatch.setattr(stage, "sample_and_predict", at_the_end)
    restorer = load_restorer(trained[1].model_file, device="cpu", precision="fp32")
    decoded = []
    monkeypatch.setattr(
        joint, "mse_loss", lambda made, gt: decoded.append(made) or mse_loss(made, gt)
    )
    terms = stage.loss({"lq": lq, "gt": gt}, [])
    restored = restorer.restore(lq, steps=1, tile=None)
    torch.testing.assert_close(decoded[0].clamp(0, 1), restored, rtol=0, atol=1e-5)
    torch.testing.assert_close(terms["total"], SCALE * mse_loss(decoded[0], gt))
    terms["total"].backward()
    assert all(p.grad is not None for p in stage.module.parameters())


def test_starts_from_both_networks_and_trains_both(trained, tmp_path):
    start = read_checkpoint(trained[1].model_file).tensors
    still = {"optimizer": {"type": "Lion", "lr": 1e-9}, "lr_schedule": {"type": "constant"}}
    one = {"train": TRAIN | {"steps": 1} | still}
    still = Trainer(joint_config(trained, **one), device=CPU, runs=tmp_path / "still")
    still.train()
    for name, tensor in read_checkpoint(still.model_file).tensors.items():
        torch.testing.assert_close(tensor, start[name], rtol=0, atol=1e-6)
    moved = Trainer(joint_config(trained), device=CPU, runs=tmp_path / "moved")
    moved.train()
    tensors = read_checkpoint(moved.model_file).tensors
    assert set(tensors) == set(start)
    for part in ("network.intro.weight", "latent_unet.init_conv.weight"):
        assert not torch.equal(tensors[part], start[part])


OTHER_NETS = {
    "ConditionalNAFNet": NETWORK,
    "ConditionalUNet": {"in_nc": 4, "out_nc": 4, "nf": 4, "depth": 2},
}
UNSUITED = {
    "NAFNet": {"width": 4, "enc_blk_nums": [1], "dec_blk_nums": [1]},
    "LatentUNet": {"ch": 4, "ch_mult": [1, 2], "embed_dim": 4},
    "NAFNetPair": {"width": 4, "enc_blk_nums": [1], "dec_blk_nums": [1]},
    "UnconditionalUNet": {"model_channels": 8, "channel_mult": [1], "head_channels": 8},
    "SwinIR": {"embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4, "img_size": 8},
}


def test_every_network_is_trained_jointly_or_refused(trained, tmp_path):
    assert set(OTHER_NETS) | set(UNSUITED) == set(NETS)
    once = {"init": None, "train": TRAIN | {"steps": 1}}
    for name, settings in OTHER_NETS.items():
        config = replace(joint_config(trained, **once), network=Component(name, _own(settings)))
        trainer = Trainer(config, device=CPU, runs=tmp_path / name)
        trainer.train()
        restorer = load_restorer(trainer.model_file, device="cpu", precision="fp32")
        assert restorer.restore(torch.rand(1, 3, 9, 12)).isfinite().all()
    for name, settings in UNSUITED.items():
        with pytest.raises(ConfigError, match=rf"network.type: ({name} needs|.*takes no {name})"):
            Trainer(
                replace(joint_config(trained, **once), network=Component(name, settings)),
                device=CPU,
                runs=tmp_path / name,
            )


def _own(settings):
    return {key: value for key, value in settings.items() if key != "type"}


def test_a_network_that_does_not_name_its_last_layer_is_refused(trained, monkeypatch):
    monkeypatch.setattr(ConditionalNAFNet, "last", None)
    with pytest.raises(ConfigError, match="ConditionalNAFNet to zero, so the class needs an"):
        JointStage(joint_config(trained, init=None), CPU)


def test_an_untrained_network_begins_at_the_degraded_photo(trained):
    stage = JointStage(joint_config(trained, init=None), CPU)
    lq = torch.rand(1, 3, 16, 16)
    mu = stage.latent_unet.encode(lq).z
    assert torch.equal(stage.network(mu + 0.2, mu, 100), torch.zeros_like(mu))
