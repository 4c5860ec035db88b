"""`refusion average`: the mean of every tensor, and refusals where there is none."""

from dataclasses import replace

import pytest
import torch

from refusion import cli
from refusion.checkpoint import read_checkpoint, save_checkpoint


@pytest.fixture
def runs(tiny_checkpoint, tmp_path):
    """Two runs of one network, float32."""
    first = read_checkpoint(tiny_checkpoint("pixel"))
    paths = []
    for number in (1, 2):
        generator = torch.Generator().manual_seed(number)
        tensors = {k: torch.randn(t.shape, generator=generator) for k, t in first.tensors.items()}
        paths.append(tmp_path / f"run{number}.safetensors")
        save_checkpoint(paths[-1], first.model, tensors, {"step": number * 100})
    return paths


def test_every_tensor_is_the_weighted_mean(runs, tmp_path, capsys):
    out = tmp_path / "both.safetensors"
    argv = ["average", *map(str, runs), "--shares", "0.2", "0.8", "--output", str(out), "--full"]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == f"{out}\n"
    one, two, both = (read_checkpoint(path) for path in (*runs, out))
    assert both.model == two.model and both.info["step"] == 200
    said = {"file": f"{tmp_path.name}/run1.safetensors", "share": 0.2, "step": 100}
    assert both.info["average_of"][0] == said
    for name, tensor in both.tensors.items():
        expected = 0.2 * one.tensors[name] + 0.8 * two.tensors[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-7)


def test_equal_shares_in_half_the_bytes_by_default(runs, tmp_path):
    out = tmp_path / "both.safetensors"
    assert cli.main(["average", *map(str, runs), "--output", str(out)]) == 0
    both = read_checkpoint(out)
    assert {tensor.dtype for tensor in both.tensors.values()} == {torch.float16}
    assert both.info["average_of"][1]["share"] == 0.5


@pytest.mark.parametrize(("border", "code"), [(0, 0), (4, 2)])
def test_a_default_that_one_run_leaves_out_is_no_difference(runs, tmp_path, capsys, border, code):
    second = read_checkpoint(runs[1])
    network = second.model.network
    assert "border" not in network.settings
    network = replace(network, settings=network.settings | {"border": border})
    save_checkpoint(runs[1], replace(second.model, network=network), second.tensors, second.info)
    out = tmp_path / "both.safetensors"
    assert cli.main(["average", *map(str, runs), "--output", str(out)]) == code
    assert ("its network differs" in capsys.readouterr().err) == (code == 2)


@pytest.mark.parametrize("shares", [["0.5"], ["0.5", "0.6"], ["0.2", "0.3", "0.5"]])
def test_shares_that_do_not_fit_are_one_line(runs, tmp_path, capsys, shares):
    out = tmp_path / "both.safetensors"
    argv = ["average", *map(str, runs), "--output", str(out), "--shares", *shares]
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert "shares: expected 2 numbers that sum to 1" in error and error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("share", ["nan", "inf", "x"])
def test_a_share_that_is_no_number_is_one_line(runs, tmp_path, capsys, share):
    out = tmp_path / "both.safetensors"
    argv = ["average", *map(str, runs), "--output", str(out), "--shares", share, "1"]
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"--shares: expected a number, got '{share}'" in error and error.count("\n") == 1
    assert not out.exists()


def test_other_architectures_are_refused(runs, tiny_checkpoint, tmp_path, capsys):
    out = tmp_path / "both.safetensors"
    other = str(tiny_checkpoint("latent"))
    assert cli.main(["average", str(runs[0]), other, "--output", str(out)]) == 2
    assert "only weights of one architecture can be averaged" in capsys.readouterr().err
    assert not out.exists()
