"""Degradation sequences for blind restoration, with random types and strengths.

The first-order sequence and its parameters are those of CodeFormer (Zhou et al., NeurIPS 2022), the
second-order sequence is that of Real-ESRGAN (Wang et al., ICCVW 2021), both as used to train
DiffBIR: the result is enlarged to the original size. JPEG compression uses libjpeg with whole
qualities; sizes are rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.randomness import bernoulli, categorical, randint, uniform
from refusion.synthesis.camera import quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.degradations.jpeg import Jpeg
from refusion.synthesis.degradations.mixed_blur import MixedBlur, SincFilter, check_odd
from refusion.synthesis.degradations.mixed_noise import MixedNoise
from refusion.synthesis.degradations.noise import LEVELS, GaussianNoise
from refusion.synthesis.resizing import resize
from refusion.synthesis.scenes.frame import PhotoFrame

NARROW = 0.01  # pixels: standard deviation of a blur that changes nothing
MODES = ("area", "bilinear", "bicubic")
_Size = tuple[int, int]


@dataclass(frozen=True)
class FirstOrder:
    """Blur, downsampling, noise, JPEG, enlarging: from CodeFormer, and for stage 1 of DiffBIR.

    A pair (low, high) is the range of a uniform draw.

    Attributes:
        side: side of the blur kernel in pixels, odd.
        anisotropic_share: share of the samples with an elliptical blur kernel.
        sigma: standard deviation of the blur in pixels.
        factor: factor of the bilinear downsampling, >= 1.
        noise: standard deviation of the noise in 8-bit levels.
        quality: JPEG quality, 1..100.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
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
        size = tuple(clean.shape[-2:])
        lq = self._blur(clean, generator, frame)["lq"]
        lq = resized(lq, scaled(size, 1 / uniform(generator, *self.factor)), "bilinear")
        lq = GaussianNoise(self.noise, clip=True)(lq, generator, frame)["lq"]
        lq = Jpeg(self.quality)(lq, generator, frame)["lq"]
        return {"lq": quantise(resized(lq, size, "bilinear"))}

    @cached_property
    def _blur(self) -> MixedBlur:
        forms = (1 - self.anisotropic_share, self.anisotropic_share, 0.0, 0.0, 0.0, 0.0)
        return MixedBlur((self.side,) * 2, forms, sinc_share=0.0, sigma=self.sigma)


