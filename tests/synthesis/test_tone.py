"""Tones stay in range, keep grey grey, are the same for a crop and its photo, and vary."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import torch
from dataset_cases import save_photo

from refusion.config.parser import Component, FromTable, Parser
from refusion.data import DATASETS
from refusion.data.synthetic_pairs import SyntheticPairs
from refusion.errors import ConfigError
from refusion.randomness import keyed_generator
from refusion.synthesis.degradations import DEGRADATIONS
from refusion.synthesis.tone import Tone, Tones, tones_of

TABLES = {"datasets": DATASETS, "degradations": DEGRADATIONS}


@dataclass(frozen=True)
class _Section:
    train: Annotated[Component, FromTable("datasets")]


def draws(strength, count=300):
    return [tones_of(strength).draw(keyed_generator(0, index)) for index in range(count)]


def test_no_strength_changes_nothing():
    photo = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert all(tone == Tone() for tone in draws(0.0))
    assert Tone()(photo) is photo


def test_tones_vary_and_some_photos_stay():
    tones = draws(1.0)
    kept = sum(tone == Tone() for tone in tones) / len(tones)
    assert kept == pytest.approx(Tones().kept, abs=0.07)
    grey = torch.full((3, 4, 4), 0.5)
    means = torch.tensor([tone(grey).mean() for tone in tones])
    assert means.min() < 0.25 and means.max() > 0.55 and means.std() > 0.08
    for tone in tones:
        assert tone(torch.rand(3, 8, 8)).min() >= 0 and tone(torch.rand(3, 8, 8)).max() <= 1


def test_each_part_does_what_it_says():
    ramp = torch.linspace(0, 1, 30).reshape(3, 2, 5)
    torch.testing.assert_close(Tone(gain=0.5)(ramp), ramp / 2)
    torch.testing.assert_close(Tone(exponent=2.0)(ramp), ramp**2)
    assert torch.equal(*Tone(saturation=0.0)(ramp)[:2])
    red, green, blue = Tone(warmth=0.2)(torch.full((3, 1, 1), 0.5)).flatten().tolist()
    assert (red, green, blue) == pytest.approx((0.6, 0.5, 0.4))


def test_patches_take_the_tone_and_the_haze_sees_it_too(tmp_path):
    for name in "abc":
        save_photo(tmp_path / "photos" / f"{name}.png", 120, 100)

    def patches(**options):
        settings = {"folders": [tmp_path / "photos"], "cache": tmp_path / "cache", "patch": 32}
        still = {"type": "Haze", "mean_transmission": [0.99, 1.0], "min_transmission": 0.98}
        still |= {"noise_share": 0.0, "jpeg_share": 0.0, "exposure": 0.0, "colour": 0.0}
        still |= {"clean_share": 0.0, "soften_share": 0.0}
        return SyntheticPairs(**settings, degradation=still, **options)

    plain, toned = patches(), patches(tone=1.0)
    changes = [(plain[index]["gt"] - toned[index]["gt"]).abs().mean().item() for index in range(20)]
    assert sum(change > 0.02 for change in changes) > 10
    # Hardly any haze: what is degraded is the toned patch, not the photo's.
    assert all((toned[i]["gt"] - toned[i]["lq"]).abs().mean() < 0.03 for i in range(20))
    for strength in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="tone: expected a strength from 0 to 1"):
            patches(tone=strength)
    for share in ("flat_share", "cast_share"):  # they do not need a tone
        changed = patches(tone=Tones(strength=0, **{share: 1.0}))
        assert (plain[0]["gt"] - changed[0]["gt"]).abs().mean() > 0.01


def test_ranges_can_be_given(tmp_path):
    save_photo(tmp_path / "photos" / "a.png", 64, 64)
    section = {
        "type": "SyntheticPairs",
        "folders": [str(tmp_path / "photos")],
        "degradation": {"type": "Haze"},
    }
    ranges = {"kept": 0.0, "gain": [0.5, 0.5], "exponent": [0, 0], "saturation": [1, 1]}
    component = Parser("", TABLES.__getitem__).parse(
        _Section, {"train": section | {"tone": ranges | {"warmth": 0.0}}}
    )
    data = SyntheticPairs(**component.train.settings)
    assert data.tones.draw(keyed_generator(0, 0)) == Tone(gain=2**0.5)
    with pytest.raises(ConfigError, match=r"Tones\.gain: expected"):
        Tones(gain=(1.0, 0.0))


def test_the_black_of_flat_photos_is_a_setting():
    generators = (torch.Generator().manual_seed(seed) for seed in range(30))
    tones = Tones(strength=0, flat_share=1.0, flat_black=(0.05, 0.1))
    assert all(0.05 <= tones.draw(generator).black <= 0.1 for generator in generators)
    with pytest.raises(ConfigError, match="flat_black"):
        Tones(flat_black=(0.0, 0.9))


def test_flat_photos_have_less_contrast_and_colour():
    photo = torch.rand(3, 20, 30, generator=keyed_generator(1))
    tones = Tones(strength=0, flat_share=1.0)
    for seed in range(8):
        tone = tones.draw(keyed_generator(0, seed))
        flat = tone(photo)
        assert 0 <= tone.black <= 0.25 <= 0.75 <= tone.white <= 1
        assert flat.min() >= tone.black - 1e-6
        assert flat.max() <= tone.white + 1e-6
        levels = (photo * 255).round().to(torch.uint8)
        torch.testing.assert_close(tone.of_levels(levels), tone(levels / 255))
    assert Tones(strength=0).draw(keyed_generator(0)) == Tone()


def test_a_cast_colours_grey_and_keeps_the_brightest_channel():
    grey = torch.full((3, 4, 4), 0.6)
    for seed in range(8):
        tone = Tones(strength=0, cast_share=1.0).draw(keyed_generator(0, seed))
        red, green, blue = tone(grey)[:, 0, 0].tolist()
        assert max(red, green, blue) == pytest.approx(0.6)
        assert (red - green) * (green - blue) > 0
        assert (red > blue) == (tone.cast > 0)
