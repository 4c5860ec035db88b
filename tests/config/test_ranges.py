"""Ranges of numbers, lengths of lists, sizes of networks, and paths of a config."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import yaml
from config_cases import TABLES, changed, read
from options_cases import FILES
from torch import nn

from refusion.config import config_from_dict, find_table, load_config
from refusion.config.json_schema import json_schema
from refusion.config.networks import MAX_PARTS, MAX_VALUES, network_shapes
from refusion.config.parser import Component, Parser, to_plain
from refusion.config.settings import constructor_settings
from refusion.errors import ConfigError
from refusion.hints import Bound, Length, PathText
from refusion.nets import NETS
from refusion.sde import SDES
from refusion.synthesis.degradations import DEGRADATIONS

TOY = next(file for file in FILES if file.stem == "toy")


@dataclasses.dataclass(frozen=True)
class Limits:
    whole: int = 0
    number: float = 0.0
    small: Annotated[float, Bound(-1, 1)] = 0.0
    pair: Annotated[tuple[float, float], Bound(0, 1)] = (0.0, 1.0)
    counts: Annotated[Sequence[int], Bound(1, 9), Length(1, 3)] = (1,)
    text: str = ""
    anything: Any = None
    mapping: typing.Dict = dataclasses.field(default_factory=dict)  # noqa: UP006, as a plug-in may
    sequence: typing.Tuple = ()  # noqa: UP006
    items: typing.List = dataclasses.field(default_factory=list)  # noqa: UP006
    path: PathText = ""
    either: str | Path = ""


def short_id(value: object) -> str:
    """Start of a test's name; some values have no text."""
    return value[:30] if isinstance(value, str) else type(value).__name__


def parsed(**values: object) -> Limits:
    return Parser("x.yml", TABLES.__getitem__).parse(Limits, values)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("whole", 10**9 + 1, "whole: must be at most 1000000000, got 1000000001"),
        ("whole", -(10**9) - 1, "whole: must be at least -1000000000, got -1000000001"),
        ("whole", 10**30, "whole: must be at most 1000000000, got a whole number of 31 digits"),
        ("whole", 10**5000, "whole: must be at most 1000000000, got a whole number of 5001 digits"),
        ("whole", 1.0, "whole: expected a whole number, got 1.0"),
        ("whole", True, "whole: expected a whole number, got true"),
        ("number", 10**400, "number: must be at most 1e+15, got a whole number of 401 digits"),
        ("number", 1e300, "number: must be at most 1e+15, got 1e+300"),
        ("number", math.nan, "number: expected a finite number, got nan"),
        ("small", -1.5, "small: must be at least -1 and at most 1, got -1.5"),
        ("pair", [0, 2], "pair.1: must be at least 0 and at most 1, got 2.0"),
        ("counts", [], "counts: expected a list of 1 to 3 values, got 0"),
        ("counts", [1] * 10**6, "counts: expected a list of 1 to 3 values, got 1000000"),
        ("counts", [10], "counts.0: must be at least 1 and at most 9, got 10"),
        ("text", "x" * 10**6, "text: expected at most 100000 characters, got 1000000"),
        ("anything", {"a": [0, 10**30]}, "anything.a.1: must be at most 1000000000, got a whole"),
        ("anything", [0] * 10001, "anything: expected a list of 0 to 10000 values, got 10001"),
        ("mapping", {"a": math.inf}, "mapping.a: expected a finite number, got inf"),
        ("sequence", [10**30], "sequence.0: must be at most 1000000000"),
        ("path", "/a\0b", "path: expected a path, got '/a\\x00b'"),
    ],
    ids=short_id,
)
def test_limits(key: str, value: object, message: str):
    with pytest.raises(ConfigError) as caught:
        parsed(**{key: value})
    assert str(caught.value).startswith(f"x.yml: {message}")
    assert len(str(caught.value)) < 300


def test_values_within_the_limits_are_read():
    read = parsed(whole=-(10**9), number=1e15, pair=[0, 1], counts=[9, 1], mapping={"a": [1]})
    assert (read.whole, read.number, read.pair) == (-(10**9), 1e15, (0.0, 1.0))
    assert (read.counts, read.mapping) == ([9, 1], {"a": [1]})
    assert parsed(sequence=[1, "a"], items=[2]).sequence == (1, "a")


def test_values_of_many_levels_are_refused():
    value: object = 1
    for _ in range(30):
        value = [value]
    with pytest.raises(ConfigError, match="expected at most 20 levels"):
        parsed(anything=value)


def test_bare_annotations_and_classes_as_defaults_have_a_schema():
    class PlugIn(nn.Module):
        def __init__(
            self,
            names: typing.Dict = {},  # noqa: B006, UP006
            sizes: typing.Tuple = (),  # noqa: UP006
            kind: type = Limits,
            maps: Mapping = {},
        ) -> None:
            super().__init__()

    part = json_schema(lambda name: {"P": PlugIn} if name == "nets" else find_table(name))
    made = part["$defs"]["nets.P"]["properties"]
    assert made["names"]["type"] == "object"
    assert made["sizes"]["type"] == "array"
    assert "default" not in made["kind"]
    assert to_plain(Limits) is Limits


