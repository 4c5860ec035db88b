"""Time-conditioned NAFNet, the noise network of Refusion (CVPRW 2023, section 3.2).

The attribute names are those of the published checkpoints. There are two published graphs whose
weights have the same shapes; the argument ``wiring`` selects one. In ``latent`` the output of the
first convolution is also a skip connection, which is added before the last convolution. ``pixel``
has no such skip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from refusion.arguments import check_arguments
from refusion.errors import ConfigError
from refusion.hints import Blocks, Bound, Channels, Length, Levels, Pixels
from refusion.nets.dark_channel import dark_channel
from refusion.nets.layers import (
    SimpleGate,
    SinusoidalEmbedding,
    as_times,
    pad_to_multiple,
    reflect_border,
)
from refusion.nets.nafnet_blocks import NAFBlock, NAFTrunk
from refusion.nets.stereo import join_views, split_views


def embedding_mlp(dim_in: int, time_dim: int) -> nn.Sequential:
    """Two linear layers: sinusoidal features (B, dim_in) -> embedding (B, time_dim)."""
    return nn.Sequential(
        nn.Linear(dim_in, time_dim * 2), SimpleGate(), nn.Linear(time_dim, time_dim)
    )


class ConditionalNAFNet(NAFTrunk):
    """Predicts the noise in ``xt`` given the degraded image ``mu`` and the time index.

    Args:
        img_channel: channels of ``xt`` (3 for images, ``embed_dim`` of the U-Net for latents).
        width: channels of the first level; each further level has twice as many.
        enc_blk_nums: blocks per level of the encoder (paper: [1, 1, 1, 28]).
        middle_blk_num: blocks at the coarsest level.
        dec_blk_nums: blocks per level of the decoder, coarsest first.
        wiring: ``pixel`` or ``latent``, see the module's docstring.
        lens: add a condition on lenses and disparity (bokeh).
        stereo: ``xt`` and ``mu`` contain the left and the right view, stacked on channels.
        pool_window: window of the channel attention in input pixels; None averages the whole map.
        conditional: False for a network that receives only ``xt`` and ignores ``mu``, as the
            published networks for Gaussian noise do, where the state is the degraded image itself.
        sees_state: False for a network that receives only ``mu`` and ignores ``xt`` and ``t``. Its
            output is the same in every step. Not in the published networks.
        guide: channels of the guide, a condition per pixel in addition to ``xt`` and ``mu``; 0 for
            no guide. Not in the published networks.
        pixel_unshuffle: side k of the squares of pixels that become k^2 times as many channels
            before the first level, which takes most of the time; 1 in the published networks.
        dark_windows: sides in pixels, odd, of the windows of dark channels. The dark channels of
            ``mu`` are additional inputs, for haze; only for RGB without stereo. Not in the
            published networks.
        out_channel: channels of the output; None for those of ``xt``, as in the published networks.
        border: reflected pixels around the inputs, which are cut off the output, so that no zeros
            of the convolutions' padding affect the photo's own border. The published networks have
            none.

    Raises:
        ConfigError: unknown wiring; different numbers of levels in encoder and decoder; stereo
            together with a guide; ``pixel_unshuffle`` below 1; dark windows that are even, or not
            for RGB.
    """

    RENAMED_KEYS: ClassVar = {"fold": "pixel_unshuffle"}

    def __init__(
        self,
        *,
        img_channel: Channels = 3,
        width: Channels = 64,
        enc_blk_nums: Levels = (1, 1, 1, 28),
        middle_blk_num: Blocks = 1,
        dec_blk_nums: Levels = (1, 1, 1, 1),
        wiring: str = "pixel",
        lens: bool = False,
        stereo: bool = False,
        pool_window: Pixels | None = None,
        conditional: bool = True,
        guide: Annotated[int, Bound(0, 64)] = 0,
        pixel_unshuffle: Annotated[int, Bound(1, 64)] = 1,
        dark_windows: Annotated[Sequence[int], Bound(1, 1023), Length(0, 8)] = (),
        out_channel: Channels | None = None,
        border: Annotated[int, Bound(0, 256)] = 0,
        sees_state: bool = True,
    ) -> None:
        check_arguments(ConditionalNAFNet.__init__, locals())
        super().__init__()
        if wiring not in ("pixel", "latent"):
            raise ConfigError(f"wiring: expected 'pixel' or 'latent', got {wiring!r}")
        _check_dark_windows(dark_windows, 0 if stereo else img_channel)
        _check_inputs(guide, pixel_unshuffle, stereo=stereo)
        seen = (sees_state, conditional)  # the state, mu
        if not any(seen):
            raise ConfigError("sees_state: expected true with conditional: false, got no input")
        self.wiring, self.stereo, self.seen = wiring, stereo, seen
        self.dark_windows, self.border = tuple(dark_windows), border
        self.pixel_unshuffle = pixel_unshuffle
        self.factor = pixel_unshuffle * 2 ** len(enc_blk_nums)
        time_dim = width * 4
        self._build_embeddings(width, time_dim, lens=lens)

        inputs = img_channel * sum(seen) + guide + len(dark_windows)
        outputs = img_channel if out_channel is None else out_channel
        self._build_trunk(
            (inputs * pixel_unshuffle**2, outputs * pixel_unshuffle**2),
            width,
            (enc_blk_nums, middle_blk_num, dec_blk_nums),
            lambda c: NAFBlock(c, time_dim, lens=lens, stereo=stereo),
        )
        self.set_pool_window(pool_window)

    @property
    def sees_state(self) -> bool:
        """Whether the output depends on the state ``xt`` and the time ``t``."""
        return self.seen[0]

    def _build_embeddings(self, width: int, time_dim: int, *, lens: bool) -> None:
        embed, mlp = SinusoidalEmbedding(width), embedding_mlp(width, time_dim)
        # Published bokeh weights number the layers of time_mlp from 0, all others from 1.
        self.time_emb = embed if lens else None
        self.time_mlp = mlp if lens else nn.Sequential(embed, *mlp)
        self.cam_mlp = embedding_mlp(width * 3, time_dim) if lens else None

    def forward(
        self,
        xt: Tensor,
        mu: Tensor,
        t: Tensor | int | float,
        lens: Tensor | None = None,
        guide: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise (or another quantity, as stored in the checkpoint).

        Args:
            xt: state (B, img_channel, H, W), any H and W from 1; twice the channels for stereo.
            mu: degraded image or latent, the same shape; ignored unless ``conditional``.
            t: time index, one number or (B,); no effect unless ``sees_state``, as ``xt``.
            lens: source lens, target lens and disparity, (B, 3); only with ``lens=True``.
            guide: condition per pixel, (B, guide, H, W) in [0, 1]; only with ``guide`` above 0.

        Returns:
            The shape of ``xt``, or (B, out_channel, H, W).
        """
        h, w = xt.shape[-2:]
        t = as_times(t, xt.shape[0], xt.device)
        if self.stereo:
            xt, mu, t = join_views(xt), join_views(mu), t.repeat(2)
        sees_state, sees_mu = self.seen
        t = t if sees_state else torch.zeros_like(t)
        inputs = [xt - mu if sees_mu else xt] if sees_state else []
        inputs += [mu] if sees_mu else []
        inputs += [] if guide is None else [guide]
        inputs += [dark_channel(mu, window) for window in self.dark_windows]
        x = reflect_border(torch.cat(inputs, dim=1), self.border)
        x = pad_to_multiple(x, self.factor, "constant")
        camera = None
        if self.time_emb is not None:
            camera = self.cam_mlp(self.time_emb(lens.flatten()).reshape(lens.shape[0], -1))
            t = self.time_emb(t)
        x = self._trunk(pixel_unshuffle(x, self.pixel_unshuffle), self.time_mlp(t), camera)
        x = pixel_shuffle(x, self.pixel_unshuffle)
        x = x[..., self.border : self.border + h, self.border : self.border + w]
        return split_views(x) if self.stereo else x


def _check_inputs(guide: int, pixel_unshuffle: int, *, stereo: bool) -> None:
    if stereo and guide:
        raise ConfigError(f"guide: expected 0 with stereo, whose views have none, got {guide}")
    if pixel_unshuffle < 1:
        raise ConfigError(f"pixel_unshuffle: expected at least 1, got {pixel_unshuffle}")


def _check_dark_windows(windows: Sequence[int], channels: int) -> None:
    if windows and channels != 3:
        raise ConfigError("dark_windows: expected img_channel 3 (RGB) without stereo")
    if any(window < 1 or window % 2 == 0 for window in windows):
        raise ConfigError(f"dark_windows: expected odd numbers of pixels, got {list(windows)}")
