"""The interface of degradations: a clean image in, a degraded image out."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor

from refusion.synthesis.scenes.frame import PhotoFrame


class Degradation(Protocol):
    """Interface of a degradation: a frozen dataclass whose fields are its settings, as in YAML.

    If the sides of the image must be multiples of a number (downsampling), the class has an
    attribute `multiple` with that number.
    """

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """Degrade a crop or a whole photo; the result depends on the arguments only.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            generator: source of randomness; the same state gives the same result.
            frame: position of the crop in its photo, for effects that depend on the scene.

        Returns:
            "lq" (C, h, w) float32 in [0, 1]; "gt" (C, H, W) if the ground truth is not `clean`; for
            some degradations also "lens" (3,), "guide" (2, h, w) and "noise_std" (), which the
            datasets copy to their items.
        """
        ...


@runtime_checkable
class SceneDegradation(Degradation, Protocol):
    """A degradation in two stages, so that several crops of a photo share the first one.

    Calling it draws a scene and applies it, both with the same generator. Rain and masks are
    exceptions: a crop that shares a scene gets a random part, or a mirror image, of what was drawn.
    """

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> Any:
        """Draw what belongs to the whole photo.

        Args:
            thumbnail: (3, h, w) in [0, 1], the whole photo, upright, see `PhotoFrame`.
            generator: source of randomness.
        """
        ...

    def apply(
        self, clean: Tensor, scene: Any, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """Degrade one crop of the photo; what belongs to the picture, as noise, is drawn here.

        Args:
            clean: (3, H, W) float32 in [0, 1].
            scene: a result of `draw_scene`.
            generator: source of randomness.
            frame: position of the crop in the photo.

        Returns:
            As for calling the degradation.
        """
        ...


def draw_scene(
    degradation: Degradation, thumbnail: Tensor, generator: Generator
) -> tuple[Any] | None:
    """(the scene,) of a photo, which may be (None,); None if the degradation has no scenes."""
    if isinstance(degradation, SceneDegradation):
        return (degradation.draw_scene(thumbnail, generator),)
    return None


def degrade(
    degradation: Degradation,
    clean: Tensor,
    drawn: tuple[Any] | None,
    generator: Generator,
    frame: PhotoFrame,
) -> dict[str, Tensor]:
    """Degrade a crop with a result of `draw_scene`; with None, the degradation draws all itself."""
    if drawn is None:
        return degradation(clean, generator, frame)
    return degradation.apply(clean, drawn[0], generator, frame)
