"""Values that a program sends instead of the page."""

import math
from pathlib import Path

import pytest
from app_cases import FIELDS

from refusion.app.values import (
    checked_focus,
    checked_format,
    checked_options,
    checked_settings,
    checked_values,
    offered_model,
    uploaded,
)
from refusion.batch.options import RestoreOptions
from refusion.errors import ConfigError
from refusion.restorers import Conditions, load_restorer

NAN, INF = math.nan, math.inf


@pytest.fixture
def uploads(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.png").touch()
    (tmp_path / "secret.png").touch()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def file(path, **more):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}} | more


def test_values_of_the_page_are_kept(uploads):
    photo = file(uploads / "a.png")
    values = [photo, "dehaze", 0, 0.5, None]
    assert checked_values(values, [True, False, False, False, False], uploads) == values
    assert checked_values([None], [True], uploads) == [None]
    sent = file(uploads / "a.png", url="http://evil.example/x", size=3, other={"path": "/x"})
    assert checked_values([sent], [True], uploads) == [photo]
    assert checked_values([[photo, sent]], [True], uploads) == [[photo, photo]]
    assert checked_values([[]], [True], uploads) == [[]]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../secret.png", "{}/../secret.png", "{}/link.png", "{}/absent.png", "{}",
     "http://evil.example/a.png", "https://evil.example/a.png", "file:///etc/passwd",
     "\0", "{}/\0", "", "x" * 100_000],
)  # fmt: skip
def test_only_uploaded_files_are_read(uploads, path):
    path = path.format(uploads)
    with pytest.raises(ConfigError, match="not an uploaded file") as error:
        checked_values([file(path)], [True], uploads)
    with pytest.raises(ConfigError, match="not an uploaded file"):
        checked_values([[file(uploads / "a.png"), file(path)]], [True], uploads)
    assert str(uploads) not in str(error.value)


@pytest.mark.parametrize(
    "value",
    ["/etc/passwd", 3, [3], ["/a"], [[]], [[{"path": "/a", "meta": {}}]], {}, {"path": 3}, True],
)
def test_a_file_is_a_file(uploads, value):
    with pytest.raises(ConfigError, match="expected an uploaded file"):
        checked_values([value], [True], uploads)


@pytest.mark.parametrize("value", [[], {}, [1], {"path": "/etc/passwd"}])
def test_other_fields_hold_no_files(uploads, value):
    with pytest.raises(ConfigError, match="expected a text or a number"):
        checked_values([value], [False], uploads)


@pytest.mark.parametrize("values", [[], [1], [1, 2, 3]])
def test_all_fields_have_one_value(uploads, values):
    with pytest.raises(ConfigError, match=f"expected 2 values, got {len(values)}"):
        checked_values(values, [False, False], uploads)


def test_empty_fields_mean_the_defaults():
    assert checked_options(None, None, None, None, 7) == RestoreOptions(max_pixels=7)
    assert checked_options(0, 1, 0, 1, 7) == RestoreOptions(max_pixels=7)
    options = checked_options(4.0, 0.5, 2**53 - 1, 64, 7)
    assert (options.steps, options.strength, options.seed, options.samples) == (
        4, 0.5, 2**53 - 1, 64,
    )  # fmt: skip
    assert isinstance(options.steps, int)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("steps", [-1, 1001, 1.5, NAN, INF, -INF, 10**30, "4", True, [], 1e300]),
        ("strength", [-0.1, 1.01, NAN, INF, "1", False, [1], {}]),
        ("seed", [-1, 2**53, 0.5, NAN, INF, 1e300, 10**400, 10**5000, "x" * 1000]),
        ("samples", [0, -1, 65, 10**9, 1.5, NAN, "2", True]),
    ],
)
def test_numbers_have_ranges(field, values):
    for value in values:
        fields = {"steps": 0, "strength": 1, "seed": 0, "samples": 1} | {field: value}
        with pytest.raises(ConfigError, match=rf"^{field}: expected") as error:
            checked_options(**fields, max_pixels=7)
        assert len(str(error.value)) < 150


def test_the_task_is_one_of_the_offered():
    assert offered_model({"dehaze": 1}, "dehaze") == "dehaze"
    for value in ("derain", "", None, 3, ["dehaze"], {}):
        with pytest.raises(ConfigError, match="task: expected one of dehaze"):
            offered_model({"dehaze": 1}, value)


def test_paths_of_uploaded_files():
    assert uploaded({"path": "/a"}) == ["/a"]
    assert uploaded([{"path": "/a"}, {"path": "/b"}]) == ["/a", "/b"]
    assert uploaded(None) == uploaded([]) == []


def test_a_format_has_a_suffix_and_a_quality_if_it_is_lossy():
    assert checked_format(None, None) == checked_format("photo", 3) == (None, None)
    assert checked_format("png", 50) == (".png", None)
    assert checked_format("jpeg", 50) == (".jpg", 50)
    assert checked_format("webp", None) == (".webp", 95)
    for kind in ("exe", ".png", "", 3, ["png"]):
        with pytest.raises(ConfigError, match=r"^format: expected one of photo, jpeg, png"):
            checked_format(kind, 95)
    for quality in (0, 101, 1.5, NAN, "95", True):
        with pytest.raises(ConfigError, match=r"^quality: expected a whole number from 1 to 100"):
            checked_format("jpeg", quality)


def test_a_focus_is_a_point_of_the_photo():
    assert checked_focus(None) is checked_focus("") is checked_focus("  ") is None
    assert checked_focus("0.5, 1") == (0.5, 1)
    for text in ("0.5", "0.5,2", "-0.1,0", "a,b", "nan,0", "1,1,1", 3, True, [0.5, 0.5]):
        with pytest.raises(ConfigError, match=r"^focus: expected two numbers from 0 to 1"):
            checked_focus(text)


@pytest.fixture(scope="module")
def models(tiny_checkpoint):
    kinds = ("latent", "haze")
    return {kind: load_restorer(tiny_checkpoint(kind), device="cpu") for kind in kinds}


def test_fields_that_a_model_does_not_have_do_nothing(models):
    values = FIELDS | {"samples": 8, "seed": 5, "noise_level": 20, "distance": 0.5, "maps": []}
    options = checked_settings(values | {"task": "haze"}, models, 7).options
    assert (options.samples, options.seed, options.conditions.noise_std) == (1, 0, None)
    assert options.conditions.haze.distance == 0.5
    options = checked_settings(values | {"strength": 45}, models, 7, 9).options
    assert (options.samples, options.seed, options.conditions) == (8, 5, Conditions())
    assert (options.strength, options.max_pixels, options.max_memory) == (0.45, 7, 9)


def test_the_photos_and_the_format_are_part_of_the_settings(models):
    photos = [{"path": "/a.jpg"}, {"path": "/b.jpg"}]
    values = FIELDS | {"photos": photos, "format": "jpeg", "quality": 60, "maps": photos}
    settings = checked_settings(values, models, 7)
    assert settings.photos == (Path("/a.jpg"), Path("/b.jpg"))
    assert (settings.suffix, settings.options.quality) == (".jpg", 60)
    assert settings.maps == ()  # the model takes none