@dataclass(frozen=True)
class SecondOrder:
    """Blur, resizing, noise and JPEG in two passes, then ringing, as in Real-ESRGAN.

    Settings whose name ends in 2 are for the second pass. A pair (low, high) is the range of a
    uniform draw; a share is a probability.

    Attributes:
        reduction: ratio of the sides of the input and of the image after the second pass, >= 1.
        form_weights: relative frequencies of kernel types, both passes; see `MixedBlur`.
        sinc_share: share of the blurs that are sinc filters, both passes.
        sigma: standard deviation of the blur in pixels, first pass.
        sigma2: standard deviation of the blur in pixels, second pass.
        blur_share2: share of the samples that are blurred in the second pass.
        generalised: exponent of generalised Gaussians, both passes; see `MixedBlur`.
        plateau: exponent of plateau kernels, both passes; see `MixedBlur`.
        resize_weights: relative frequencies of enlarging, shrinking and no resizing, first pass.
        resize: smallest and largest scale of the first pass, relative to the input.
        resize2_weights: relative frequencies as `resize_weights`, second pass.
        resize2: smallest and largest scale, relative to the size that `reduction` gives.
        gaussian_share: share of Gaussian instead of Poisson noise, both passes.
        gray_share: share of noise that is equal in all channels, both passes.
        noise: standard deviation of Gaussian noise in 8-bit levels, first pass.
        noise2: standard deviation of Gaussian noise in 8-bit levels, second pass.
        poisson: strength of Poisson noise, first pass; see `MixedNoise`.
        poisson2: strength of Poisson noise, second pass.
        quality: JPEG quality, both passes.
        ringing_share: share of the samples that are filtered by a sinc at the end.
        clean_share: share of the samples that stay clean, so that a network learns to leave good
            photos as they are.
        mild_share: share of the samples with weaker settings; their strength is uniform in [0, 1],
            see `weakened`.

    Raises:
        ConfigError: a setting is out of its domain, a range is not ascending, or the shares of
            clean and mild samples exceed 1 together.
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
    clean_share: float = 0.0
    mild_share: float = 0.0

    def __post_init__(self) -> None:
        """Check every setting; `MixedBlur` and `MixedNoise` check theirs."""
        domains = {"reduction": (1.0, 64.0), "quality": (1, 100)}
        domains |= dict.fromkeys(("resize", "resize2"), (0.01, 8.0))
        of_parts = ("sigma", "sigma2", "generalised", "plateau")
        of_parts += ("noise", "noise2", "poisson", "poisson2")
        check_settings(self, domains | dict.fromkeys(of_parts, (0.0, LEVELS)))
        if self.clean_share + self.mild_share > 1:
            raise ConfigError(
                "SecondOrder.clean_share and mild_share: expected at most 1 together, got "
                f"{self.clean_share} and {self.mild_share}"
            )
        _ = self._blurs, self._noises

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the degraded image (3, H, W), 8-bit levels."""
        shares = self.clean_share, self.mild_share, 1 - self.clean_share - self.mild_share
        kind = 2 if shares[2] == 1 else categorical(generator, shares)
        if kind == 0:
            return {"lq": quantise(clean)}
        part = self if kind == 2 else self.weakened(uniform(generator, 0.0, 1.0))
        return part._degrade(clean, generator, frame)

    def weakened(self, strength: float) -> SecondOrder:
        """The same pipeline with weaker settings.

        Blur, noise and the distance of the scales from 1 and of the quality from 100 are multiplied
        by the strength, and so are the shares of sinc filters and of ringing.

        Args:
            strength: 0 for almost no change, 1 for the settings as they are.
        """

        def times(name: str, origin: float = 0.0) -> tuple[float, float]:
            kept = origin * (1 - strength)
            low, high = (kept + end * strength for end in getattr(self, name))
            return low, high

        low, high = (round(end) for end in times("quality", 100))
        return replace(
            self,
            **{name: times(name) for name in ("noise", "noise2", "poisson", "poisson2")},
            **{name: times(name, 1.0) for name in ("reduction", "resize", "resize2")},
            **{name: times(name, NARROW) for name in ("sigma", "sigma2")},
            quality=(low, high),
            sinc_share=self.sinc_share * strength,
            ringing_share=self.ringing_share * strength,
            clean_share=0.0,
            mild_share=0.0,
        )

    def _degrade(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        size = tuple(clean.shape[-2:])
        lq = self._blurs[0](clean, generator, frame)["lq"]
        scale = draw_scale(generator, self.resize_weights, self.resize)
        lq = resized(lq, scaled(size, scale), draw_mode(generator))
        lq = self._noises[0](lq, generator, frame)["lq"]
        lq = Jpeg(self.quality)(lq, generator, frame)["lq"]

        lq = self._blurs[1](lq, generator, frame)["lq"]
        small = scaled(size, 1 / uniform(generator, *self.reduction))
        scale = draw_scale(generator, self.resize2_weights, self.resize2)
        lq = resized(lq, scaled(small, scale), draw_mode(generator))
        lq = self._noises[1](lq, generator, frame)["lq"]
        lq = self._compress_and_filter(lq, small, generator, frame)
        return {"lq": quantise(resized(lq, size, "bicubic"))}

    def _compress_and_filter(
        self, lq: Tensor, size: _Size, generator: Generator, frame: PhotoFrame
    ) -> Tensor:
        """JPEG and sinc filter at the final size, in random order."""
        is_last = bernoulli(generator, 0.5)
        lq = lq if is_last else self._sinc_filter(lq, size, generator, frame)
        lq = Jpeg(self.quality)(lq, generator, frame)["lq"]
        return self._sinc_filter(lq, size, generator, frame) if is_last else lq

    def _sinc_filter(
        self, lq: Tensor, size: _Size, generator: Generator, frame: PhotoFrame
    ) -> Tensor:
        """Resize to `size` and apply the sinc filter."""
        lq = resized(lq, size, draw_mode(generator))
        return SincFilter(share=self.ringing_share)(lq, generator, frame)["lq"]

    @cached_property
    def _blurs(self) -> tuple[MixedBlur, MixedBlur]:
        """Blur of the first and of the second pass."""
        settings = {
            "form_weights": self.form_weights,
            "sinc_share": self.sinc_share,
            "generalised": self.generalised,
            "plateau": self.plateau,
        }
        second = MixedBlur(**settings, sigma=self.sigma2, share=self.blur_share2)
        return MixedBlur(**settings, sigma=self.sigma), second

    @cached_property
    def _noises(self) -> tuple[MixedNoise, MixedNoise]:
        """Noise of the first and of the second pass."""
        shares = self.gaussian_share, self.gray_share
        return (
            MixedNoise(shares[0], self.noise, self.poisson, shares[1]),
            MixedNoise(shares[0], self.noise2, self.poisson2, shares[1]),
        )


def draw_scale(
    generator: Generator, weights: tuple[float, float, float], ends: tuple[float, float]
) -> float:
    """Draw a scale: in [1, high], in [low, 1], or 1.

    Args:
        generator: source of randomness.
        weights: relative frequencies of the three cases.
        ends: (low, high), smallest and largest scale.
    """
    low, high = ((1.0, ends[1]), (ends[0], 1.0), (1.0, 1.0))[categorical(generator, weights)]
    return uniform(generator, low, high)


def draw_mode(generator: Generator) -> str:
    """Random interpolation mode of `MODES`, with equal probabilities."""
    return MODES[randint(generator, 0, len(MODES) - 1)]


def scaled(size: _Size, scale: float) -> _Size:
    """Height and width times `scale`, rounded down, at least 1."""
    height, width = (max(1, int(side * scale)) for side in size)
    return height, width


def resized(image: Tensor, size: _Size, mode: str) -> Tensor:
    """Resize an image (3, H, W) to (3, *size), clamped to [0, 1].

    There is no antialiasing filter, as in the published code.

    Args:
        image: (3, H, W) in [0, 1].
        size: (height, width) of the result.
        mode: interpolation mode of `MODES`.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    return resize(image, size, mode).clamp_(0, 1)
