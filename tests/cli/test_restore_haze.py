"""Options of models that predict haze, from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import depth_cases as depth
import numpy as np
import pytest
import torch
from PIL import Image

from refusion import cli
from refusion.images.io import read_image, write_image
from refusion.restorers import Conditions, HazeOptions, load_restorer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def restore(tiny_checkpoint, tmp_path, monkeypatch):
    """Run the command with the model of a kind, in a folder with photos a.png to c.png."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        photo(f"in/{name}.png", seed)

    def run(*argv, kind="haze"):
        own = ["--weights", tiny_checkpoint(kind), "--precision", "fp32", "--device", "cpu"]
        return cli.restore_main([str(word) for word in (*argv, *own)])

    return run


@pytest.fixture
def restorer(tiny_checkpoint):
    return load_restorer(tiny_checkpoint("haze"), device="cpu", precision="fp32")


def photo(name, seed=0, height=40, width=60):
    rough = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.interpolate(rough, (height, width), mode="bicubic")[0]
    Path(name).parent.mkdir(exist_ok=True)
    write_image(name, image * 0.8 + 0.1)


def samples(name):
    return read_image(name).samples


@pytest.mark.parametrize(
    ("argv", "strength", "options"),
    [
        (["--strength", "0.5"], 0.5, {}),
        (["--strength", "150%"], 1.5, {}),
        (["--strength", "-2"], -2, {}),
        (["--strength=-50%"], -0.5, {}),
        (["--strength", "-50%"], -0.5, {}),
        (["--distance", "0.4"], 1, {"distance": 0.4}),
        (["--distance", "40%"], 1, {"distance": 0.4}),
        (["--airlight", "51,102,204"], 1, {"airlight": (0.2, 0.4, 0.8)}),
        (["--airlight", "auto", "--exposure", "keep"], 1, {}),
        (["--exposure", "-0.5"], 1, {"exposure": -0.5}),
        (["--exposure", "auto"], 1, {"exposure": "auto"}),
    ],
)
def test_the_options_are_those_of_python(restore, restorer, argv, strength, options):
    assert restore("--input", "in/a.png", "--output", "out.png", *argv) == 0
    haze = Conditions(haze=HazeOptions(**options))
    expected = restorer(samples("in/a.png"), strength=strength, conditions=haze)
    assert torch.equal(samples("out.png"), expected)
    assert not torch.equal(expected, samples("in/a.png"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--strength", "2.1"], "expected a number from -2 to 2, or percent such as 60%, got"),
        (["--strength", "half"], "argument --strength: expected a number"),
        (["--distance", "-0.1"], "argument --distance: expected a number from 0 to 1, or percent"),
        (["--distance", "101%"], "argument --distance: expected a number from 0 to 1, or percent"),
        (["--airlight", "1,2"], "argument --airlight: expected R,G,B in 8-bit levels"),
        (["--airlight", "1,2,256"], "from 0 to 255, e.g. 190,195,205, or auto, got '1,2,256'"),
        (["--airlight", "nan,1,1"], "argument --airlight: expected R,G,B"),
        (["--exposure", "bright"], "argument --exposure: expected auto, keep, or stops from -4 to"),
        (["--exposure", "4.1"], "argument --exposure: expected auto, keep, or stops"),
    ],
)
def test_wrong_values_are_refused(restore, capsys, argv, message):
    with pytest.raises(SystemExit) as ended:
        restore("--input", "in", *argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [["--distance", "1"], ["--airlight", "auto"], ["--exposure", "keep"], ["--same-look"],
     ["--haze-map", "map.png"]],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["latent", "blind"])
def test_other_models_do_not_use_them(restore, capsys, argv, kind):
    assert restore("--input", "in/a.png", *argv, kind=kind) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"refusion: error: {argv[0]}: the '")
    assert line.endswith("it is for models that predict haze (prediction 'scattering')")
    assert not Path("results").exists()


