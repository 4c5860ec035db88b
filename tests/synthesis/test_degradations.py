"""The table of degradations: words, sections, nesting, and several in a row."""

from __future__ import annotations

import dataclasses
import typing

import pytest
import torch
from degradation_cases import generator

from refusion.config.parser import Component, FromTable, Parser, to_plain
from refusion.data import DATASETS
from refusion.errors import ConfigError
from refusion.synthesis.degradations import DEGRADATIONS, build_degradation
from refusion.synthesis.degradations.base import degrade, draw_scene
from refusion.synthesis.degradations.chain import Chain
from refusion.synthesis.degradations.one_of import OneOf
from refusion.synthesis.scenes.frame import PhotoFrame


@dataclasses.dataclass(frozen=True)
class Section:
    train: typing.Annotated[Component, FromTable("datasets")]


NESTED = ("Chain", "OneOf", "Greyscale", "Cropped")
ALONE = [name for name in DEGRADATIONS if name not in NESTED]


def parse(degradation: dict) -> Component:
    """What a YAML file gives for a dataset with this degradation."""
    tables = {"datasets": DATASETS, "degradations": DEGRADATIONS}
    raw = {"type": "SyntheticPairs", "folders": ["x"], "degradation": degradation}
    return Parser("a.yml", tables.__getitem__).parse(Section, {"train": raw}).train


@dataclasses.dataclass(frozen=True)
class Add:
    """Adds a constant, and an extra if asked."""

    amount: float
    extra: str = ""
    multiple: int = 1

    def __call__(self, clean, generator, frame):
        made = {"lq": clean + self.amount}
        return {**made, self.extra: clean - 1} if self.extra else made


def run(degradation, seed: int = 0) -> dict[str, torch.Tensor]:
    clean = torch.rand(3, 48, 48, generator=generator(9))
    return degradation(clean, generator(seed), PhotoFrame.whole(clean))


def test_words_are_class_names_of_frozen_dataclasses() -> None:
    for name, cls in DEGRADATIONS.items():
        assert cls.__name__ == name
        assert dataclasses.is_dataclass(cls)
        assert cls.__dataclass_params__.frozen


@pytest.mark.parametrize("name", ALONE)
def test_defaults_survive_yaml_and_build(name: str) -> None:
    """Every setting written out, through YAML's plain values and back, is the default again."""
    settings = {field.name: field.default for field in dataclasses.fields(DEGRADATIONS[name])}
    component = parse({"type": name, **to_plain(settings)}).settings["degradation"]
    assert build_degradation(component) == DEGRADATIONS[name]()


@pytest.mark.parametrize("name", ALONE)
def test_every_degradation_is_a_function_of_its_arguments(name: str) -> None:
    degradation = DEGRADATIONS[name]()
    torch.manual_seed(1)
    one, state = run(degradation, 4), torch.get_rng_state()
    torch.manual_seed(2)
    again = run(degradation, 4)
    assert one.keys() == again.keys()
    assert {"lq"} <= one.keys() <= {"lq", "gt", "lens", "guide", "noise_std"}
    assert all(torch.equal(one[key], again[key]) for key in one)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    assert one["lq"].dtype == torch.float32
    assert 48 % one["lq"].shape[-1] == 0


def test_nested_sections_round_trip_and_build() -> None:
    raw = {
        "type": "Chain",
        "steps": [{"type": "Haze", "clean_share": 0.5, "airlight": [0.5, 1]}, {"type": "Haze"}],
    }
    component = parse(raw)
    assert to_plain(component)["degradation"] == raw
    assert parse(to_plain(component)["degradation"]) == component
    chain = build_degradation(component.settings["degradation"])
    assert chain == Chain(
        (DEGRADATIONS["Haze"](clean_share=0.5, airlight=(0.5, 1)), DEGRADATIONS["Haze"]())
    )
    assert build_degradation(raw) == chain


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"type": "Haez"}, "degradation.type.*did you mean 'Haze'"),
        ({"type": "Haze", "airlite": 1}, "degradation.airlite.*did you mean 'airlight'"),
        ({"type": "Haze", "airlight": [0.1, 0.2, 0.3]}, "degradation.airlight.*list of 2"),
        ({"type": "Chain", "steps": [{"type": "Haez"}]}, "degradation.steps.0.type"),
        ({"type": "Chain"}, "degradation.steps: required"),
        ({"type": "OneOf", "choices": [{"type": "Haez"}]}, "degradation.choices.0.type"),
        ({"type": "OneOf"}, "degradation.choices: required"),
    ],
)
def test_wrong_sections_are_refused_when_read_and_when_built(raw: dict, words: str) -> None:
    for build in (parse, build_degradation):
        with pytest.raises(ConfigError, match=words):
            build(raw)


