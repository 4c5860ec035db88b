"""Laws of the synthetic rain."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from degradation_cases import assert_8_bit, colours, generator

from refusion.errors import ConfigError
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations import rain
from refusion.synthesis.degradations.rain import Rain, Streaks
from refusion.synthesis.scenes.frame import PhotoFrame

DRY = Rain(veil_share=0.0, noise_share=0.0, jpeg_share=0.0)
SIZE = (96, 128)
RECORDED = (0.40378, 0.15081)  # mean and deviation


def rained(settings: Rain, clean: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return settings(clean, generator(seed), PhotoFrame.whole(clean))["lq"]


def test_one_streak_has_its_height_width_and_length() -> None:
    """A density of one per area draws exactly one; its light is height x length x width."""
    streak = Streaks(1 / (200 + 60) ** 2, length=40.0, width=2.0, angle=0.0, spread=0.0)
    sizes = []
    for seed in range(40):
        drawn = streak.draw((200, 200), generator(seed))
        rows, columns = drawn.amax(1), drawn.amax(0)
        if max(rows[0], rows[-1], columns[0], columns[-1]) > 0 or drawn.amax() == 0:
            continue  # cut by the border
        sizes.append(int((rows > 0.25 * rows.max()).sum()))
        assert 0.45 < drawn.max() < 1.01
        profile = drawn.sum(0) / drawn.sum()
        middle = (profile * torch.arange(200)).sum()
        deviation = (profile * (torch.arange(200) - middle) ** 2).sum().sqrt()
        assert deviation == pytest.approx(1.0, abs=0.03)
        plateau = drawn.sum(1)[rows > 0.999 * rows.max()]
        assert plateau.std() < 0.01 * plateau.mean()
    assert len(sizes) > 15
    assert 0.6 * 40 * 0.8 < min(sizes) < max(sizes) < 1.4 * 40


def test_light_is_density_times_mean_streak() -> None:
    streaks = Streaks(0.004, length=20.0, width=2.4, angle=20.0, spread=3.0)
    mean = sum(float(streaks.draw((200, 200), generator(s)).mean()) for s in range(8)) / 8
    across = 1.2 * math.sqrt(2 * math.pi)
    assert mean == pytest.approx(0.004 * 0.75 * 20 * 0.75 * across, rel=0.05)


@pytest.mark.parametrize("angle", [-60.0, -15.0, 0.0, 30.0])
def test_streaks_lean_as_asked(angle: float) -> None:
    """The structure tensor's weaker axis runs along the streaks."""
    drawn = Streaks(0.002, 40.0, 4.0, angle, 0.0).draw((160, 160), generator(1))
    down, right = torch.gradient(drawn)
    axis = 0.5 * torch.atan2(2 * (down * right).sum(), (right**2 - down**2).sum())
    assert math.degrees(float(axis)) == pytest.approx(-angle, abs=2.0)


def test_rain_only_brightens_and_white_stays_white() -> None:
    clean = colours()
    for seed in range(5):
        assert (rained(DRY, clean, seed) >= quantise(clean)).all()
        assert torch.equal(rained(DRY, torch.ones(3, *SIZE), seed), torch.ones(3, *SIZE))


def test_screen_mode_by_hand() -> None:
    """Over black the streaks themselves, over J the same light on what is left to white."""
    streaks = rained(DRY, torch.zeros(3, *SIZE), 3)
    seen = rained(DRY, torch.full((3, *SIZE), 0.4), 3)
    torch.testing.assert_close(seen, 0.4 + 0.6 * streaks, atol=1 / 255, rtol=0)


def test_more_rain_hides_more() -> None:
    clean, changes = colours(), []
    for density in (0.0, 0.5, 2.0, 8.0):
        rain = replace(DRY, density=(density, density))
        changes.append(float((rained(rain, clean, 2) - quantise(clean)).mean()))
    assert changes[0] == 0
    assert changes == sorted(set(changes))


def test_farther_layers_are_fainter_and_denser() -> None:
    """With more layers the same number of streaks gives less light."""
    settings = {"density": (4.0, 4.0), "shrink": (0.5, 0.5)}
    light = [
        float(rained(replace(DRY, layers=(n, n), **settings), torch.zeros(3, *SIZE), 2).mean())
        for n in (1, 3)
    ]
    assert light[1] < 0.5 * light[0]