def test_other_models_take_a_strength_from_0_to_1(restore, capsys):
    for strength in ("1.5", "-0.5"):
        assert restore("--input", "in", "--strength", strength, kind="latent") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"error: --strength: expected 0..1, got {strength}; only a model that pred" in line
    assert not Path("results").exists()


@pytest.mark.parametrize("name", ["map.png", "map.tif", "maps/x/map.tiff"])
def test_a_map_of_the_haze(restore, restorer, capsys, name):
    argv = ["--input", "in/a.png", "--output", "out.png", "--haze-map", name]
    assert restore(*argv, "--strength", "0.5") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"haze map: {name}"
    split = restorer.decompose(samples("in/a.png"))
    with Image.open(name) as image:
        assert image.mode in ("I;16", "I;16B")
        found = np.asarray(image).astype(int)
    expected = (1 - split.transmission[0].numpy()) * 65535
    assert np.abs(found - expected).max() <= 0.51
    assert found.min() > 5000
    read = read_image(name)
    assert (read.mode, read.bit_depth) == ("gray", 16)
    assert b"white = only haze, black = no haze" in read.xmp
    assert torch.equal(samples("out.png"), split.clear(0.5))


def test_maps_of_several_photos_are_in_a_folder_and_belong_to_the_results(restore):
    argv = ["--input", "in", "--output", "out", "--haze-map", "maps", "--skip-existing"]
    assert restore(*argv) == 0
    assert sorted(path.name for path in Path("maps").iterdir()) == [
        "a_haze.png", "b_haze.png", "c_haze.png",
    ]  # fmt: skip
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png", "c.png"]
    first, second = Path("maps/a_haze.png"), Path("maps/b_haze.png")
    first.unlink()
    before = second.stat().st_mtime_ns
    assert restore(*argv) == 0
    assert first.exists()
    assert second.stat().st_mtime_ns == before


def test_the_map_of_a_photo_without_effect_is_the_same(restore):
    """The map shows the haze in the photo, not what is removed of it."""
    argv = ["--input", "in/a.png", "--output", "out.png", "--haze-map"]
    assert restore(*argv, "full.png") == restore(*argv, "zero.png", "--strength", "0") == 0
    assert Path("full.png").read_bytes() == Path("zero.png").read_bytes()
    assert torch.equal(samples("out.png"), samples("in/a.png"))