def test_values_out_of_range_name_the_step() -> None:
    steps = [{"type": "Haze"}, {"type": "Haze", "clean_share": 2.0}]
    with pytest.raises(ConfigError, match=r"degradation.steps.1: .*clean_share"):
        build_degradation({"type": "Chain", "steps": steps})
    with pytest.raises(ConfigError, match="degradation: steps: expected at least one"):
        build_degradation({"type": "Chain", "steps": []})


def test_steps_follow_each_other_and_draw_from_one_generator() -> None:
    clean = torch.rand(3, 48, 48, generator=generator(9))
    noise, blur = DEGRADATIONS["GaussianNoise"](), DEGRADATIONS["Jpeg"]()
    source, frame = generator(3), PhotoFrame.whole(clean)
    expected = blur(noise(clean, source, frame)["lq"], source, frame)["lq"]
    item = run(Chain((noise, blur)), 3)
    assert torch.equal(item["lq"], expected)


def test_extras_merge_and_truth_is_the_first_steps() -> None:
    item = run(Chain((Add(1.0, "gt"), Add(2.0, "lens"), Add(4.0, "noise_std"))))
    clean = torch.rand(3, 48, 48, generator=generator(9))
    torch.testing.assert_close(item["lq"], clean + 7)
    torch.testing.assert_close(item["gt"], clean - 1)
    torch.testing.assert_close(item["lens"], clean)
    torch.testing.assert_close(item["noise_std"], clean + 2)
    assert "gt" not in run(Chain((Add(1.0), Add(2.0))))
    with pytest.raises(ConfigError, match=r"steps.1: Add sets the ground truth; put it first"):
        run(Chain((Add(1.0), Add(2.0, "gt"))))


def test_multiples_of_all_steps_count() -> None:
    assert Chain((Add(1.0, multiple=2), Add(1.0), Add(1.0, multiple=3))).multiple == 6


def test_chain_wants_degradations() -> None:
    for steps in ((), [Add(1.0)], (Add(1.0), "Haze")):
        with pytest.raises(ConfigError, match="steps"):
            Chain(steps)


def test_one_of_gives_what_the_drawn_choice_gives_by_its_weight() -> None:
    choices = (Add(1.0), Add(2.0), Add(3.0, "gt"))
    clean = torch.rand(3, 48, 48, generator=generator(9))
    source, frame = generator(0), PhotoFrame.whole(clean)
    items = [OneOf(choices, (3.0, 0.0, 1.0))(clean, source, frame) for _ in range(2000)]
    added = [round(float((item["lq"] - clean).mean())) for item in items]
    assert 1400 < added.count(1) < 1600
    assert added.count(2) == 0
    assert all(("gt" in item) == (amount == 3) for item, amount in zip(items, added, strict=True))
    equal = [OneOf(choices)(clean, source, frame) for _ in range(600)]
    added = [round(float((item["lq"] - clean).mean())) for item in equal]
    assert all(150 < added.count(amount) < 250 for amount in (1, 2, 3))


def test_crops_of_a_scene_get_the_same_choice_and_its_scene() -> None:
    haze, jpeg = DEGRADATIONS["Haze"](), DEGRADATIONS["Jpeg"]()
    one_of, clean = OneOf((haze, jpeg)), torch.rand(3, 48, 48, generator=generator(9))
    frame, seen = PhotoFrame.whole(clean), set()
    for seed in range(8):
        (place, scene), *_ = draw_scene(one_of, clean, generator(seed))
        seen.add(place)
        for crop in range(3):
            item = one_of.apply(clean, (place, scene), generator(crop), frame)
            expected = degrade((haze, jpeg)[place], clean, scene, generator(crop), frame)
            assert torch.equal(item["lq"], expected["lq"])
    assert seen == {0, 1}


def test_sides_of_images_suit_every_choice() -> None:
    assert OneOf((Add(1.0, multiple=4), Add(1.0), Add(1.0, multiple=6))).multiple == 12


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, 2.0, 3.0), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0)], ids=str
)
def test_weights_that_fit_no_choice_are_refused(weights) -> None:
    with pytest.raises(ConfigError, match=r"^weights: expected 2 numbers from 0, one above 0"):
        OneOf((Add(1.0), Add(2.0)), weights)


def test_one_of_wants_degradations() -> None:
    for choices in ((), [Add(1.0)], (Add(1.0), "Haze")):
        with pytest.raises(ConfigError, match="choices"):
            OneOf(choices)


def test_a_choice_in_a_section_builds_and_names_wrong_values() -> None:
    raw = {"type": "OneOf", "choices": [{"type": "Jpeg"}, {"type": "Haze"}], "weights": [1, 2]}
    built = build_degradation(parse(raw).settings["degradation"])
    assert built == OneOf((DEGRADATIONS["Jpeg"](), DEGRADATIONS["Haze"]()), (1.0, 2.0))
    raw["choices"][1] = {"type": "Haze", "clean_share": 2.0}
    with pytest.raises(ConfigError, match=r"degradation.choices.1: .*clean_share"):
        build_degradation(raw)
