"""The benchmark renders both lenses from a map, measures, and says what became of the subject."""

import torch

from benchmarks import bokeh_scenes
from refusion.images.io import write_image


def test_a_scene_is_rendered_and_measured(tmp_path, tiny_checkpoint):
    photo, place, near = tmp_path / "photo.png", tmp_path / "map.png", torch.zeros(3, 48, 64)
    near[:, 12:36, 20:44] = 1
    write_image(photo, torch.rand(3, 48, 64))
    write_image(place, near)
    files = [str(photo), str(place)]
    options = bokeh_scenes.build_parser().parse_args([*files, "--blur", "0.1"])
    item = bokeh_scenes.Scenes(options)[0]
    assert item["lens"].tolist()[:2] == [160.0, -14.0]
    subject = item["guide"][1] == 0.5
    assert torch.equal(subject, near[0] == 1)
    assert torch.equal(item["lq"][:, subject], item["gt"][:, subject])
    assert float((item["lq"] - item["gt"]).abs()[:, ~subject].mean()) > 0.05
    text = bokeh_scenes.run([*files, "--blur", "0.1", "--weights", str(tiny_checkpoint("guided"))])
    assert "mean of 1" in text
    assert "\ndisc blur " in text and "\nrenderer " in text
    assert f"{tmp_path.name}/photo: 19%, 0.00, " in text
