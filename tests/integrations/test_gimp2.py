"""The plug-in in GIMP 2.10, where it is installed; otherwise the files that it needs."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from refusion.images.io import read_image

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "integrations" / "gimp" / "refusion"
GIMP = shutil.which("gimp-console-2.10")
NEEDED = ("script-fu", "file-jpeg", "file-png", "file-tiff")
PLUG_INS = Path("/usr/lib/gimp/2.0/plug-ins")
PHOTO = ROOT / "examples" / "hazy-coast.jpg"
# Half of every sample, so that the result can be told from the photo.
HALVE = """import sys
sys.path[:0] = {path!r}
from refusion.images.io import read_image, write_image
photo = read_image(sys.argv[5])
assert photo.samples.dtype.itemsize == 2, photo.samples.dtype
write_image(sys.argv[4], photo.image / 2, photo)
"""
SCHEME = """(let* ((image (car (gimp-file-load RUN-NONINTERACTIVE "{photo}" "a")))
        (layer (car (gimp-image-get-active-drawable image))))
  (gimp-layer-set-offsets layer 30 -20)
  {prepare}
  (plug-in-refusion RUN-NONINTERACTIVE image layer "dehaze" 80 "{program}")
  (let* ((layers (gimp-image-get-layers image)) (new (aref (cadr layers) 0)))
    (gimp-message (string-append "RESULT " (number->string (car layers)) " "
      (car (gimp-item-get-name new)) " " (number->string (car (gimp-drawable-offsets new)))))
    (gimp-image-convert-precision image PRECISION-U16-GAMMA)
    (file-png-save-defaults RUN-NONINTERACTIVE image new "{result}" "a")))"""


def test_gimp_finds_one_program_of_the_name_of_its_folder():
    """GIMP runs PLUG-INS/NAME/NAME.py if it is executable."""
    executable = [path.name for path in FOLDER.glob("*.py") if path.stat().st_mode & stat.S_IXUSR]
    assert executable == [f"{FOLDER.name}.py"]
    assert (FOLDER / "refusion.py").read_text().startswith("#!/usr/bin/env python3\n")


def test_the_number_of_arguments_chooses_the_version():
    """GIMP 3 gives its protocol in addition; neither library is needed to see the choice."""
    code = "import sys, types; sys.path.insert(0, sys.argv[1]); done = []\n"
    code += "for name in ('gimp2', 'gimp3'):\n"
    code += "    sys.modules[name] = types.SimpleNamespace(main=lambda a, n=name: done.append(n))\n"
    code += "import refusion\n"
    code += "for end in ('6 5 -query 0', '279 6 5 -query 0'):\n"
    code += "    sys.argv = ['refusion.py', '-gimp', *end.split()]; refusion.main()\n"
    code += "print(done)"
    command = [sys.executable, "-I", "-c", code, str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "['gimp2', 'gimp3']\n"


@pytest.fixture
def gimp(tmp_path):
    """Runs the plug-in in GIMP without a window; returns the messages and the saved layer."""
    plug_ins = tmp_path / "gimp" / "plug-ins"
    plug_ins.mkdir(parents=True)
    shutil.copytree(FOLDER, plug_ins / "refusion", ignore=shutil.ignore_patterns("__pycache__"))
    for name in NEEDED:  # GIMP asks every plug-in of its folder at the first start
        (plug_ins / name).symlink_to(PLUG_INS / name)
    (tmp_path / "gimp" / "gimprc").write_text(f'(plug-in-path "{plug_ins}")\n')
    program, result = tmp_path / "halve", tmp_path / "result.png"
    program.write_text(f"#!{sys.executable}\n{HALVE.format(path=[str(ROOT)])}")
    program.chmod(0o755)

    def run(prepare="", program=program):
        code = SCHEME.format(photo=PHOTO, prepare=prepare, program=program, result=result)
        command = [GIMP, "-i", "-d", "-f", "-b", code, "-b", "(gimp-quit 1)"]
        environment = os.environ | {"GIMP2_DIRECTORY": str(tmp_path / "gimp")}
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=120, check=False
        )
        text = (done.stdout + done.stderr).decode(errors="replace")
        return text, read_image(result).image if result.exists() else None

    return run


@pytest.mark.slow
@pytest.mark.skipif(not (GIMP and PLUG_INS.exists()), reason="no GIMP 2.10")
@pytest.mark.parametrize(
    "prepare", ["", "(gimp-image-convert-precision image PRECISION-FLOAT-LINEAR)"]
)
def test_gimp_gets_the_result_as_a_new_layer(gimp, prepare):
    text, result = gimp(prepare)
    assert "RESULT 2 refusion dehaze 80 % 30" in text, text
    photo = read_image(PHOTO).image
    assert result.shape == photo.shape
    assert (result - photo / 2).abs().mean() < 0.5 / 255


@pytest.mark.slow
@pytest.mark.skipif(not (GIMP and PLUG_INS.exists()), reason="no GIMP 2.10")
def test_gimp_shows_errors_and_adds_no_layer(gimp):
    text, result = gimp(program="/bin/false")
    assert "ended with code 1 and no message" in text
    assert "RESULT" not in text
    assert result is None