def test_the_map_of_several_samples_is_their_mean(restore, restorer):
    argv = ["--input", "in/a.png", "--output", "out.png", "--haze-map", "map.png", "--samples", 3]
    assert restore(*argv, "--uncertainty", "spread.png") == 0
    image = read_image("in/a.png").image
    splits = [restorer.decompose(image, seed=seed, draw=True) for seed in range(3)]
    mean = torch.stack([split.clear() for split in splits]).mean(0)
    torch.testing.assert_close(read_image("out.png").image, mean, atol=0.51 / 255, rtol=0)
    amount = 1 - torch.stack([split.transmission for split in splits]).mean(0)
    assert not torch.equal(splits[0].transmission, splits[1].transmission)
    found = read_image("map.png").image[:1]
    torch.testing.assert_close(found, amount, atol=0.6 / 65535, rtol=0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--input", "in/a.png", "--haze-map", "in/a.png"],
         "overwrite the input 'in/a.png'; choose another place with --haze-map"),
        (["--input", "in", "--haze-map", "map.png"], "haze map: 'map.png' names one file for sev"),
        (["--input", "in/a.png", "--haze-map", "m.jpg"], "haze map: 'm.jpg': a map is a 16-bit"),
        (["--input", "in/a.png", "--output", "m.png", "--haze-map", "m.png"], "would both become"),
        (["--input", "in/a.png", "--samples", 2, "--uncertainty", "m.png", "--haze-map", "m.png"],
         "would both become"),
    ],
)  # fmt: skip
def test_places_of_maps_are_checked_before_any_work(restore, capsys, argv, message):
    before = Path("in/a.png").read_bytes()
    assert restore(*argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert Path("in/a.png").read_bytes() == before
    assert not Path("results").exists()


def test_the_same_look_is_that_of_the_first_photo(restore, restorer, capsys):
    argv = ["--input", "in", "--exposure", "auto", "--same-look", "--log", "log.json"]
    assert restore(*argv, "--output", "out", "--strength", "1.2") == 0
    first = restorer.decompose(samples("in/a.png"))
    look = first.haze.look(1.2, HazeOptions(exposure="auto"))
    entry = json.loads(Path("log.json").read_text())["look"]
    assert entry == {
        "photo": "in/a.png",
        "airlight": [round(255 * value, 1) for value in look.airlight],
        "exposure": round(look.exposure, 3),
    }
    for name in "abc":
        expected = restorer(
            samples(f"in/{name}.png"), strength=1.2, conditions=Conditions(haze=look)
        )
        assert torch.equal(samples(f"out/{name}.png"), expected)
    shown = ",".join(f"{level:g}" for level in entry["airlight"])
    stops = f"{entry['exposure']:g}"
    assert (
        f"same look: airlight {shown}, exposure {stops}, as in in/a.png" in capsys.readouterr().out
    )


def test_the_same_look_does_not_depend_on_what_is_skipped(restore):
    argv = ["--input", "in", "--exposure", "auto", "--same-look", "--quiet"]
    assert restore(*argv, "--output", "whole") == 0
    assert restore(*argv, "--output", "parts") == 0
    Path("parts/b.png").unlink()
    assert restore(*argv, "--output", "parts", "--skip-existing") == 0
    for name in "abc":
        assert Path(f"parts/{name}.png").read_bytes() == Path(f"whole/{name}.png").read_bytes()
    assert restore("--input", "in/b.png", "--output", "own.png", "--exposure", "auto") == 0
    assert Path("own.png").read_bytes() != Path("whole/b.png").read_bytes()


def test_given_values_stay_with_the_same_look(restore, restorer):
    write_image("in/0.png", torch.full((3, 20, 20), 0.5))  # has no haze
    argv = ["--airlight", "51,102,204", "--exposure", "1", "--same-look"]
    assert restore("--input", "in", "--output", "out", *argv) == 0
    haze = Conditions(haze=HazeOptions(airlight=(0.2, 0.4, 0.8), exposure=1.0))
    assert torch.equal(samples("out/b.png"), restorer(samples("in/b.png"), conditions=haze))


def test_a_series_needs_a_first_photo_with_haze(restore, capsys):
    write_image("in/0.png", torch.full((3, 20, 20), 0.5))
    assert restore("--input", "in", "--same-look") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "same look: the first photo, 'in/0.png', has no haze; begin the list with" in line
    assert not Path("results").exists()


def test_a_broken_first_photo_does_not_end_the_series(restore, restorer, capsys):
    Path("in/0.png").write_text("text")
    (look, *_), warnings = restored_series(restore, capsys, "--same-look", code=1)
    assert look.endswith(", as in in/a.png")
    assert warnings[0].startswith("refusion: warning: same look: in/0.png: not an image")
    assert warnings[0].endswith("; the next photo gives the look")
    assert warnings[1].startswith("refusion: failed: in/0.png: not an image")
    haze = restorer.decompose(samples("in/a.png")).haze.look()
    expected = restorer(samples("in/b.png"), conditions=Conditions(haze=haze))
    assert torch.equal(samples("results/b.png"), expected)
    for path in Path("in").iterdir():
        path.write_text("text")
    lines, warnings = restored_series(restore, capsys, "--same-look", code=1)
    assert not lines and len(warnings) == 9  # a warning and an error for each, and their number


def restored_series(restore, capsys, *argv, code=0):
    """Lines on stdout and on stderr of a run with the folder."""
    assert restore("--input", "in", *argv) == code
    out = capsys.readouterr()
    return out.out.splitlines(), out.err.splitlines()


def test_the_median_look_of_a_series(restore, restorer, capsys):
    write_image("in/0.png", torch.full((3, 20, 20), 0.5))  # has no haze, so it does not count
    Path("in/1.png").write_text("text")
    argv = ["--same-look", "median", "--exposure", "auto", "--log-file", "log.json"]
    (line, *_), warnings = restored_series(restore, capsys, *argv, code=1)
    looks = [
        restorer.decompose(samples(f"in/{name}.png")).haze.look(1, HazeOptions(exposure="auto"))
        for name in "abc"
    ]
    airlight = tuple(sorted(look.airlight[channel] for look in looks)[1] for channel in range(3))
    exposure = sorted(look.exposure for look in looks)[1]
    assert json.loads(Path("log.json").read_text())["look"] == {
        "median_of": 3,
        "airlight": [round(255 * value, 1) for value in airlight],
        "exposure": round(exposure, 3),
    }
    assert line.endswith(", the median of 3 with haze")
    assert len(warnings) == 2 and "failed: in/1.png" in warnings[0]
    haze = Conditions(haze=HazeOptions(airlight=airlight, exposure=exposure))
    assert torch.equal(samples("results/b.png"), restorer(samples("in/b.png"), conditions=haze))


def test_a_series_without_haze_has_no_median(restore, capsys):
    for name in "abc":
        write_image(f"in/{name}.png", torch.full((3, 20, 20), 0.5))
    assert restore("--input", "in", "--same-look=median") == 2
    assert "same look: no photo has haze; leave --same-look out" in capsys.readouterr().err
    for name in "abc":
        Path(f"in/{name}.png").write_text("text")
    assert restore("--input", "in", "--same-look=median") == 1


def test_photos_behind_the_option_are_no_value_of_it(restore, capsys):
    for argv in (["--same-look", "in/b.png", "in/a.png"], ["in/b.png", "--same-look", "in/a.png"]):
        assert restore(*argv) == 0
        assert capsys.readouterr().out.splitlines()[0].endswith("as in in/b.png")
    with pytest.raises(SystemExit):
        restore("in/a.png", "--same-look=best")
    assert "choose from" in capsys.readouterr().err


def test_the_median_look_reads_a_file_without_saying_its_warnings_twice(restore, capsys):
    Path("in/a.jpg").write_bytes(depth.container())
    lines, warnings = restored_series(restore, capsys, "--same-look", "median")
    assert lines[0].endswith(", the median of 4 with haze")
    assert len(warnings) == 1 and "dropped: " in warnings[0]


RUN = """
import sys
from pathlib import Path
from refusion import cli
code = cli.restore_main(sys.argv[1:])
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print("peak", int(peak) // 1024)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_24_megapixels_in_bounded_memory(tiny_checkpoint, tmp_path):
    """JPEG to JPEG in one process takes less than 1 GB, with a map of the haze, too."""
    rough = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(rough, (4000, 6000), mode="bilinear") * 0.8 + 0.1
    write_image(tmp_path / "a.jpg", image[0])
    argv = ["--weights", tiny_checkpoint("haze"), "--device", "cpu", "--input", tmp_path / "a.jpg"]
    argv += ["--output", tmp_path / "b.jpg", "--haze-map", tmp_path / "map.png"]
    command = [sys.executable, "-c", RUN, *map(str, argv), "--exposure", "auto"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.partition("peak ")[2])
    assert peak < 1024, f"{peak} MiB"
    small = [torch.nn.functional.avg_pool2d(read_image(tmp_path / name).image[None], 50)
             for name in ("a.jpg", "b.jpg")]  # fmt: skip
    assert (small[0] - small[1]).abs().mean() > 0.02
