"""Blind restoration: degradations of unknown kind and strength, several in a row.

Pipelines and parameters of CodeFormer (Zhou et al., NeurIPS 2022), first order, and of Real-ESRGAN
(Wang et al., ICCVW 2021), second order, as DiffBIR trains on them: the result is enlarged to the
size it had. JPEGs are libjpeg's with whole qualities, sizes are rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.randomness import bernoulli, categorical, randint, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.degradations.jpeg import Jpeg
from refusion.synthesis.degradations.mixed_blur import MixedBlur, SincFilter, check_odd
from refusion.synthesis.degradations.mixed_noise import MixedNoise
from refusion.synthesis.degradations.noise import LEVELS, GaussianNoise
from refusion.synthesis.scenes.frame import PhotoFrame

MODES = ("area", "bilinear", "bicubic")
_Size = tuple[int, int]


@dataclass(frozen=True)
class FirstOrder:
    """Blur, fewer pixels, noise, JPEG, back to size: CodeFormer's, and of DiffBIR's stage 1.

    Pairs are (low, high) of a uniform draw.

    Attributes:
        side: of the blur's kernel in pixels, odd.
        anisotropic_share: part of the samples whose blur has two widths and a direction.
        sigma: standard deviation of the blur in pixels.
        factor: how many times fewer rows and columns; bilinear.
        noise: standard deviation of the noise in 8-bit levels.
        quality: of the JPEG.

    Raises:
        ConfigError: a setting is out of its domain or a range is reversed.
    """

    side: int = 41
    anisotropic_share: float = 0.5
    sigma: tuple[float, float] = (0.1, 12.0)
    factor: tuple[float, float] = (1.0, 12.0)
    noise: tuple[float, float] = (0.0, 15.0)
    quality: tuple[int, int] = (30, 100)

    def __post_init__(self) -> None:
        """Check every setting."""
        pixels = {"side": (1, 201), "sigma": (0.01, 100.0), "factor": (1.0, 64.0)}
        check_settings(self, pixels | {"noise": (0.0, LEVELS), "quality": (1, 100)})
        check_odd("FirstOrder.side", (self.side, self.side))

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the degraded image (3, H, W), 8-bit levels."""
        forms = (1 - self.anisotropic_share, self.anisotropic_share, 0.0, 0.0, 0.0, 0.0)
        blur = MixedBlur((self.side,) * 2, forms, sinc_share=0.0, sigma=self.sigma)
        size = tuple(clean.shape[-2:])
        lq = blur(clean, generator, frame)["lq"]
        lq = resized(lq, scaled(size, 1 / uniform(generator, *self.factor)), "bilinear")
        lq = GaussianNoise(self.noise, clip=True)(lq, generator, frame)["lq"]
        lq = Jpeg(self.quality)(lq, generator, frame)["lq"]
        return {"lq": quantise(resized(lq, size, "bilinear"))}


