"""Every published variant of every network in small: what the tables of the tests run over."""

from dataclasses import dataclass, field

import torch

from refusion.nets import (
    ConditionalNAFNet,
    ConditionalUNet,
    LatentUNet,
    NAFNet,
    NAFNetPair,
    SwinIR,
    UnconditionalUNet,
)

NAFNET = {"width": 4, "enc_blk_nums": [1, 2], "middle_blk_num": 1, "dec_blk_nums": [1, 1]}
SWINIR = {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4, "img_size": 8}
# A single level, so that the quarter-size attention of small test images is wider than a pixel.
STEREO = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


@dataclass(frozen=True)
class Case:
    """A network in small, and how to call it.

    Attributes:
        net: the class.
        settings: of its constructor.
        channels: of the image (LatentUNet) or of xt and mu.
    """

    net: type[torch.nn.Module]
    settings: dict = field(default_factory=dict)
    channels: int = 3

    @property
    def is_timed(self):
        """Whether the network is told a time, and mu beside xt."""
        return self.net not in (LatentUNet, NAFNet, NAFNetPair, SwinIR)

    def build(self, seed=0):
        """The network in eval mode; all parameters are perturbed, as beta and gamma start at 0."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = self.net(**self.settings).eval()
            with torch.no_grad():
                for parameter in net.parameters():
                    change = torch.randn_like(parameter)
                    parameter.add_(0.2 * parameter * change if parameter.any() else 0.5 * change)
        return net

    def inputs(self, batch, height, width, seed=0):
        """Arguments of `run`: images in [0, 1], one time and one lens pair per batch element."""
        generator = torch.Generator().manual_seed(seed)
        image = (batch, self.channels, height, width)
        if not self.is_timed:
            return {"x": torch.rand(image, generator=generator)}
        inputs = {
            "xt": torch.rand(image, generator=generator),
            "mu": torch.rand(image, generator=generator),
            "t": torch.randint(1, 101, (batch,), generator=generator),
        }
        if self.settings.get("lens"):
            inputs["lens"] = 100 * torch.rand((batch, 3), generator=generator)
        return inputs

    def run(self, net, inputs):
        """The network's output, of the images' shape."""
        if self.net is LatentUNet:
            latent = net.encode(**inputs)
            return net.decode(latent.z, latent.skips, latent.size)
        if self.net is NAFNetPair:  # the mean of both outputs
            return sum(net(inputs["x"], inputs["x"], 0).chunk(2, dim=1)) / 2
        return net(**inputs)


CASES = {
    "pixel": Case(ConditionalNAFNet, NAFNET),
    "latent": Case(ConditionalNAFNet, {**NAFNET, "img_channel": 8, "wiring": "latent"}, channels=8),
    "bokeh": Case(ConditionalNAFNet, {**NAFNET, "img_channel": 4, "lens": True}, channels=4),
    "stereo": Case(ConditionalNAFNet, {**STEREO, "stereo": True}, channels=6),
    "folded": Case(ConditionalNAFNet, {**NAFNET, "pixel_unshuffle": 2}),
    "local": Case(ConditionalNAFNet, {**NAFNET, "pool_window": 12}),
    "denoise": Case(ConditionalNAFNet, {**NAFNET, "conditional": False}),
    "nafnet": Case(NAFNet, NAFNET),
    "nafnet_folded": Case(NAFNet, {**NAFNET, "pixel_unshuffle": 2, "border": 4, "pool_window": 12}),
    "nafnet_pair": Case(NAFNetPair, {**NAFNET, "pixel_unshuffle": 2, "border": 4}),
    "unet": Case(ConditionalUNet, {"nf": 4, "depth": 3}),
    "unet_denoise": Case(
        ConditionalUNet, {"nf": 4, "depth": 3, "conditional": False, "mid_attention": "softmax"}
    ),
    "prior": Case(
        UnconditionalUNet,
        {
            "model_channels": 8,
            "channel_mult": [1, 2],
            "num_res_blocks": 1,
            "attention_resolutions": [2],
            "head_channels": 4,
            "groups": 4,
        },
    ),
    "swinir": Case(SwinIR, {**SWINIR, "unshuffle": 2, "num_feat": 6}),
    "swinir_residual": Case(
        SwinIR, {**SWINIR, "unshuffle": 4, "upsampler": "pixelshuffledirect", "residual": True}
    ),
    "latent_unet": Case(LatentUNet, {"ch": 4, "ch_mult": [2, 2, 4], "embed_dim": 3}),
}
