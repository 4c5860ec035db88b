"""NAFNet (Chen et al., ECCV 2022): a regression, which maps a photo to the restored photo.

The attribute names are those of the published checkpoints. The defaults are those of the published
network for denoising (SIDD, width 32).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from refusion.arguments import check_arguments
from refusion.hints import Blocks, Bound, Channels, Levels, Pixels
from refusion.nets.layers import pad_to_multiple, reflect_border
from refusion.nets.nafnet_blocks import NAFBlock, NAFTrunk


class NAFNet(NAFTrunk):
    """Maps a degraded photo to the restored photo of the same size; the output is added to it.

    The initial weights of the last convolution are zero, so the untrained network returns the
    photo.

    Args:
        img_channel: channels of the photo.
        width: channels of the first level; each further level has twice as many.
        enc_blk_nums: blocks per level of the encoder.
        middle_blk_num: blocks at the coarsest level.
        dec_blk_nums: blocks per level of the decoder, coarsest first.
        pool_window: window of the channel attention in pixels of the photo, as large as the patches
            of the training; None averages the whole map.
        pixel_unshuffle: side k of the squares of pixels that become k^2 times as many channels
            before the first level, which takes most of the time; 1 in the published networks.
        border: reflected pixels around the photo, which are cut off the output, so that no zeros of
            the convolutions' padding affect the photo's own border; 0 in the published networks.

    Raises:
        ConfigError: different numbers of levels in encoder and decoder.
    """

    is_regression: ClassVar = True
    takes_float32: ClassVar = True

    def __init__(
        self,
        *,
        img_channel: Channels = 3,
        width: Channels = 32,
        enc_blk_nums: Levels = (2, 2, 4, 8),
        middle_blk_num: Blocks = 12,
        dec_blk_nums: Levels = (2, 2, 2, 2),
        pool_window: Pixels | None = None,
        pixel_unshuffle: Annotated[int, Bound(1, 64)] = 1,
        border: Annotated[int, Bound(0, 256)] = 0,
    ) -> None:
        check_arguments(NAFNet.__init__, locals())
        super().__init__()
        self.pixel_unshuffle, self.border = pixel_unshuffle, border
        self.factor = pixel_unshuffle * 2 ** len(enc_blk_nums)
        folded = img_channel * pixel_unshuffle**2
        self._build_trunk(
            (folded, folded),
            width,
            (enc_blk_nums, middle_blk_num, dec_blk_nums),
            lambda c: NAFBlock(c, None),
        )
        nn.init.zeros_(self.ending.weight)
        nn.init.zeros_(self.ending.bias)
        self.set_pool_window(pool_window)

    def forward(self, x: Tensor) -> Tensor:
        """Restore photos.

        Args:
            x: degraded photos (B, img_channel, H, W) in [0, 1], any H and W from 1.

        Returns:
            Restored photos, the same shape, not clamped.
        """
        height, width = x.shape[-2:]
        wide = pad_to_multiple(reflect_border(x, self.border), self.factor, "constant")
        change = self._trunk(pixel_unshuffle(wide, self.pixel_unshuffle))
        change = pixel_shuffle(change, self.pixel_unshuffle)
        top = left = self.border
        return x + change[..., top : top + height, left : left + width]
