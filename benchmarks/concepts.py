"""The pictures and the numbers of docs/concepts.md, computed with the package itself.

    python -m benchmarks.concepts

writes `docs/images/concepts_*` and prints the numbers that the page quotes. The curves use one
pixel whose clean value has a known distribution. So the best estimate of x0 is known in closed form
and takes the place of the network. The photos use the shipped weights for dehazing and the shipped
prior of DDRM. The run takes about two minutes on one CPU core. `--only NAME ...` makes some of the
pictures. The picture `seams` needs a latent dehazing model, `--latent FILE`; it is left out without
one. The page shows that of the former weights:

    git show 264a1b8:refusion/weights/dehaze.safetensors > latent.safetensors
    python -m benchmarks.concepts --only seams --latent latent.safetensors
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.charts import Line, line_chart
from benchmarks.one_pixel import Mixture, spread_error
from refusion.checkpoint import build_model, read_checkpoint
from refusion.images.io import read_image
from refusion.images.resize import shrink
from refusion.metrics import psnr
from refusion.restorers import DDRM, Refusion, load_prior, load_restorer
from refusion.restorers.ddrm.problems import inpaint
from refusion.restorers.statistics import mean_and_std
from refusion.sde import IRSDE, SAMPLERS, THETA_SCHEDULES, SeededNoise
from refusion.synthesis.degradations import build_degradation
from refusion.synthesis.scenes.frame import PhotoFrame
from refusion.weights import find_weights

ROOT = Path(__file__).parents[1]
CLEAN = ROOT / "tests" / "photos" / "oceanic__105518.jpg"
HAZY = ROOT / "examples" / "tea-gardens.jpg"
SDE = IRSDE(max_sigma=50)
SDE_FINE = IRSDE(max_sigma=50, T=20_000)  # so fine that the grid has no effect on the error
PIXEL = Mixture(means=(0.7,), shares=(1.0,), spread=0.25, mu=0.4)  # a Gaussian
GAP, LABEL = 6, 22  # pixels between pictures, and below a picture for its name
TILE = 256
MEASURED = ("ode", "euler", "posterior", "ode-data-1", "ode-data-2", "ode-data-3", "sde-data-2")
CALLS = (10, 20, 40, 80, 160, 320)
SAMPLES = 6  # of the photo with a hole
COUNT = 20_000  # samples of the one-pixel problem


def forward(folder: Path) -> None:
    """States of the forward process of a photo that becomes hazy."""
    clean = shrink(read_image(CLEAN).image[None], 230)[0]
    settings = {"type": "Haze", "clean_share": 0.0, "mean_transmission": [0.35, 0.4]}
    haze = build_degradation(settings)
    hazy = haze(clean, torch.Generator().manual_seed(3), PhotoFrame.whole(clean))["lq"]
    noise = SeededNoise(0).initial(clean[None])[0]
    states = [
        (f"t = {t}", SDE.sample_marginal(clean[None], hazy[None], t, noise[None])[0])
        for t in (0, 25, 50, 75, 100)
    ]
    strip(folder / "concepts_forward.jpg", [*states, ("degraded photo", hazy)], columns=3)


def schedules(folder: Path) -> None:
    """Share of the clean photo and of the noise over time, for every schedule."""
    lines = []
    for name in THETA_SCHEDULES:
        sde = IRSDE(max_sigma=50, schedule=name)
        times = range(0, 101, 5)
        lines.append(Line(f"{name}: signal", tuple((t, sde.signal(t).item()) for t in times)))
        noise = tuple((t, sde.std(t).item() / sde.lam) for t in times)
        lines.append(Line(f"{name}: noise", noise))
        signal = ", ".join(f"{sde.signal(t).item():.3f}" for t in (10, 25, 50, 100))
        print(f"schedule {name}: signal at t = 10, 25, 50, 100: {signal}")
    path = folder / "concepts_schedules.png"
    chart(
        path, lines, title="Share of x0 - mu (signal) and of lambda (noise) in the state",
        x_label="time t", y_label="share",
    )  # fmt: skip


def density(folder: Path) -> None:
    """Densities of the state of one pixel at several times."""
    pixel, x = Mixture(), torch.linspace(-0.1, 1.1, 61, dtype=torch.float64)[:, None]
    lines = [
        Line(
            f"t = {t}", tuple(zip(x[:, 0].tolist(), pixel.density(SDE, x, t).tolist(), strict=True))
        )
        for t in (5, 25, 40, 60, 100)
    ]
    path = folder / "concepts_density.png"
    chart(path, lines, title="Density of one pixel", x_label="value x", y_label="density")


def reverse(folder: Path) -> None:
    """Paths of the reverse process of one pixel from the same start state."""
    runs = [("posterior", 20, 0), ("posterior", 20, 7), ("euler", 100, 1), ("ode", 100, 1)]
    lines = [path_of(*run) for run in (*runs, ("ode-data-2@log_snr", 10, 1))]
    title = "One pixel: the reverse process runs from right to left"
    path = folder / "concepts_reverse.png"
    chart(path, lines, title=title, x_label="time t", y_label="x_t")


def path_of(sampler: str, steps: int, seed: int) -> Line:
    """States of one pixel over time, 21 of them at most."""
    pixel = Mixture()
    mu = torch.full((1, 1), pixel.mu, dtype=torch.float64)
    xT = SDE.initial_state(mu, torch.full_like(mu, 0.15))
    states = [xT.item()]

    def keep(number: int, steps: int, xt: Tensor) -> None:
        states.append(xt.item())

    pixel.sample(SDE, sampler, steps, xT, SeededNoise(seed), callback=keep)
    places = sorted(zip(SAMPLERS[sampler].times(SDE, steps), states, strict=True))
    seeded = f", seed {seed}" if SAMPLERS[sampler].is_random else ""
    return Line(f"{sampler}, {steps} steps{seeded}", tuple(places[:: max(1, steps // 20)]))


def samples_of(pixel: Mixture, sampler: str, steps: int) -> Tensor:
    """COUNT samples of one pixel."""
    noise = SeededNoise(0)
    mu = torch.full((1, COUNT, 1), pixel.mu, dtype=torch.float64)
    xT = SDE.initial_state(mu, noise.initial(mu))
    return pixel.sample(SDE, sampler, steps, xT, noise).flatten()


def steps(folder: Path) -> None:
    """Distribution of the results of one pixel with few and with many steps."""
    pixel, lines = Mixture(), []
    truth = sum(share * mean for share, mean in zip(pixel.shares, pixel.means, strict=True))
    spread = sum(s * (m - truth) ** 2 for s, m in zip(pixel.shares, pixel.means, strict=True))
    variance = spread + pixel.spread**2
    edges = torch.linspace(0, 1, 51, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    x = middles[:, None]
    for calls in (1, 4, 20, 100):
        found = samples_of(pixel, "posterior", calls)
        height = torch.histogram(found.clamp(0, 1), edges).hist / COUNT * 50
        places = zip(middles.tolist(), height.clamp_max(8).tolist(), strict=True)
        lines.append(Line(f"{calls} steps" if calls > 1 else "1 step", tuple(places)))
        error = (found.var(correction=0) + (found.mean() - truth) ** 2 + variance).item()
        between = ((found - pixel.mu).abs() < 0.1).double().mean().item()
        bright = (found > pixel.mu).double().mean().item()
        print(f"one pixel, {calls} steps: mean square error {error:.4f}, ", end="")
        print(f"share of 0.4..0.6 {between:.3f}, share above 0.5 {bright:.3f}")
    places = zip(middles.tolist(), pixel.density(SDE, x, 0).tolist(), strict=True)
    lines.append(Line("true values", tuple(places)))
    path = folder / "concepts_steps.png"
    chart(path, lines, title="Results of one pixel", x_label="value", y_label="density")


def order(folder: Path) -> None:
    """Error of the samplers against network calls for a Gaussian pixel, where it is exact."""
    lines = []
    for name in MEASURED:
        errors = [abs(spread_error(PIXEL, SDE_FINE, f"{name}@log_snr", calls)) for calls in CALLS]
        places = zip(CALLS, (math.log10(error) for error in errors), strict=True)
        lines.append(Line(name, tuple(places)))
        slope = math.log2(errors[2] / errors[4]) / 2
        shown = ", ".join(f"{error:.1e}" for error in errors)
        print(f"{name}: relative error with {CALLS} calls: {shown}; order {slope:.1f}")
    path = folder / "concepts_order.png"
    chart(
        path, lines, title="Relative error of the standard deviation", x_label="network calls",
        y_label="log10 error", log_x=True,
    )  # fmt: skip


def strength(folder: Path) -> None:
    """A photo restored with several strengths."""
    photo = shrink(read_image(HAZY).image[None], 300)
    restorer = load_restorer("dehaze", device="cpu", precision="fp32")
    results = [(f"strength {s:g}", restorer.restore(photo, strength=s)[0]) for s in (0, 0.5, 1)]
    strip(folder / "concepts_strength.jpg", results, columns=3)


def uncertainty(folder: Path) -> None:
    """Samples of a photo with a hole, their mean and their standard deviation."""
    photo = shrink(read_image(CLEAN).image[None], 128)[..., 4:68, 24:120]
    kept = torch.ones(photo.shape[-2:], dtype=torch.bool)
    kept[20:44, 30:60] = False
    restorer = DDRM(load_prior(device="cpu", precision="fp32"), inpaint(kept), sigma=0.0)
    given = photo * kept
    samples = [restorer.restore(given, steps=10, seed=seed)[0] for seed in range(SAMPLES)]
    mean, deviation = mean_and_std(sample.clone() for sample in samples)
    inside = deviation[0][~kept].mean().item()
    print(f"uncertainty: mean standard deviation in the hole {inside:.3f}")
    print(f"uncertainty: outside the hole {deviation[0][kept].mean().item():.4f}")
    alone = sum(psnr(sample[None], photo).item() for sample in samples) / len(samples)
    print(f"uncertainty: PSNR of one sample {alone:.2f} dB, ", end="")
    print(f"of the mean of the samples {psnr(mean[None], photo).item():.2f} dB")
    shown = [("given", given[0]), ("seed 0", samples[0]), ("seed 1", samples[1])]
    shown += [("seed 2", samples[2]), (f"mean of {SAMPLES}", mean)]
    shown.append(("standard deviation", (deviation / 0.2).clamp(0, 1).expand(3, -1, -1)))
    large = [(name, F.interpolate(image[None], scale_factor=2.0)[0]) for name, image in shown]
    strip(folder / "concepts_uncertainty.jpg", large, columns=3)


def seams(folder: Path, latent: Path) -> None:
    """Tiles that a latent model restores one by one, against exact tiles."""
    photo = shrink(read_image(HAZY).image[None], 768)
    restorer = load_restorer(latent, device="cpu", precision="fp32")
    whole = restorer.restore(photo, tile=None)
    separate = torch.empty_like(whole)
    for top in range(0, photo.shape[-2], TILE):
        for left in range(0, photo.shape[-1], TILE):
            area = (..., slice(top, top + TILE), slice(left, left + TILE))
            separate[area] = restorer.restore(photo[area], tile=None)
    exact = restorer.restore(photo, tile=TILE)
    shown = [("separate tiles", separate[0]), ("exact tiles", exact[0])]
    for name, result in list(shown):
        difference = (result - whole[0]).abs()
        largest, mean = 255 * difference.max().item(), 255 * difference.mean().item()
        print(f"{name}: difference {largest:.4g} levels at most, {mean:.4g} in the mean")
        shown.append(("difference from the result without tiles x 2", 2 * difference))
    strip(folder / "concepts_seams.jpg", [(name, x[:, ::2, ::2]) for name, x in shown], columns=2)


def guided(folder: Path) -> None:
    """The haze (1 - t) of a small copy, enlarged plainly and by guided upsampling."""
    photo = shrink(read_image(HAZY).image[None], 1536)
    haze = Refusion(build_model(read_checkpoint(find_weights("dehaze")))).decompose(photo)
    small, size = haze.scattering.transmission, photo.shape[-2:]
    print(f"guided: {size[1]} x {size[0]} pixels, copy {small.shape[-1]} x {small.shape[-2]}")
    plain = F.interpolate(small, size, mode="bilinear", align_corners=False)
    part = (0, slice(None), slice(365, 555), slice(1266, 1536))
    maps = [1 - each[part] for each in (plain, haze.transmission(photo))]
    low, high = (f(torch.stack(maps)) for f in (torch.min, torch.max))
    shown = [((each - low) / (high - low)).expand(3, -1, -1) for each in maps]
    names = ("photo", "plain", "guided")
    pictures = list(zip(names, (photo[part], *shown), strict=True))
    strip(folder / "concepts_guided.jpg", pictures, columns=3)


def chart(path: Path, lines: Sequence[Line], **labels: object) -> None:
    """Write a line chart with few colours, so that the file is small."""
    line_chart(path, lines, **labels)
    with Image.open(path) as picture:
        picture.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


def strip(path: Path, pictures: Sequence[tuple[str, Tensor]], *, columns: int) -> None:
    """Write pictures of one size (3, H, W) in [0, 1] in rows, each with its name below it."""
    height, width = pictures[0][1].shape[-2:]
    count = -(-len(pictures) // columns)
    size = (columns * (width + GAP) - GAP, count * (height + LABEL))
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, (name, picture) in enumerate(pictures):
        left, top = number % columns * (width + GAP), number // columns * (height + LABEL)
        levels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        canvas.paste(Image.fromarray(levels.numpy()), (left, top))
        draw.text((left + width / 2, top + height + LABEL / 2), name, "black", font, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, quality=82, optimize=True)


PICTURES: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        forward, schedules, density, reverse, steps, order, strength, uncertainty, seams, guided,
    )
}  # fmt: skip
"""Value of `--only` -> function that makes the picture."""


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concepts", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PICTURES, metavar="NAME", help="some pictures")
    parser.add_argument("--latent", metavar="FILE", help="latent dehazing model, for `seams`")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images", metavar="DIR")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Make the pictures that the arguments name."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if "seams" in (options.only or ()) and options.latent is None:
        parser.error("--latent: 'seams' needs the weights file of a latent dehazing model")
    possible = [name for name in PICTURES if name != "seams" or options.latent]
    for name in options.only or possible:
        latent = [options.latent] if name == "seams" else []
        PICTURES[name](options.output, *latent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
