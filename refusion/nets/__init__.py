"""Networks: `torch` modules, named in YAML by their class names.

The package imports PyTorch, `arguments`, `errors` and `hints` only. Import networks from here and
their parts from the modules (`layers`, `levels`, `stereo`, `bokeh`). A new network is one file and
one entry in `NETS`. Its constructor's keyword arguments are its settings, and it checks them by
`check_arguments`. These class attributes say how it is used:

- `factor`: positions and sides of tiles are multiples of it; 1 for no restriction.
- `is_regression`: True for a network whose only input is the photo.
- `takes_float32`: True for a regression that gets the photo in float32 also where its weights are
  narrower, so that a photo to which the output is added is not rounded.
- `restorer`: key of `refusion.restorers.RESTORERS`, if it differs from the default of its kind.
"""

from __future__ import annotations

from torch import nn

from refusion.nets.adm import UnconditionalUNet
from refusion.nets.latent_unet import Latent, LatentUNet
from refusion.nets.nafnet import ConditionalNAFNet
from refusion.nets.nafnet_pair import NAFNetPair
from refusion.nets.plain_nafnet import NAFNet
from refusion.nets.swinir import SwinIR
from refusion.nets.unet import ConditionalUNet

NETS: dict[str, type[nn.Module]] = {
    net.__name__: net
    for net in (
        ConditionalNAFNet,
        ConditionalUNet,
        LatentUNet,
        NAFNet,
        NAFNetPair,
        SwinIR,
        UnconditionalUNet,
    )
}

__all__ = [
    "NETS",
    "ConditionalNAFNet",
    "ConditionalUNet",
    "Latent",
    "LatentUNet",
    "NAFNet",
    "NAFNetPair",
    "SwinIR",
    "UnconditionalUNet",
]
