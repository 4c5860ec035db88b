"""The log of a batch, at any moment a whole document."""

import json
import os
from pathlib import Path

import pytest

from refusion.batch.jobs import Outcome
from refusion.batch.log import BatchLog
from refusion.batch.plan import Job, PhotoFiles, split_jobs
from refusion.errors import ConfigError


def job(*names):
    return Job(tuple(PhotoFiles(Path("in", name), Path("out", name)) for name in names))


def seconds(restore):
    return {"read": 0.1, "restore": restore, "write": 0.2}


def test_the_document_is_whole_after_every_photo(tmp_path):
    path = tmp_path / "new/log.json"
    log = BatchLog(path, {"version": "1"})
    empty = {"restored": 0, "skipped": 0, "failed": 0, "median_seconds": {}}
    assert json.loads(path.read_text()) == {"version": "1", "summary": empty, "photos": []}
    for number in range(1, 4):
        outcome = Outcome(job(f"é{number}.png"), seconds=seconds(number**2), sizes=((4, 3),))
        log.add(outcome)
        assert len(json.loads(path.read_text("utf-8"))["photos"]) == number
    log.add(Outcome(job("b.png"), "b.png: broken", seconds={"read": 0.1}))
    log.add(Outcome(job("c.png"), skipped=True))
    document = json.loads(path.read_text("utf-8"))
    middle = {"read": 0.1, "restore": 4, "write": 0.2}
    counts = {"restored": 3, "skipped": 1, "failed": 1, "median_seconds": middle}
    assert document["summary"] == counts
    assert document["photos"][0] == {
        "input": "in/é1.png",
        "output": "out/é1.png",
        "width": 4,
        "height": 3,
        "seconds": seconds(1),
        "error": None,
        "skipped": False,
        "unchanged": False,
    }
    broken, skipped = document["photos"][3:]
    assert (broken["error"], broken["width"], broken["seconds"]) == (
        "b.png: broken",
        None,
        {"read": 0.1},
    )
    assert (skipped["skipped"], skipped["error"], skipped["seconds"]) == (True, None, {})
    assert [file.name for file in path.parent.iterdir()] == ["log.json"]


def test_an_estimated_noise_level_is_logged(tmp_path):
    log = BatchLog(tmp_path / "log.json", {})
    log.add(Outcome(job("a.png"), noise_level=12.5))
    assert json.loads(log.path.read_text())["photos"][0]["noise_level"] == 12.5


def test_a_name_that_is_no_utf_8_is_escaped_in_json_s_way(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    log = BatchLog(tmp_path / "log.json", {})
    log.add(Outcome(job(name)))
    assert rb"caf\udce9.jpg" in log.path.read_bytes()
    assert Path(json.loads(log.path.read_text("utf-8"))["photos"][0]["input"]).name == name


def test_a_pair_is_two_photos_of_half_the_time(tmp_path):
    log = BatchLog(tmp_path / "log.json", {})
    log.add(Outcome(job("a_L.png", "a_R.png"), seconds=seconds(3.0), sizes=((4, 3), (4, 3))))
    document = json.loads(log.path.read_text())
    assert [photo["seconds"]["restore"] for photo in document["photos"]] == [1.5, 1.5]
    assert document["summary"]["restored"] == 2


def test_what_is_no_log_file_is_refused_before_the_first_photo(tmp_path):
    with pytest.raises(
        ConfigError, match=r"log: 'photo\.jpg': expected a name that ends in \.json"
    ):
        BatchLog(Path("photo.jpg"), {})
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        BatchLog(tmp_path / "folder.json", {})


@pytest.mark.parametrize("shares", [1, 2, 3, 8])
@pytest.mark.parametrize("weights", [[], [5], [0] * 12, [24, 1, 1, 6, 100, 3, 24, 24, 2, 7]])
def test_shares_are_even_and_hold_every_job_once(weights, shares):
    parts = split_jobs(weights, shares)
    assert len(parts) == shares
    assert sorted(number for part in parts for number in part) == list(range(len(weights)))
    loads = [sum(weights[number] for number in part) for part in parts]
    assert max(loads) <= sum(weights) / shares + max(weights, default=0)
    if not any(weights):  # what weighs nothing is divided too
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == split_jobs(weights, shares)
