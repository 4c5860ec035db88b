"""Folders as the Hugging Face Hub has them: written, read, and refused if they are damaged."""

import json
import os
from dataclasses import replace

import pytest
import torch
import yaml
from checkpoint_cases import MODEL, make_tensors
from safetensors.torch import save_file

from refusion.checkpoint import (
    Checkpoint,
    build_model,
    folder,
    read_checkpoint,
    save_folder,
    stored_tensors,
)
from refusion.config import config_to_dict
from refusion.errors import CheckpointError
from refusion.weights import FOLDER, find_weights

INFO = {"step": 5, "licence": "CC0-1.0"}


@pytest.fixture
def saved(tmp_path):
    tensors = {name: tensor.half() for name, tensor in make_tensors().items()}
    path = tmp_path / "model"
    save_folder(path, Checkpoint(MODEL, tensors, INFO, tmp_path / "x.safetensors"))
    return path


def same(a, b):
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a
    )


def test_a_folder_is_read_as_it_was_written(saved):
    found = read_checkpoint(saved)
    assert sorted(file.name for file in saved.iterdir()) == [
        "README.md", "config.json", "model.safetensors"]  # fmt: skip
    assert found.model == MODEL and found.info == INFO
    assert found.path == saved / "model.safetensors"
    assert same(found.tensors, {n: t.half() for n, t in make_tensors().items()})
    alone = read_checkpoint(found.path)
    assert alone.model == MODEL and same(alone.tensors, found.tensors)


def test_the_tensors_of_the_networks_are_those_of_the_file(saved):
    checkpoint = read_checkpoint(saved)
    dtypes = {name: tensor.dtype for name, tensor in checkpoint.tensors.items()}
    assert same(stored_tensors(build_model(checkpoint), dtypes), checkpoint.tensors)


def test_the_config_of_the_folder_counts(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["sampling"]["steps"] == MODEL.sampling.steps
    config["sampling"]["steps"] = 9
    (saved / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(saved).model.sampling.steps == 9
    assert read_checkpoint(saved / "model.safetensors").model == MODEL


def test_tensors_of_another_library_need_no_metadata(saved):
    save_file(make_tensors(), saved / "model.safetensors", {"format": "pt"})
    found = read_checkpoint(saved)
    assert found.model == MODEL and found.info == {} and same(found.tensors, make_tensors())


def test_the_card_has_a_header_and_stays_if_it_exists(saved):
    text = (saved / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header == {
        "license": "CC0-1.0",
        "library_name": "refusion",
        "pipeline_tag": "image-to-image",
        "tags": ["image-restoration", "dehaze"],
    }
    (saved / "README.md").write_text("mine")
    save_folder(saved, replace(read_checkpoint(saved), info={}))
    assert (saved / "README.md").read_text() == "mine"
    assert read_checkpoint(saved).info == {}


@pytest.mark.parametrize("kind", ["config", "weights", "both", "damaged"])
def test_files_of_something_else_are_not_replaced(saved, tmp_path, kind):
    """Only a model that refusion wrote is replaced, or one that it can read."""
    other, checkpoint = tmp_path / "other", read_checkpoint(saved)
    other.mkdir()
    if kind != "weights":
        (other / "config.json").write_text('{"model_type": "bert"}')
    if kind in ("weights", "both"):
        save_file(make_tensors(), other / "model.safetensors", {"format": "pt"})
    if kind == "damaged":
        (other / "model.safetensors").write_bytes(b"x" * 100)
    (other / "notes.txt").write_text("mine")
    before = {file.name: file.read_bytes() for file in other.iterdir()}
    with pytest.raises(CheckpointError, match="of something else, which would be replaced") as e:
        save_folder(other, checkpoint)
    assert str(other) in str(e.value) and "\n" not in str(e.value)
    assert {file.name: file.read_bytes() for file in other.iterdir()} == before


def test_a_model_of_refusion_is_replaced_and_other_files_stay(saved, tmp_path):
    checkpoint = read_checkpoint(saved)
    (saved / "notes.txt").write_text("mine")
    save_folder(saved, replace(checkpoint, info={"step": 6}))
    assert read_checkpoint(saved).info == {"step": 6}
    assert (saved / "notes.txt").read_text() == "mine"
    save_file(checkpoint.tensors, saved / "model.safetensors", {"format": "pt"})
    save_folder(saved, checkpoint)  # the libraries of the hub write no metadata of ours
    assert read_checkpoint(saved).info == INFO
    (tmp_path / "clone").mkdir()  # of a new repository of the hub
    (tmp_path / "clone" / ".gitattributes").touch()
    save_folder(tmp_path / "clone", checkpoint)
    assert same(read_checkpoint(tmp_path / "clone").tensors, checkpoint.tensors)


@pytest.mark.parametrize("card", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_shipped_cards_have_a_header_with_numbers_of_the_card(card):
    _, header, text = card.read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["license"], facts["library_name"]) == ("mit", "refusion")
    assert facts["pipeline_tag"] and "image-restoration" in facts["tags"]
    assert text.startswith(f"# Model card: {card.stem}\n")
    for model in facts.get("model-index", []):
        assert model["name"] == card.stem
        for result in model["results"]:
            assert f"{result['metrics'][0]['value']:.2f}" in text
            assert result["dataset"]["name"].split(",")[0] in text


def test_the_card_of_a_shipped_model_is_saved_without_links_to_other_files():
    checkpoint = read_checkpoint(find_weights("denoise"))
    card = folder.model_card(checkpoint)
    assert card.startswith("---\nlicense: mit\n") and "[estimated](" in (
        FOLDER / "denoise.md").read_text()  # fmt: skip
    assert "is estimated." in card and "](../" not in card


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_file(saved, missing):
    (saved / missing).unlink()
    for read in (read_checkpoint, find_weights):
        with pytest.raises(CheckpointError, match=f"is a folder without {missing}; expected"):
            read(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "not an object"),
        (b"{", "expected a JSON object"),
        (b"\xff\xfe", "expected a JSON object"),
        (b"[" * 100_000, "expected a JSON object"),
        (b" " * (2**20 + 1), "more than 1048576 bytes"),
        (b"{}", "config.json"),
        (b'{"task": "dehaze", "netwrok": {}}', "did you mean"),
        (b'{"task": "dehaze", "network": {"type": "ConditionalNAFNet", "width": 1e99}}', "width"),
    ],
)
def test_damaged_configs_give_one_line(saved, content, message):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(saved)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_of_other_networks_is_noticed(saved):
    config = config_to_dict(MODEL)
    config["network"]["width"] *= 2
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="shape"):
        build_model(read_checkpoint(saved))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes")
