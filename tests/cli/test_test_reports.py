"""`refusion test`: sets of --data, CSV, the page, baselines, and continuing after an interrupt."""

import csv
import json
import os
import re
import signal
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import needs_chromium, opened_browser
from cli_cases import make, pixels

from refusion import cli
from refusion.cli.test import folders_of
from refusion.evaluation.baselines import BASELINES
from refusion.evaluation.result_files import PROGRESS
from refusion.images.io import read_image
from refusion.metrics import score_pair
from refusion.metrics.fid import frechet_distance
from refusion.metrics.niqe import Niqe
from refusion.restorers import ColourAttenuation, Refusion, load_restorer
from refusion.restorers.dark_channel import dark_channel_prior


@pytest.fixture
def call(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    """Run the command on three pairs with a tiny model; exit code and stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(3):
        make(f"lq/{number}.png", seed=number)
        make(f"gt/{number}.png", seed=number + 9)

    def run(*argv, kind="latent", data=("a=lq:gt",)):
        given = [word for one in data for word in ("--data", one)]
        own = ["--weights", tiny_checkpoint(kind), "--device", "cpu", "--precision", "fp32"]
        code = cli.test_main([str(word) for word in (*given, *own, *argv)])
        return code, capsys.readouterr().out

    return run


def numbers(path="out/scores.json", name="a"):
    images = json.loads(Path(path).read_text(encoding="utf-8"))["sets"][name]["images"]
    return {row["name"]: row["result"] for row in images}


@pytest.mark.parametrize(
    ("text", "lq", "gt"),
    [
        ("a=lq", "lq", None),
        ("a=/x/lq:/y/gt", "/x/lq", "/y/gt"),
        (r"a=C:\x\lq:D:\gt", r"C:\x\lq", r"D:\gt"),
    ],
)
def test_folders_from_text(text, lq, gt):
    chosen = folders_of(text)
    assert (chosen.name, str(chosen.lq)) == ("a", lq)
    assert chosen.gt == (None if gt is None else Path(gt))


@pytest.mark.parametrize("text", ["lq", "a=", "=lq", "a=b:c:d", "a/b=lq", "a=b:"])
def test_wrong_text_for_folders_is_refused(call, text):
    with pytest.raises(SystemExit):
        call(data=[text])


def test_sets_of_data_and_all_report_files(call):
    code, out = call("--output", "out", data=["a=lq:gt", "blind=lq"])
    assert code == 0
    assert out.index("a\n") < out.index("blind\n")
    assert "psnr_y: dB, Y (BT.601 luma, 16 to 235 of 255)" in out
    assert out.count("with reading and writing") == 2
    lines = list(csv.DictReader(Path("out/scores.csv").read_text("utf-8").splitlines()))
    assert [line["image"] for line in lines[::2]] == ["0", "1", "2", "mean"] * 2
    for line in lines:
        if (line["set"], line["method"]) == ("a", "result") and line["image"] != "mean":
            expected = numbers()[line["image"]]
            assert {k: float(line[k]) for k in expected} == pytest.approx(expected)
            assert float(line["seconds"]) > 0
    assert lines[-1]["psnr"] == ""
    report = json.loads(Path("out/scores.json").read_text(encoding="utf-8"))
    assert report["metrics"]["ssim"].startswith("Gaussian window")
    assert (pixels("out/a/0.png") == pixels("out/blind/0.png")).all()
    assert not list(Path("out").rglob(PROGRESS))


def test_crop_border_is_applied_and_stated(call):
    call("--output", "whole")
    _, out = call("--output", "cut", "--crop-border", 4)
    assert "border of 4 px cut" in out
    assert numbers("whole/scores.json") != numbers("cut/scores.json")
    assert (pixels("whole/a/0.png") == pixels("cut/a/0.png")).all()


def interrupt_third(monkeypatch):
    """Make the third restoration raise KeyboardInterrupt; returns the list of all calls."""
    restore, calls = Refusion.restore, []

    def interrupted(self, lq, **options):
        calls.append(lq)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return restore(self, lq, **options)

    monkeypatch.setattr(Refusion, "restore", interrupted)
    return calls


def test_an_interrupted_run_continues(call, monkeypatch):
    assert call("--output", "whole")[0] == 0
    calls = interrupt_third(monkeypatch)
    assert call("--output", "out")[0] == 130
    assert len(Path("out/a", PROGRESS).read_text(encoding="utf-8").splitlines()) == 3
    assert call("--output", "out")[0] == 0
    assert len(calls) == 4  # the third photo alone
    assert numbers() == numbers("whole/scores.json")
    assert call("--output", "out")[0] == 0
    assert len(calls) == 7  # a finished run is done anew


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_is_an_interrupt(call, monkeypatch, name):
    number = getattr(signal, name)
    monkeypatch.setattr(Refusion, "restore", lambda *_, **__: signal.raise_signal(number))
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert call("--output", "out")[0] == 130
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert [path.name for path in Path("out/a").iterdir()] == [PROGRESS]


@pytest.mark.parametrize("change", ["option", "plug-in", "photo", "result", "half line"])
def test_a_changed_run_restores_photos_again(call, monkeypatch, change):
    calls = interrupt_third(monkeypatch)
    call("--output", "out")
    if change == "photo":
        make("lq/2.png", seed=50)
    if change == "result":
        Path("out/a/1.png").unlink()
    if change == "half line":
        text = Path("out/a", PROGRESS).read_text(encoding="utf-8")
        Path("out/a", PROGRESS).write_text(text[:-20], encoding="utf-8")
    more = {"option": ["--seed", 5], "plug-in": ["--plugin", "json"]}.get(change, [])
    assert call("--output", "out", *more)[0] == 0
    assert len(calls) == 3 + (2 if change in ("result", "half line") else 3)


FORGED = {
    "not UTF-8": b"\xff\xfe\n",
    "nested": b"[" * 200_000,
    "name": {"name": 5},
    "no name": {"name": ""},
    "long name": {"name": "a" * 300},
    "name elsewhere": {"name": "../a/0"},
    "text": {"result": "abc"},
    "no number": {"result": {"psnr": "x"}},
    "other metrics": {"input": {}},
    "number too large": {"result": {"psnr": 10**400}},
    "time": {"seconds": None},
    "endless time": {"io_seconds": float("inf")},
    "long": b" " * 3_000_000,
}


@pytest.mark.parametrize("case", FORGED)
def test_a_progress_file_from_somebody_else_is_not_believed(call, monkeypatch, case):
    calls, progress = interrupt_third(monkeypatch), Path("out/a", PROGRESS)
    call("--output", "out")
    head, first, _ = progress.read_bytes().splitlines(keepends=True)
    forged = FORGED[case]
    if isinstance(forged, dict):
        forged = json.dumps(json.loads(first) | forged).encode()
    progress.write_bytes(head + forged)
    assert call("--output", "out")[0] == 0
    assert len(calls) == 6
    progress.write_bytes(forged if isinstance(FORGED[case], bytes) else head[:-9])
    assert call("--output", "out")[0] == 0
    assert len(calls) == 9


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_page_is_self_contained_and_shows_the_worst_first(call):
    assert call("--output", "out", "--html", "page/p.html")[0] == 0
    text = Path("page/p.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    everything = [attrs for tag, attrs in page.tags if tag == "img"]
    assert all(attrs["src"].startswith("data:image/jpeg;base64,/9j/") for attrs in everything)
    pictures = [attrs for attrs in everything if "class" in attrs]
    assert [attrs["class"] for attrs in pictures] == ["after", "before"] * 3
    assert not re.search(r"https?://|<link|src=\"(?!data:)", text)
    sliders = [attrs for tag, attrs in page.tags if tag == "input"]
    assert [attrs["type"] for attrs in sliders] == ["range"] * 3
    shown = [attrs["alt"].split(":")[0] for attrs in pictures[::2]]
    scores = numbers()
    assert shown == sorted(scores, key=lambda name: scores[name]["psnr"])
    assert "dB, RGB, data range 1 (255 levels), no border cut" in text


@pytest.mark.slow
@needs_chromium
def test_page_in_a_browser(call, tmp_path):
    """The slider works, the worst photo comes first, and the page loads no other file."""
    make("lq/3.png", 60, 90, seed=3)
    make("gt/3.png", 60, 90, seed=12)
    assert call("--output", "out", "--html", "p.html")[0] == 0
    scores = numbers()
    with opened_browser(tmp_path / "profile") as tab:
        tab.open(Path("p.html").resolve().as_uri())
        heads = tab.evaluate("[...document.querySelectorAll('h3')].map(e => e.innerText)")
        assert heads == sorted(scores, key=lambda name: scores[name]["psnr"])
        sizes = tab.evaluate(
            "[...document.querySelectorAll('.pair img')].map(i => i.complete && i.naturalWidth)"
        )
        assert sorted(sizes) == [14] * 6 + [90] * 2
        left, top, width, height = tab.box(".pair")
        shown = "getComputedStyle(document.querySelector('.before')).clipPath"
        assert "50%" in tab.evaluate(shown) or f"{width / 2}" in tab.evaluate(shown)
        middle = top + height / 2
        covered = []
        for share in (0.25, 0.75):
            tab.drag((left + width / 2, middle), (left + share * width, middle))
            tab.evaluate("document.activeElement.blur()")
            covered.append(tab.evaluate("document.querySelector('.pair input').valueAsNumber"))
            line = tab.evaluate("getComputedStyle(document.querySelector('.pair'), '::after').left")
            assert float(line.removesuffix("px")) == pytest.approx(width * covered[-1] / 100, abs=1)
            tab.drag((left + share * width, middle), (left + width / 2, middle))
        assert covered == pytest.approx([25, 75], abs=2)
        assert tab.requests() == [Path("p.html").resolve().as_uri()]
        assert not tab.errors()


def test_names_cannot_break_the_page(call):
    make('lq/a"<b>.png')
    make('gt/a"<b>.png', seed=3)
    assert call("--output", "out", "--html", "p.html")[0] == 0
    assert "<b>" not in Path("p.html").read_text(encoding="utf-8")


def test_baselines(call, tiny_checkpoint):
    code, out = call("--output", "out", "--baselines", *BASELINES)
    assert code == 0
    rows = json.loads(Path("out/scores.json").read_text(encoding="utf-8"))["sets"]["a"]["images"]
    methods = {
        # initialized with the same seed, so it is equal to the U-Net of the model
        "latent_unet": load_restorer(tiny_checkpoint("unet"), precision="fp32").restore,
        "dark_channel": dark_channel_prior,
        "colour_attenuation": ColourAttenuation().restore,
    }
    assert set(methods) == set(BASELINES)
    lq, gt = (read_image(f"{folder}/0.png").image[None] for folder in ("lq", "gt"))
    for name, method in methods.items():
        expected = score_pair(method(lq), gt)["psnr"]
        assert rows[0][name]["psnr"] == pytest.approx(expected, abs=1e-5)
        assert f"\n{name} " in out
    assert rows[0]["latent_unet"] != rows[0]["input"]


def test_dark_channel_prior_removes_haze():
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(1, 3, 80, 90, generator=generator)
    clean[:, 0] *= 0.1  # dark somewhere in every patch, as the prior says
    light = torch.tensor([0.9, 0.92, 0.95]).view(1, 3, 1, 1)
    clean[..., :16, :16] = light  # sky
    hazy = clean * 0.5 + light * 0.5
    restored = dark_channel_prior(hazy)
    error = [(x - clean)[..., 30:, 30:].abs().mean().item() for x in (hazy, restored)]
    assert error[1] < 0.35 * error[0]
    assert restored.shape == hazy.shape


def test_fid_of_results_and_input(call, monkeypatch):
    class Colours:
        """Replaces the network; the features are the mean colour of an image."""

        def __init__(self, weights):
            assert weights == Path("inception.pth")

        def features(self, image):
            return image.double().mean((2, 3))

    monkeypatch.setattr("refusion.metrics.fid.Fid", Colours)
    code, out = call("--output", "out", "--fid", "inception.pth", "--html", "p.html")
    assert code == 0
    values = json.loads(Path("out/scores.json").read_text(encoding="utf-8"))["sets"]["a"]["fid"]
    assert f"fid of 3: input {values['input']:.4f}, result {values['result']:.4f}" in out
    assert "fid: input" in Path("p.html").read_text(encoding="utf-8")
    folders = {"input": "lq", "result": "out/a", "gt": "gt"}
    means = {
        key: [read_image(f"{folder}/{n}.png").image.mean((1, 2))[None].double() for n in range(3)]
        for key, folder in folders.items()
    }
    for key, value in values.items():
        assert value == pytest.approx(frechet_distance(means[key], means["gt"]), abs=1e-6)
    assert call("--fid", "inception.pth")[0] == 2
    for less in (["--limit", 1], []):
        data = ["a=lq:gt"] if less else ["a=lq"]
        code, out = call("--output", "less", "--fid", "inception.pth", *less, data=data)
        assert code == 0
        assert "not measured, it needs ground truth and two photos at least" in out


def test_files_of_metrics_are_checked_before_photos_are_restored(call, monkeypatch):
    monkeypatch.delattr(Refusion, "restore")
    for argv in (["--fid", "absent.pth"], ["--lpips", "absent.pth", "absent.pth"]):
        assert call("--output", "out", *argv)[0] == 2


def test_niqe_is_reported_without_ground_truth(call, tmp_path):
    np.savez("n.npz", mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    make("big/x.png", 100, 200)
    code, out = call("--output", "out", "--niqe", "n.npz", data=["a=big"])
    assert code == 0
    row = numbers()["x"]
    assert set(row) == {"niqe"}
    assert row["niqe"] == pytest.approx(Niqe("n.npz")(read_image("out/a/x.png").image[None]).item())
    assert "niqe: no reference, Y (BT.601 luma), blocks of 96 px, no border cut" in out
    assert call("--niqe", "absent.npz")[0] == 2