def test_mist_pulls_towards_its_light() -> None:
    misty = replace(DRY, density=(0.0, 0.0), veil_share=1.0, veil=(0.4, 0.4), airlight=(0.8, 0.8))
    for level in (0.0, 1.0):
        seen = rained(misty, torch.full((3, *SIZE), level))
        assert float(seen.mean()) == pytest.approx(level + 0.4 * (0.8 - level), abs=0.02)


def test_recorded_numbers() -> None:
    rainy = rained(Rain(noise_share=0.0, jpeg_share=0.0), colours(), 11)
    assert float(rainy.mean()) == pytest.approx(RECORDED[0], abs=1e-4)
    assert float(rainy.std()) == pytest.approx(RECORDED[1], abs=1e-4)


def test_same_generator_same_rain_and_others_differ() -> None:
    first, again = (rained(Rain(), colours(), 5) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, rained(Rain(), colours(), 6))


@pytest.mark.parametrize("size", [(2, 1), (3, 40), (67, 41)])
def test_any_size_gives_an_8_bit_photo(size: tuple[int, int]) -> None:
    photo = torch.full((3, *size), 0.3)
    scene = Rain().draw_scene(photo, generator())
    for seed in range(6):
        assert_8_bit(rained(Rain(), photo, seed), (3, *size))
        rainy = Rain().apply(photo, scene, generator(seed), PhotoFrame.whole(photo))["lq"]
        assert_8_bit(rainy, (3, *size))


@pytest.mark.parametrize("size", [(24, 31), (9, 60)])
def test_periodic_streaks_continue_at_the_opposite_border(size: tuple[int, int]) -> None:
    """The sum of the nine copies around the image, each cropped to it."""
    height, width = size
    # Multiples of 1/64, plus 1/256: exact sums, which are not half-way between two pixels.
    rows, columns = (
        torch.randint(64 * side, (40, 1), generator=generator(seed)) / 64 + 1 / 256
        for seed, side in enumerate(size)
    )
    heights, copies = torch.rand(40, 1, generator=generator(3)), (-1, 0, 1)
    expected = sum(
        rain._splat(rows + down * height, columns + right * width, heights, 1.1, size)
        for down in copies
        for right in copies
    )
    found = rain._splat_periodic(rows - 5 * height, columns + width, heights, 1.1, size)
    # `_splat` leaves out the last 0.0013 of some Gaussians whose centre is outside.
    torch.testing.assert_close(found, expected, atol=3e-3, rtol=0)


def test_crops_of_a_photo_get_shifted_streaks() -> None:
    scene = DRY.draw_scene(torch.zeros(3, 8, 8), generator(4))
    frame = PhotoFrame.whole(colours())
    whole, black = scene.streaks((48, 64)).clamp(0, 1), torch.zeros(3, 48, 64)
    crops = [DRY.apply(black, scene, generator(seed), frame)["lq"][0] for seed in range(3)]
    assert not torch.equal(crops[0], crops[1])
    for crop in crops:
        levels = (crop.flatten().sort().values - quantise(whole.flatten().sort().values)).abs()
        assert levels.max() < 1e-6
    again = DRY.draw_scene(torch.zeros(3, 8, 8), generator(4))
    assert torch.equal(again.streaks((48, 64)), scene.streaks((48, 64)))


def test_periodic_rain_has_the_light_of_any_rain() -> None:
    streaks = Streaks(0.002, length=20, width=2, angle=10, spread=3)
    drawn = [streaks.draw(SIZE, generator(seed)).mean() for seed in range(60)]
    periodic = [streaks.draw(SIZE, generator(seed), periodic=True).mean() for seed in range(60)]
    one, two = torch.stack(drawn), torch.stack(periodic)
    assert abs(one.mean() - two.mean()) < 4.5 * (one.var() / 60 + two.var() / 60).sqrt()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"density": (5.0, 1.0)}, "density"),
        ({"angle": (-120.0, 0.0)}, "angle"),
        ({"layers": (0, 2)}, "layers"),
        ({"width": (0.1, 2.0)}, "width"),
        ({"veil_share": -0.1}, "veil_share"),
    ],
)
def test_settings_out_of_range(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=f"Rain.{word}"):
        Rain(**options)
