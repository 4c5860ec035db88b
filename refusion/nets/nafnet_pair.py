"""Two NAFNets of the same shape that look at the same photo.

Not in the published networks. Each network is trained alone; the prediction decides how their
outputs are joined, as `refusion.sde.haze_choice` does for haze.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from refusion.arguments import check_arguments
from refusion.hints import Blocks, Bound, Channels, Length, Levels
from refusion.nets.nafnet import ConditionalNAFNet


class NAFNetPair(nn.Module):
    """Two `ConditionalNAFNet` that see the photo only, side by side.

    `refusion.checkpoint.pair.join_pair` makes one of two trained networks.

    Args:
        width: channels of the first level, for this and the following see `ConditionalNAFNet`.
        enc_blk_nums: blocks per level of the encoder.
        middle_blk_num: blocks at the coarsest level.
        dec_blk_nums: blocks per level of the decoder, coarsest first.
        pixel_unshuffle: side of the squares of pixels that become channels.
        dark_windows: sides of the windows of dark channels.
        out_channel: channels of the output of each network; None for 3.
        border: reflected pixels around the photo.

    Attributes:
        networks: both networks.

    Raises:
        ConfigError: see `ConditionalNAFNet`.
    """

    sees_state = False

    def __init__(
        self,
        *,
        width: Channels = 64,
        enc_blk_nums: Levels = (1, 1, 1, 28),
        middle_blk_num: Blocks = 1,
        dec_blk_nums: Levels = (1, 1, 1, 1),
        pixel_unshuffle: Annotated[int, Bound(1, 64)] = 1,
        dark_windows: Annotated[Sequence[int], Bound(1, 1023), Length(0, 8)] = (),
        out_channel: Channels | None = None,
        border: Annotated[int, Bound(0, 256)] = 0,
    ) -> None:
        check_arguments(NAFNetPair.__init__, locals())
        super().__init__()
        settings = {
            "width": width,
            "enc_blk_nums": enc_blk_nums,
            "middle_blk_num": middle_blk_num,
            "dec_blk_nums": dec_blk_nums,
            "pixel_unshuffle": pixel_unshuffle,
            "dark_windows": dark_windows,
            "out_channel": out_channel,
            "border": border,
        }
        self.networks = nn.ModuleList(
            ConditionalNAFNet(**settings, sees_state=False) for _ in range(2)
        )
        self.factor = self.networks[0].factor

    @property
    def channels_at_once(self) -> int:
        """See `NAFTrunk.channels_at_once`; the networks run one after the other."""
        return self.networks[0].channels_at_once

    def forward(self, xt: Tensor, mu: Tensor, t: Tensor | int | float) -> Tensor:
        """The outputs of both networks, one after the other on the channels.

        Args:
            xt: no effect, (B, 3, H, W).
            mu: photo, (B, 3, H, W), any H and W from 1.
            t: no effect.

        Returns:
            (B, 2 * out_channel, H, W).
        """
        return torch.cat([network(xt, mu, t) for network in self.networks], dim=1)