def test_an_unreadable_table_entry_is_named_with_file_and_key():
    tables = {**TABLES, "nets": {"Net": dict}}
    with pytest.raises(ConfigError, match=r"^x\.yml: network\.type: table entry <class 'dict'>"):
        config_from_dict(changed(network={"type": "Net"}), "x.yml", tables.__getitem__)


def test_ranges_are_in_the_schema():
    parts = json_schema()["$defs"]
    net = parts["nets.ConditionalNAFNet"]["properties"]
    assert (net["width"]["minimum"], net["width"]["maximum"]) == (1, 4096)
    levels = net["enc_blk_nums"]
    assert (levels["minItems"], levels["maxItems"], levels["items"]["maximum"]) == (1, 8, 256)
    assert net["pool_window"]["maximum"] == 2**16
    assert parts["sdes.UniDB"]["properties"]["T"]["maximum"] == 10**5
    assert parts["TrainConfig"]["properties"]["steps"]["maximum"] == 10**9
    assert parts["datasets.PairedFolder"]["properties"]["patch"]["maximum"] == 8192


@pytest.mark.parametrize("table", ["nets", "sdes", "datasets"])
def test_all_numbers_of_networks_processes_and_data_sets_declare_a_range(table: str):
    for name, entry in find_table(table).items():
        for key, setting in constructor_settings(entry, ("seed",)).items():
            kinds = str(setting.hint)
            is_number = "int" in kinds or "float" in kinds
            assert not is_number or "Bound" in kinds, (name, key, kinds)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.width=-1", "network.width: must be at least 1 and at most 4096, got -1"),
        ("network.width=5", "network: cannot be built: expected an even number of channels"),
        ("network.img_channel=5", "network: takes 5 channels but a photo has 3"),
        ("network.middle_blk_num=1000000000000", "network.middle_blk_num: must be at least 0"),
        ("network.enc_blk_nums=[1, 1, 1]", "network: cannot be built: enc_blk_nums and dec"),
        ("network={type: ConditionalUNet, nf: 4096, depth: 8}",
         f"network: cannot be built: it has more than {MAX_VALUES} values"),
        ("network={type: ConditionalNAFNet, width: 4, enc_blk_nums: [256,256,256,256,256,256,256,"
         "256], dec_blk_nums: [256,256,256,256,256,256,256,256]}",
         f"network: cannot be built: it has more than {MAX_PARTS} layers"),
        ("sde.T=1000000000", "sde.T: must be at least 1 and at most 100000"),
        ("sde.T=0", "sde.T: must be at least 1 and at most 100000, got 0"),
        ("sde.T=1.5", "sde.T: expected a whole number, got 1.5"),
        ("sde.eps=1", "sde: eps: expected a number between 0 and 1"),
        ("sde.schedule=x", "sde: schedule: unknown theta schedule 'x'"),
        ("train.optimizer.lr=.nan", "train.optimizer.lr: expected a finite number, got nan"),
        ("train.steps=1e400", "train.steps: expected a whole number"),
        ("train.steps=" + "9" * 100, "--set 'train.steps=9"),
        ("train.optimizer.betas=[0.9, 1]", "train.optimizer.betas.1: must be at least 0"),
        ("train.ema_decay=1.5", "train.ema_decay: must be at least 0 and at most 1, got 1.5"),
        ("data.batch_size=0", "data.batch_size: must be at least 1 and at most 65536, got 0"),
        ("data.workers=1000000", "data.workers: must be at least 0 and at most 256"),
        ("data.train.patch=0", "data.train.patch: must be at least 1 and at most 8192, got 0"),
        ("data.train.degradation={type: Haze, clean_share: 2}",
         "data.train.degradation: Haze.clean_share: expected values in [0, 1]"),
        ("data.train.degradation={type: Chain, steps: [{type: Jpeg, quality: [0, 500]}]}",
         "data.train.degradation.steps.0: Jpeg.quality: expected values in [1, 100]"),
        ("data.validation." + "9" * 5000 + ".name=x", "--set 'data.validation.9"),
        ("a" * 10**5 + "=1", "aaaa"),
        (".".join("a" * 5000) + "=1", "--set 'a.a."),
    ],
    ids=short_id,
)  # fmt: skip
def test_wrong_numbers_of_an_override(override: str, message: str):
    with pytest.raises(ConfigError) as caught:
        load_config(TOY, [override])
    text = re.sub(rf"^({TOY}: |{TOY} with --set \S+: |--set (?!'))", "", str(caught.value))
    assert text.startswith(message)
    assert len(text) < 300


def test_one_time_step_is_accepted():
    assert load_config(TOY, ["sde.T=1", "sampling.steps=1"]).sde.settings["T"] == 1


def test_sizes_of_networks_are_those_of_the_networks():
    component = Component("ConditionalNAFNet", {"width": 4, "enc_blk_nums": [1, 0],
                                                "dec_blk_nums": [0, 1]})  # fmt: skip
    state = NETS[component.type](**component.settings).state_dict()
    assert network_shapes(component) == {name: tensor.shape for name, tensor in state.items()}


