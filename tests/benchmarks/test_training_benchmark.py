import pytest

from benchmarks.training import (
    VARIANTS,
    Timing,
    build_parser,
    overrides,
    table,
    write_photos,
    write_unet,
)
from refusion.checkpoint import build_model, read_checkpoint
from refusion.config import load_config
from refusion.training.paths import check_paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    for name in ("photos", "same"):
        write_photos(folder / name)
    write_unet(folder / "unet.safetensors")
    return folder


@pytest.mark.parametrize("opt", ["options/dehaze.yml", "options/deshadow.yml"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_finds_what_it_reads_and_keeps_the_published_model(opt, variant, folder):
    options = build_parser().parse_args([])
    published = load_config(opt)
    config = load_config(opt, overrides(variant, opt, options, folder))
    check_paths(config)
    assert config.network == published.network
    assert config.data.batch_size == published.data.batch_size
    assert config.data.train.settings["patch"] == published.data.train.settings["patch"]
    is_plain = variant == "plain"
    assert config.train.precision == ("fp32" if is_plain else "auto")
    assert (config.data.workers == 0) == is_plain
    assert config.train.compile == (variant == "compiled")
    has_latent = config.latent_unet is not None
    assert bool(config.data.cached_latents) == (has_latent and not is_plain)


def test_the_latent_unet_is_one_the_trainer_can_read(folder):
    model = build_model(read_checkpoint(folder / "unet.safetensors"))
    assert sum(p.numel() for p in model.latent_unet.parameters()) == pytest.approx(
        2.008e6, rel=1e-3
    )


def test_ratios_are_medians_over_rounds_and_not_of_medians():
    plain = [Timing(step, 0.5, 100, 1) for step in (1.0, 10.0, 4.0)]
    tuned = [Timing(step, 0.01, 50, 2) for step in (0.25, 5.0, 1.0)]  # 4, 2 and 4 times
    rows = table("a.yml", {"plain": plain, "tuned": tuned}).splitlines()
    assert rows[2] == "| plain | 4.00 | 0.250 | 1.00 | 100 | 50.0% | 1 |"
    assert rows[3] == "| tuned | 1.00 | 1.000 | 4.00 | 50 | 1.0% | 2 |"