def test_a_pipe_is_not_read(saved):
    (saved / "config.json").unlink()
    os.mkfifo(saved / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read: is a pipe"):
        read_checkpoint(saved)


def test_after_an_error_the_old_folder_is_unchanged(saved):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    other = replace(MODEL, task="other")
    bad = {name: tensor * torch.nan for name, tensor in make_tensors().items()}
    with pytest.raises(CheckpointError, match="NaN"):
        save_folder(saved, Checkpoint(other, bad, {}, saved))
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_folder(saved / "README.md", Checkpoint(MODEL, make_tensors(), {}, saved))


def test_the_name_of_a_task_is_no_folder(tmp_path, saved, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved.rename("dehaze")
    assert find_weights("dehaze") == FOLDER / "dehaze.safetensors"
    assert read_checkpoint(find_weights("./dehaze/")).model == MODEL


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("user/model", "user/model: no such weights file or folder; nothing is downloaded: give a"),
        ("", "weights: expected a task, a file or a folder, got an empty name"),
        ("x\ny", r"no default weights for task 'x\ny'"),
    ],
)
def test_names_that_are_no_folder(name, message):
    with pytest.raises(CheckpointError) as caught:
        find_weights(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_needs_a_name(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="expected a folder, got an empty name"):
        save_folder("", read_checkpoint(saved))
    assert sorted(tmp_path.iterdir()) == before


def test_the_hub_reads_and_writes_the_same_folders(saved, tmp_path):
    """A class with the mixin of the hub, whose arguments are the sections of a config."""
    hub = pytest.importorskip("huggingface_hub")
    from refusion.nets import ConditionalNAFNet, LatentUNet

    def built(kind, section):
        return kind(**{key: value for key, value in section.items() if key != "type"})

    class Networks(torch.nn.Module, hub.PyTorchModelHubMixin):
        def __init__(self, task, network, latent_unet, sde, prediction, sampling, upscale):
            super().__init__()
            self.network = built(ConditionalNAFNet, network)
            self.latent_unet = built(LatentUNet, latent_unet)

    theirs = Networks.from_pretrained(saved)
    ours = {n: t.float() for n, t in read_checkpoint(saved).tensors.items()}
    assert same(dict(theirs.state_dict()), ours)
    theirs.save_pretrained(tmp_path / "back")
    back = read_checkpoint(tmp_path / "back")
    assert back.model == MODEL and same(back.tensors, ours)
    build_model(back)
    card = hub.ModelCard((saved / "README.md").read_text())
    assert card.data.library_name == "refusion" and card.data.license == "CC0-1.0"
