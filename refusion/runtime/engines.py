"""Engines, the packages that run the graph of an ONNX file: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from refusion.errors import CheckpointError, ConfigError, RefusionError, one_line, suggest
from refusion.files import check_regular

_FATAL = 4  # level of the log: errors become exceptions, which name the cause
_OPENVINO = 2026  # oldest version; in 2025.4.1 dehazed pictures are wrong by up to 10 levels


class Engine(Protocol):
    """A graph that is ready to run.

    Attributes:
        inputs: names of the inputs of the graph.
    """

    inputs: frozenset[str]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs with these names, for arrays by the name of the input.

        Raises:
            Exception: the package cannot run the graph; the type depends on the package.
        """
        ...


class OnnxRuntime:
    """An `Engine`: the package onnxruntime, on the CPU in float32.

    Args:
        path: the ONNX file; linked weights lie in its folder.
        threads: number of threads; None for one per core.

    Raises:
        Exception: the file cannot be loaded; the package has an exception for each of its codes.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = threads or 0
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = frozenset(each.name for each in self._session.get_inputs())

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Engine.run`."""
        return self._session.run(list(outputs), dict(inputs))


class OpenVino:
    """An `Engine`: the package openvino, on the CPU.

    Args:
        path: see `OnnxRuntime`.
        threads: see `OnnxRuntime`.
        precision: 'f32', or 'bf16', which the package would choose by itself where the hardware
            has it.

    Raises:
        RefusionError: the package is too old.
        Exception: the file cannot be loaded.
    """

    def __init__(self, path: Path, threads: int | None = None, precision: str = "f32") -> None:
        import openvino
        from openvino.frontend import FrontEndManager

        if int(openvino.__version__.split(".")[0]) < _OPENVINO:
            raise RefusionError(
                f"openvino {openvino.__version__} gives wrong pictures; update it with: "
                "pip install --upgrade 'refusion[openvino]'"
            )
        # Without the name of a format, the package would try every format that it knows.
        reader = FrontEndManager().load_by_framework("onnx")
        model = reader.convert(reader.load(str(path)))
        settings = {"INFERENCE_PRECISION_HINT": precision}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        # An input also has the names of values that are equal to it.
        self.inputs = frozenset(name for each in compiled.inputs for name in each.names)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Engine.run`."""
        found = self._request.infer(dict(inputs), share_inputs=True)
        return [found[name] for name in outputs]


ENGINES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}
"""The engines by the name of their package. The first one is the fastest, its start
included, for every task with a shipped ONNX file: 'Engines' in docs/results.md."""
DEFAULT = next(iter(ENGINES))
_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}


def is_installed(package: str) -> bool:
    """Whether the package of an engine is installed.

    Args:
        package: key of `ENGINES`.
    """
    return importlib.util.find_spec(package) is not None


def choose_engine(name: str) -> str:
    """The key of `ENGINES` for an engine that is installed.

    Args:
        name: a key of `ENGINES`, or 'auto' for the fastest one that is installed.

    Raises:
        ConfigError: the name is unknown.
        RefusionError: the package of this engine, or that of every engine, is not installed.
    """
    if name != "auto" and name not in ENGINES:
        raise ConfigError(f"engine: unknown engine '{name}'{suggest(name, ['auto', *ENGINES])}")
    wanted = list(ENGINES) if name == "auto" else [name]
    found = next(filter(is_installed, wanted), None)
    if found is None:
        raise RefusionError(missing(wanted[0]))
    return found


def missing(package: str) -> str:
    """The message about a package that is not installed.

    Args:
        package: key of `ENGINES`.
    """
    extra = _EXTRAS[package]
    return f"the package {package} is missing; install it with: pip install 'refusion[{extra}]'"


def start_engine(path: Path, name: str, threads: int | None = None) -> Engine:
    """Load an ONNX file.

    Args:
        path: the file; linked weights lie in its folder.
        name: key of `ENGINES`; its package is installed.
        threads: number of threads; None for one per core.

    Raises:
        CheckpointError: the file is damaged, or its linked weights are missing.
        RefusionError: the package is too old.
        OSError: the path is not a regular file.
    """
    check_regular(path)
    try:
        return ENGINES[name](path, threads)
    except RefusionError:
        raise
    except Exception as error:  # the packages have exceptions of their own
        reason = one_line(_reason(error), 200)
        raise CheckpointError(
            f"{path}: cannot be loaded as an ONNX file by {name} ({reason}); keep the weights file "
            "that it names in the same folder, or export the model again"
        ) from error


def _reason(error: Exception) -> str:
    """The message of an engine without the lines that name places in its source code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(
        line for line in lines if not line.startswith(("Exception from ", "Check '"))
    ) or " ".join(lines)
