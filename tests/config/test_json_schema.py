"""The JSON Schema of the option files agrees with what `Parser` reads and refuses."""

import functools
import json
import math
from typing import Annotated

import jsonschema
import pytest
import torch
import yaml
from config_cases import ERRORS, TABLES, changed
from options_cases import FILES

from refusion.config import find_table
from refusion.config.json_schema import DRAFT, json_schema
from refusion.config.parser import Bound, FromTable
from refusion.config.run import RunConfig
from refusion.errors import ConfigError
from refusion.sde import SAMPLERS

OF_THE_PARSER = ("unknown ", "required key", "expected a ", "must be at least", "must be above")
REFUSED = [
    edits
    for edits, message in ERRORS
    if message.split(": ")[1].startswith(OF_THE_PARSER)
    and "finite" not in message  # JSON has no such number
]


@pytest.fixture(scope="module")
def schema():
    return json_schema()


@pytest.fixture(scope="module")
def validator(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def small_validator():
    return jsonschema.Draft202012Validator(json_schema(TABLES.__getitem__))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_option_file_fits(validator, path):
    validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_key_does_not_fit(validator, path):
    for key in ("", "data", "train", "network", "latent_unet"):
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        section = raw.get(key) if key else raw
        if section is not None:
            section["nonsense"] = 1
            assert not validator.is_valid(raw), key


def test_what_the_parser_reads_fits(small_validator):
    small_validator.validate(changed())
    for edits in ({"latent_unet": None}, {"train__grad_clip": None}, {"sde__max_sigma": 50.5}):
        small_validator.validate(changed(**edits))


@pytest.mark.parametrize("edits", REFUSED, ids=str)
def test_what_the_parser_refuses_does_not_fit(small_validator, edits):
    assert not small_validator.is_valid(changed(**edits))


def test_most_errors_of_the_parser_were_tried():
    assert len(REFUSED) >= 40


def test_ranges_defaults_and_descriptions_are_those_of_the_source(schema):
    parts = schema["$defs"]
    assert schema["$schema"] == DRAFT
    factor = parts["UpscaleConfig"]["properties"]["factor"]
    assert factor == {
        "description": "output pixels per input pixel and axis",
        "type": "integer",
        "minimum": 2,
        "maximum": 16,
    }
    lr = parts["OptimizerConfig"]["properties"]["lr"]
    assert (lr["exclusiveMinimum"], "default" in lr) == (0, False)
    ema = parts["TrainConfig"]["properties"]["ema_decay"]
    assert ema["default"] == 0.999
    assert ema["description"].startswith("per update of the average")
    width = parts["nets.ConditionalNAFNet"]["properties"]["width"]
    assert width["default"] == 64
    assert width["description"].startswith("channels of the first level")
    assert parts["sdes.UniDB"]["properties"]["max_sigma"]["type"] == "number"
    betas = parts["OptimizerConfig"]["properties"]["betas"]
    assert (betas["minItems"], betas["maxItems"]) == (2, 2)


def test_sections_and_components_of_all_tables_are_there(schema):
    for table in ("nets", "sdes", "objectives", "datasets", "degradations"):
        for name in find_table(table):
            properties = schema["$defs"][f"{table}.{name}"]["properties"]
            assert properties["type"] == {"const": name}
    assert set(schema["properties"]) == set(RunConfig.__dataclass_fields__)
    supplied = FromTable("datasets", supplied=("seed",)).supplied
    assert set(supplied).isdisjoint(schema["$defs"]["datasets.PairedFolder"]["properties"])


def test_samplers_with_a_grid_fit_and_named_ones_are_completed(schema, validator):
    raw = yaml.safe_load(next(p for p in FILES if p.stem == "toy").read_text(encoding="utf-8"))
    for sampler in ("posterior", "sde-data-2@log_snr", "eta0.5-data-2"):
        raw["sampling"]["sampler"] = sampler
        validator.validate(raw)
    names, _ = schema["$defs"]["SamplingConfig"]["properties"]["sampler"]["anyOf"]
    assert names == {"enum": list(SAMPLERS)}


class PlugIn(torch.nn.Module):
    """A network of a plug-in."""

    def __init__(
        self,
        width: Annotated[float, Bound(-math.inf, 8)] = 4,
        act: type = torch.nn.ReLU,
        dtype: torch.dtype = torch.float32,
        limits: tuple[float, float] = (0, math.inf),
        empty: float = math.nan,
    ) -> None:
        super().__init__()


def nets_schema(**nets):
    """Definitions of the schema with other networks."""
    made = json_schema(lambda name: nets if name == "nets" else find_table(name))
    jsonschema.Draft202012Validator.check_schema(made)
    return json.loads(json.dumps(made, allow_nan=False))["$defs"]


def test_defaults_that_json_does_not_have_are_left_out():
    part = nets_schema(PlugIn=PlugIn)["nets.PlugIn"]
    assert part["required"] == ["type"]
    assert part["properties"]["width"] == {"type": "number", "maximum": 8, "default": 4}
    for name in ("act", "dtype", "limits", "empty"):
        assert "default" not in part["properties"][name]


def test_plug_ins_may_be_lambdas_and_partial_objects():
    defs = nets_schema(
        Lambda=lambda *, k=1: PlugIn(k),
        Other=lambda: PlugIn(),
        Partial=functools.partial(PlugIn, act=torch.nn.GELU, width=5),
    )
    assert defs["nets.Lambda"]["properties"]["k"] == {"default": 1}
    assert set(defs["nets.Other"]["properties"]) == {"type"}
    assert defs["nets.Partial"]["description"] == "A network of a plug-in."
    assert defs["nets.Partial"]["properties"]["width"]["default"] == 5


def test_a_component_without_a_signature_is_refused():
    with pytest.raises(ConfigError, match="table entry <class 'dict'>: expected a class"):
        nets_schema(Builtin=dict)