class ReadsValues(nn.Module):
    """As networks with stochastic depth do, for example SwinIR in the authors' code."""

    def __init__(self, *, width: Annotated[int, Bound(1, 10**6)] = 4, is_array: bool = False):
        super().__init__()
        rates = torch.linspace(0, 0.1, 4)
        self.rates = rates.numpy() if is_array else [rate.item() for rate in rates]
        self.layers = nn.ModuleList(nn.Linear(width, 500) for _ in range(100))


@pytest.mark.parametrize("is_array", [False, True])
def test_a_network_whose_constructor_reads_values_is_built(monkeypatch, is_array: bool):
    monkeypatch.setitem(NETS, "ReadsValues", ReadsValues)
    before = torch.get_rng_state()
    shapes = network_shapes(Component("ReadsValues", {"is_array": is_array}))
    assert shapes["layers.99.weight"] == (500, 4)
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr("refusion.config.networks.MAX_VALUES", 10**6)
    with pytest.raises(ConfigError, match="more than 1000000 values"):
        network_shapes(Component("ReadsValues", {"is_array": is_array, "width": 2000}))


def test_sizes_of_networks_are_found_without_the_compiler_of_pytorch():
    """Its import takes a second, at each start of a program that restores photos."""
    code = (
        "import sys\n"
        "from refusion.config.networks import network_shapes\n"
        "from refusion.config.parser import Component\n"
        "assert network_shapes(Component('LatentUNet', {}))\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, check=True, capture_output=True, timeout=60).stdout == b"False\n"


def test_inherited_settings_of_a_dataclass_have_their_ranges():
    hints = constructor_settings(SDES["UniDB"])
    assert all(hints[name].hint is not Any for name in ("max_sigma", "T", "eps", "gamma"))


def test_paths_are_expanded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PHOTOS", "/photos")
    for given, expected in {
        "~/a": "/home/me/a",
        "$PHOTOS/a": "/photos/a",
        "${PHOTOS}/a": "/photos/a",
        "./a": "./a",
        "a~b": "a~b",
    }.items():
        assert parsed(path=given).path == parsed(either=given).either == expected
        assert parsed(text=given).text == given  # not a path


def test_paths_of_option_files_are_expanded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(TOY, ["data.train.folders=[~/photos, $HOME/more]", "init=~/a.safetensors",
                               "data.train.cache=~/cache"])  # fmt: skip
    assert config.data.train.settings["folders"] == ["/home/me/photos", "/home/me/more"]
    assert config.data.train.settings["cache"] == "/home/me/cache"
    assert config.init == "/home/me/a.safetensors"
    raw = yaml.safe_load(TOY.with_name("dehaze.yml").read_text(encoding="utf-8"))
    raw["latent_unet"]["checkpoint"] = "${HOME}/u.safetensors"
    assert config_from_dict(raw).latent_unet.checkpoint == "/home/me/u.safetensors"


def test_an_undefined_variable_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    for text in ("$NOWHERE/a", "${NOWHERE}/a"):
        with pytest.raises(ConfigError, match=r"init: the variable \$NOWHERE of the path is not"):
            load_config(TOY, [f"init={text}"])


def test_a_folder_with_a_dollar_sign_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    folder = tmp_path / "a$NOWHERE"
    folder.mkdir()
    assert parsed(path=str(folder)).path == str(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("~/a$NOWHERE", "$HOME/a$NOWHERE"):
        assert parsed(path=text).path == str(folder)
    for text in (f"{folder}/other", "$NOWHERE/" + "a" * 5000):  # too long for a name of a file
        with pytest.raises(ConfigError, match="is not set"):
            parsed(path=text)


def test_generous_values_are_read():
    folders = [f"/photos/{n}" for n in range(2000)]
    config = load_config(TOY, [f"data.train.folders=[{', '.join(folders)}]", "data.workers=64",
                               "train.optimizer.lr=10", "train.steps=300000000"])  # fmt: skip
    assert config.data.train.settings["folders"] == folders
    prompt = "snow " * 4000
    osediff = load_config(TOY.with_name("osediff.yml"), [f"osediff.prompt='{prompt}'"]).osediff
    assert osediff.prompt == prompt


def test_a_degradation_of_a_plug_in_is_not_built_with_the_config(monkeypatch: pytest.MonkeyPatch):
    class ReadsAFile:
        def __init__(self, *, path: str) -> None:
            raise FileNotFoundError(path)

    monkeypatch.setitem(DEGRADATIONS, "ReadsAFile", ReadsAFile)
    section = "{type: ReadsAFile, path: a.npz}"
    for value in (section, f"{{type: Chain, steps: [{section}]}}"):
        load_config(TOY, [f"data.train.degradation={value}"])
    with pytest.raises(ConfigError, match="path: required key is missing"):
        load_config(TOY, ["data.train.degradation={type: ReadsAFile}"])


def test_the_made_up_config_is_still_read():
    assert read(changed()).name == "dehaze"
