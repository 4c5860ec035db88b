"""Several photos of one click."""

import zipfile

from app_cases import photo_16

from refusion.app.messages import error_html, note_html, summary_html
from refusion.app.restoring import restore_photo
from refusion.app.series import restore_series
from refusion.batch.options import RestoreOptions
from refusion.restorers import load_restorer


def test_all_results_are_in_the_zip_and_errors_are_named(tiny_checkpoint, tmp_path):
    restorer = load_restorer(tiny_checkpoint("haze"), device="cpu", precision="fp32")
    for folder in ("one", "two", "work"):
        (tmp_path / folder).mkdir()
    photos = [photo_16(tmp_path / "one" / "a.png"), photo_16(tmp_path / "two" / "a.png", 20, 30)]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    reports = []

    def restore(photo, place, report):
        return restore_photo(photo, "haze", restorer, RestoreOptions(), place, report, ".tif")

    archive = tmp_path / "work" / "all.zip"
    files = [photos[0], bad, photos[1]]
    series = restore_series(files, archive, restore, lambda *now: reports.append(now))
    with zipfile.ZipFile(series.archive) as packed:
        assert packed.namelist() == ["a_haze.tif", "a_haze (2).tif"]
        assert packed.testzip() is None
        first = packed.read("a_haze.tif")
    (tmp_path / "single").mkdir()
    done = restore_photo(
        photos[0], "haze", restorer, RestoreOptions(), tmp_path / "single", lambda *_: None, ".tif"
    )
    assert first == done.files[0].read_bytes()
    assert [outcome.sizes for outcome in series.outcomes] == [((56, 40),), ((30, 20),)]
    assert series.first.before.is_file()
    (error,) = series.errors
    assert error.startswith("bad.png: not an image")
    assert not list(archive.parent.rglob("*.tif"))  # they are in the zip only
    shares = [share for share, _ in reports]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert reports[0][1] == "1 of 3: a.png, read"
    text = summary_html(series.outcomes, series.errors, "samples: too few")
    assert "2 of 3 photos restored in" in text
    assert error_html(error) in text
    assert note_html("Samples: too few.") in text


def test_texts_of_users_are_escaped():
    assert "<b>" not in note_html("<b>") + error_html("<b>\n\x1b[31m")
    assert "\x1b" not in error_html("\x1b[31m")
