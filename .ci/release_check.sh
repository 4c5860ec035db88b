#!/usr/bin/env bash
# Checks what a user installs: builds the source distribution and the wheel, installs the wheel in
# empty environments outside the repository, and uses it there.
#   .ci/release_check.sh [NAME...]      environments, default tested and lowest
#       tested    versions of constraints.txt
#       lowest    lowest versions that pyproject.toml allows
# PYTHON is the Python of the environments (default python3). TORCH_INDEX is a package index with
# PyTorch for the CPU; without it, Linux downloads 3 GB of CUDA libraries.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
MAX_MIB=70
repository=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "release check FAILED in line $LINENO: ${BASH_COMMAND:0:100}" >&2' ERR

say() { printf '\n== %s\n' "$*"; }
fail() { echo "release check FAILED: $*" >&2; exit 1; }

build() {
    say "build"
    "$PYTHON" -m venv "$work/build"
    "$work/build/bin/python" -m pip install -q --disable-pip-version-check build
    # A clean copy: an old build/ or *.egg-info would add its files to the new ones.
    mkdir "$work/source"
    git ls-files -z --cached --others --exclude-standard | tar c --null -T - | tar x -C "$work/source"
    # The wheel is built from the unpacked source distribution, so both are complete.
    "$work/build/bin/python" -m build --outdir "$work/dist" "$work/source" > "$work/build.log" 2>&1 \
        || { tail -30 "$work/build.log" >&2; fail "the build"; }
    sdist=$(ls "$work"/dist/*.tar.gz)
    wheel=$(ls "$work"/dist/*.whl)
}

check_files() {
    say "files"
    local bytes options
    for file in "$wheel" "$sdist"; do
        bytes=$(wc -c < "$file")
        echo "$(basename "$file"): $bytes bytes, $((bytes / 1048576)) MiB"
    done
    bytes=$(wc -c < "$wheel")
    ((bytes <= MAX_MIB * 1048576)) || fail "the wheel is larger than $MAX_MIB MiB"
    tar tzf "$sdist" | cut -d / -f 2- > "$work/sdist.txt"
    if grep -E '^(\.git|runs|results|data|cache|site|build)/' "$work/sdist.txt"; then
        fail "the source distribution has these files"
    fi
    "$PYTHON" -m zipfile -l "$wheel" > "$work/wheel.txt"
    options=$(grep -c '^refusion/options/.*\.yml' "$work/wheel.txt")
    [[ $options == $(ls options/*.yml | wc -l) ]] || fail "the wheel has $options option files"
    grep -q '^refusion/py.typed' "$work/wheel.txt" || fail "the wheel has no py.typed"
}

tested_versions() { cat constraints.txt; }

lowest_versions() { # every `name>=version` of the dependencies as `name==version`
    "$PYTHON" - << 'END'
import tomllib
from pathlib import Path

for line in tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]:
    name, bound, version = line.partition(">=")
    assert bound and "," not in version, f"{line}: expected name>=version"
    print(f"{name}=={version}")
END
}

install() { # NAME
    say "install: $1"
    "$PYTHON" -m venv "$work/$1"
    "$work/$1/bin/python" -m pip install -q --disable-pip-version-check \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c "$work/versions.txt" "$wheel"
    "$work/$1/bin/python" -m pip list --disable-pip-version-check 2> /dev/null \
        | grep -iE '^(torch|numpy|lion-pytorch|kornia|tifffile|imagecodecs|pyyaml|tensorboard|safetensors|pillow|tqdm) '
}

use() ( # NAME; a subshell, in a folder of its own
    say "use: $1"
    mkdir "$work/use-$1" && cd "$work/use-$1"
    local bin=$work/$1/bin
    "$bin/refusion" --version
    "$bin/python" "$repository/.ci/release_use.py"
    "$bin/refusion" restore --task dehaze --input photos/0.jpg --output clear.jpg --quiet
    "$bin/refusion" restore --task dehaze --steps 1 --input photos --output results --quiet
    "$bin/refusion" restore --task dehaze --strength 0 --input tiffs --output copies --quiet
    "$bin/python" "$repository/.ci/release_use.py" tiffs
    "$bin/refusion" init toy --schema
    "$bin/refusion" train -opt toy.yml --quiet --device cpu --set 'data.train.folders=[photos]' \
        --set 'data.validation.0.folders=[photos]' --set train.steps=4 --set train.validate_every=4
    "$bin/refusion" restore --weights runs/toy/model.safetensors --input photos/0.jpg \
        --output toy.jpg --quiet
    "$bin/refusion" info runs/toy/model.safetensors > info.txt
    for file in clear.jpg results/0.jpg toy.yml refusion.schema.json toy.jpg info.txt; do
        [[ -s $file ]] || fail "$file was not written"
    done
)

[[ $# -gt 0 ]] || set -- tested lowest
for name in "$@"; do
    [[ $name == tested || $name == lowest ]] || fail "expected tested or lowest, got $name"
done
build
check_files
for name in "$@"; do
    "${name}_versions" > "$work/versions.txt"
    install "$name"
    use "$name"
done
say "release check passed: $*"