@dataclass(frozen=True)
class SecondOrder:
    """Blur, resize, noise and JPEG twice, the second time with ringing: Real-ESRGAN's.

    Names with a 2 belong to the second pass. Pairs are (low, high) of a uniform draw, shares
    are probabilities; see `MixedBlur`, `SincFilter` and `MixedNoise` for theirs.

    Attributes:
        reduction: how many times fewer rows and columns the second pass ends with.
        form_weights: of the blur, both passes.
        sinc_share: of the blur, both passes.
        sigma: of the blur.
        sigma2: the same.
        blur_share2: part of the samples that are blurred a second time.
        generalised: of the blur, both passes.
        plateau: of the blur, both passes.
        resize_weights: how often the image is enlarged, shrunk and left as it is.
        resize: least and largest scale.
        resize2_weights: the same, of the size that `reduction` gives.
        resize2: the same.
        gaussian_share: of the noise, both passes.
        gray_share: of the noise, both passes.
        noise: standard deviation of Gaussian noise in 8-bit levels.
        noise2: the same.
        poisson: strength of Poisson noise.
        poisson2: the same.
        quality: of the JPEG, both passes.
        ringing_share: part of the samples filtered by a sinc at the end.

    Raises:
        ConfigError: a setting is out of its domain or a range is reversed.
    """

    reduction: tuple[float, float] = (4.0, 4.0)
    form_weights: tuple[float, float, float, float, float, float] = MixedBlur.form_weights
    sinc_share: float = 0.1
    sigma: tuple[float, float] = (0.2, 3.0)
    sigma2: tuple[float, float] = (0.2, 1.5)
    blur_share2: float = 0.8
    generalised: tuple[float, float] = (0.5, 4.0)
    plateau: tuple[float, float] = (1.0, 2.0)
    resize_weights: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize: tuple[float, float] = (0.15, 1.5)
    resize2_weights: tuple[float, float, float] = (0.3, 0.4, 0.3)
    resize2: tuple[float, float] = (0.3, 1.2)
    gaussian_share: float = 0.5
    gray_share: float = 0.4
    noise: tuple[float, float] = (1.0, 30.0)
    noise2: tuple[float, float] = (1.0, 25.0)
    poisson: tuple[float, float] = (0.05, 3.0)
    poisson2: tuple[float, float] = (0.05, 2.5)
    quality: tuple[int, int] = (30, 95)
    ringing_share: float = 0.8

    def __post_init__(self) -> None:
        """Check every setting; those of the parts are theirs to check."""
        domains = {"reduction": (1.0, 64.0), "quality": (1, 100)}
        domains |= dict.fromkeys(("resize", "resize2"), (0.01, 8.0))
        of_parts = ("sigma", "sigma2", "generalised", "plateau")
        of_parts += ("noise", "noise2", "poisson", "poisson2")
        check_settings(self, domains | dict.fromkeys(of_parts, (0.0, LEVELS)))
        for number in (0, 1):
            self._blur(number), self._noise(number)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the degraded image (3, H, W), 8-bit levels."""
        size = tuple(clean.shape[-2:])
        lq = self._blur(0)(clean, generator, frame)["lq"]
        scale = draw_scale(generator, self.resize_weights, self.resize)
        lq = resized(lq, scaled(size, scale), draw_mode(generator))
        lq = self._noise(0)(lq, generator, frame)["lq"]
        lq = Jpeg(self.quality)(lq, generator, frame)["lq"]

        lq = self._blur(1)(lq, generator, frame)["lq"]
        small = scaled(size, 1 / uniform(generator, *self.reduction))
        scale = draw_scale(generator, self.resize2_weights, self.resize2)
        lq = resized(lq, scaled(small, scale), draw_mode(generator))
        lq = self._noise(1)(lq, generator, frame)["lq"]
        lq = self._end(lq, small, generator, frame)
        return {"lq": quantise(resized(lq, size, "bicubic"))}

    def _end(self, lq: Tensor, size: _Size, generator: Generator, frame: PhotoFrame) -> Tensor:
        """JPEG, and ringing at the final size, in either order."""
        is_last = bernoulli(generator, 0.5)
        lq = lq if is_last else self._ringing(lq, size, generator, frame)
        lq = Jpeg(self.quality)(lq, generator, frame)["lq"]
        return self._ringing(lq, size, generator, frame) if is_last else lq

    def _ringing(self, lq: Tensor, size: _Size, generator: Generator, frame: PhotoFrame) -> Tensor:
        lq = resized(lq, size, draw_mode(generator))
        return SincFilter(share=self.ringing_share)(lq, generator, frame)["lq"]

    def _blur(self, number: int) -> MixedBlur:
        return MixedBlur(
            form_weights=self.form_weights,
            sinc_share=self.sinc_share,
            sigma=(self.sigma, self.sigma2)[number],
            generalised=self.generalised,
            plateau=self.plateau,
            share=(1.0, self.blur_share2)[number],
        )

    def _noise(self, number: int) -> MixedNoise:
        return MixedNoise(
            self.gaussian_share,
            (self.noise, self.noise2)[number],
            (self.poisson, self.poisson2)[number],
            self.gray_share,
        )


def draw_scale(
    generator: Generator, weights: tuple[float, float, float], ends: tuple[float, float]
) -> float:
    """How many times larger: from 1 to the high end, from the low end to 1, or 1, by `weights`."""
    low, high = ((1.0, ends[1]), (ends[0], 1.0), (1.0, 1.0))[categorical(generator, weights)]
    return uniform(generator, low, high)


def draw_mode(generator: Generator) -> str:
    """One of `MODES`."""
    return MODES[randint(generator, 0, len(MODES) - 1)]


def scaled(size: _Size, scale: float) -> _Size:
    """Height and width times `scale`, rounded down but not to nothing."""
    height, width = (max(1, int(side * scale)) for side in size)
    return height, width


def resized(image: Tensor, size: _Size, mode: str) -> Tensor:
    """Image (3, H, W) -> (3, *size) in [0, 1]; as published not filtered before, so it aliases."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image[None], size, mode=mode)[0].clamp(0, 1)
