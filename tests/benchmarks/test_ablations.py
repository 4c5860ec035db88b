import json

import pytest
import torch
import yaml

from benchmarks.ablations import (
    STUDIES,
    Study,
    StudyRun,
    build_runs,
    markdown_table,
    share_latents,
)
from refusion.config import config_to_dict
from refusion.errors import ConfigError

SMALL = "options/dehaze_small.yml"


def differing(one, other):
    """Dotted keys in which two plain configs differ."""
    found = set()
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= {f"{key}.{rest}" for rest in differing(a, b)}
        elif a != b:
            found.add(key)
    return found


@pytest.mark.parametrize(
    ("study", "values", "varied"),
    [
        ("noise", [10, 30, 50, 70], {"sde.max_sigma"}),
        ("steps", [20, 50, 100, 200], {"sde.T", "sampling.steps"}),
        ("patch", [128, 256, 512], {"data.train.patch", "data.train.scale_range"}),
    ],
)
def test_the_runs_of_a_study_differ_in_what_it_studies_alone(study, values, varied):
    _, configs = build_runs(study, SMALL, [], 600)
    plain = [config_to_dict(config) for config in configs.values()]
    key = sorted(varied)[0].split(".") if study == "patch" else sorted(varied)[-1].split(".")
    found = []
    for one in plain:
        for part in key:
            one = one[part]
        found.append(one)
    assert found == values
    for one in plain[1:]:
        assert differing(plain[0], one) == varied | {"name"}
    assert {config.train.steps for config in configs.values()} == {600}
    assert len({config.name for config in configs.values()}) == len(values)


def test_optimizers_have_the_published_rates_times_the_factor_of_the_yaml():
    _, configs = build_runs("optimizer", SMALL, [], 700)  # its Lion has 5 times the published rate
    runs = [
        (c.train.optimizer.type, c.train.optimizer.lr, c.train.lr_schedule.type)
        for c in configs.values()
    ]
    assert runs == [
        ("Adam", 5e-4, "multistep"),
        ("AdamW", 5e-4, "cosine"),
        ("Lion", 1.5e-4, "cosine"),
    ]
    assert next(iter(configs.values())).train.lr_schedule.milestones == (200, 400, 600)


def test_noise_and_steps_train_the_published_process_and_may_be_told_otherwise():
    _, configs = build_runs("noise", SMALL, ["sampling.steps=5"], 600)
    for config in configs.values():
        assert (config.prediction, config.objective.type) == ("noise", "maximum_likelihood")
        assert (config.train.time_bias, config.sampling.steps) == (0, 5)
    _, configs = build_runs("optimizer", SMALL, [], 600)
    assert {config.prediction for config in configs.values()} == {"x0_residual"}


def test_small_patches_show_less_of_the_scene_at_the_same_scale():
    _, configs = build_runs("patch", SMALL, [], 600)
    trains = [config.data.train.settings for config in configs.values()]
    assert len({train["patch"] / train["scale_range"][1] for train in trains}) == 1
    pixels = ["data.train.scale_range=null"]
    _, configs = build_runs("patch", SMALL, pixels, 600)
    assert {c.data.train.settings["scale_range"] for c in configs.values()} == {None}


@pytest.mark.parametrize("study", STUDIES)
def test_a_yaml_of_the_other_stage_is_refused(study):
    with pytest.raises(ConfigError, match="stage diffusion"):
        build_runs(study, "options/dehaze_unet_small.yml", [], 600)


def test_table_shows_the_last_measurement_and_the_input():
    def point(loss, psnr):
        scores = {"val/input/psnr": 20.0, "val/restored/psnr": psnr}
        return {"loss": loss, "minutes": 1.25, "val/input/ssim": 0.5, **scores}

    curves = {"a": {10: point(0.3, 21.0), 5: point(0.9, 1.0)}, "b": {10: point(0.1, 22.345)}}
    assert markdown_table(Study("noise", "Noise level", ()), curves).splitlines() == [
        "| Noise level | loss | PSNR val | minutes |",
        "| --- | --- | --- | --- |",
        "| input |  | 20 |  |",
        "| a | 0.3 | 21 | 1.2 |",
        "| b | 0.1 | 22.34 | 1.2 |",
    ]


def earlier_run(folder, config, latents=b"latents"):
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(yaml.safe_dump(config_to_dict(config)))
    (folder / "latents.safetensors").write_bytes(latents)


@pytest.mark.parametrize("place", ["studies/other", "other"])
def test_latents_of_a_run_on_the_same_data_are_shared(tmp_path, place):
    _, configs = build_runs("noise", SMALL, [], 600)
    first, second, *_ = configs.values()
    earlier_run(tmp_path / place, first)
    share_latents(second, tmp_path / "studies")
    target = tmp_path / "studies" / second.name / "latents.safetensors"
    assert target.read_bytes() == b"latents"
    share_latents(second, tmp_path / "studies")  # again: leaves what is there


def test_latents_of_other_data_are_not_shared(tmp_path):
    _, configs = build_runs("patch", SMALL, [], 600)
    first, second, *_ = configs.values()
    earlier_run(tmp_path / "studies" / first.name, first)
    share_latents(second, tmp_path / "studies")
    assert not (tmp_path / "studies" / second.name).exists()


def toy_run(tmp_path, **changes):
    sets = [
        "network.width=4",
        "data.workers=0",
        "data.batch_size=1",
        "data.train.patch=16",
        "data.validation.0.max_side=32",
        f"data.train.cache={tmp_path / 'cache'}",
        f"data.validation.0.cache={tmp_path / 'cache'}",
        *(f"{key}={value}" for key, value in changes.items()),
    ]
    _, configs = build_runs("noise", "options/toy.yml", [*sets, "sampling.steps=1"], 12, 1)
    config = next(iter(configs.values()))
    return StudyRun(config, device=torch.device("cpu"), runs=tmp_path / "runs")


def test_a_run_is_measured_as_it_goes_and_not_repeated(tmp_path):
    run = toy_run(tmp_path)
    points = run.finish()
    assert sorted(points) == [2, 4, 6, 8, 10, 12]
    assert points[12]["examples/restored/psnr"] > 0
    assert points[12]["loss"] > 0
    again = toy_run(tmp_path)
    again.train = None  # would fail if it were called
    assert again.finish() == points


def test_an_interrupted_run_continues_to_the_same_measurements(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = toy_run(tmp_path / "a").finish()
    cut = toy_run(tmp_path / "b")
    save = cut.save

    def fail():
        if cut.step == 8:
            raise KeyboardInterrupt
        save()

    cut.save = fail
    with pytest.raises(KeyboardInterrupt):
        cut.finish()
    kept = json.loads(cut.curve_file.read_text())["points"]
    assert [step for step, _ in kept] == [2, 4, 6]
    resumed = toy_run(tmp_path / "b").finish()
    for step, point in whole.items():
        assert resumed[step]["examples/restored/psnr"] == point["examples/restored/psnr"]


def test_a_folder_of_another_setting_is_refused(tmp_path):
    toy_run(tmp_path).finish()
    with pytest.raises(ConfigError, match="other settings"):
        toy_run(tmp_path, **{"train.seed": 1})
