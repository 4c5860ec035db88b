"""Values that a program sends instead of the page."""

import math

import pytest

from refusion.app.values import checked_options, checked_values, offered_model, uploaded_photo
from refusion.batch.options import RestoreOptions
from refusion.errors import ConfigError

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
    assert str(uploads) not in str(error.value)


@pytest.mark.parametrize(
    "value", ["/etc/passwd", 3, [], [{"path": "/a", "meta": {}}], {}, {"path": 3}, True]
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


def test_a_photo_is_needed():
    assert uploaded_photo({"path": "/a"}) == "/a"
    with pytest.raises(ConfigError, match="no photo"):
        uploaded_photo(None)
