"""Loading of batches in worker processes, which report every error and end with the training."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import multiprocessing
import os
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from refusion.devices.allocator import keep_freed_memory
from refusion.errors import RefusionError
from refusion.failures import describe_failure, is_debugging
from refusion.memory import largest_available
from refusion.randomness import keyed_generator
from refusion.training.interrupts import ignore_interrupts

GRACE_S = 2.0  # seconds in which workers may finish their samples before they are ended
_SMALL = 2**30  # bytes of a batch that are not compared with the memory
Batch = dict[str, Tensor]

logger = logging.getLogger(__name__)


class SampleError(RefusionError):
    """A sample cannot be made. The message names its number, and the file or the plug-in."""


@dataclass(frozen=True)
class _Failure:
    """An error as texts; an exception of a plug-in cannot always be sent to another process."""

    text: str
    details: str

    def error(self) -> SampleError:
        """The error to raise in the training process."""
        if is_debugging():
            logger.error("%s", self.details)
        return SampleError(self.text)


class _Batches(Dataset[Batch | _Failure]):
    """Batches of a data set, by the indices of their samples; never raises.

    Args:
        dataset: a map from an index to a sample, which is a dict of tensors.
        title: what the samples are, for messages.
    """

    def __init__(self, dataset: Any, title: str) -> None:
        self.dataset, self.title = dataset, title

    def __getitem__(self, indices: Sequence[int]) -> Batch | _Failure:
        samples = []
        for index in indices:
            try:
                samples.append(_checked(self.dataset[index]))
                if len(samples) == 1:
                    _check_memory(samples[0], len(indices))
            except BaseException as error:  # a plug-in can raise SystemExit, too
                if isinstance(error, KeyboardInterrupt) and get_worker_info() is None:
                    raise  # Ctrl-C
                return _sample_failure(error, self.dataset, index, self.title)
        try:
            _check_alike(samples)
            return default_collate(samples)
        except Exception as error:
            return _failure(error, f"{self.title}, samples {indices[0]} to {indices[-1]}")


def load_batches(
    dataset: Any,
    indices: Iterable[Sequence[int]],
    *,
    title: str,
    workers: int,
    seed: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Make batches of samples, in order; close the iterator (`contextlib.closing`) after use.

    Worker processes ignore SIGINT and SIGTERM, which the training process handles. They end when
    the iterator is closed or the training process ends, however it ends.

    Args:
        dataset: a map from an index to a sample, which is a dict of tensors.
        indices: indices of the samples of each batch; may be endless.
        title: what the samples are, for messages.
        workers: number of worker processes; 0 makes the samples in this process.
        seed: seed of the random generators of the workers.
        pin_memory: whether the batches are in page-locked memory.

    Raises:
        SampleError: a sample cannot be made, the samples of a batch do not fit together, or a batch
            does not fit in the memory.
        RuntimeError: a worker was killed; see `failures.lost_processes_explained`.
    """
    reader, writer = multiprocessing.Pipe(duplex=False)
    iterator = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more than the CPUs
            loader = DataLoader(
                _Batches(dataset, title),
                batch_size=None,  # `_Batches` makes them
                sampler=indices,
                num_workers=workers,
                generator=keyed_generator(seed),  # else the global generator would be used
                pin_memory=pin_memory,
                prefetch_factor=4 if workers else None,
                worker_init_fn=functools.partial(_prepare_worker, reader, writer),
            )
            iterator = iter(loader)
        # At exit, PyTorch and Python wait for all workers. The function registered last runs first.
        atexit.register(writer.close)
        for batch in _received(iterator):
            if isinstance(batch, _Failure):
                raise batch.error()
            yield batch
    finally:
        _end_workers(iterator, writer)
        reader.close()
        atexit.unregister(writer.close)


def _received(iterator: Any) -> Iterator[Batch | _Failure]:
    """The batches of the workers; a broken connection means that one has ended.

    Raises:
        RuntimeError: as PyTorch raises it if the worker ends before it sends a batch.
    """
    try:
        yield from iterator
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # `_Batches` raises none
        workers = getattr(iterator, "_workers", ())
        for worker in workers:
            worker.join(GRACE_S / max(1, len(workers)))
        ended = [worker for worker in workers if not worker.is_alive()] or workers
        pids = ", ".join(str(worker.pid) for worker in ended)
        raise RuntimeError(f"DataLoader worker (pid(s) {pids}) exited unexpectedly") from error


def make_sample(dataset: Any, index: int, title: str) -> dict[str, Any]:
    """Make one sample of a data set.

    Args:
        dataset: a map from an index to a sample.
        index: index of the sample.
        title: what the samples are, for messages.

    Raises:
        SampleError: the sample cannot be made.
    """
    try:
        return dataset[index]
    except KeyboardInterrupt:  # Ctrl-C
        raise
    except BaseException as error:  # a plug-in can raise SystemExit, too
        failure = _sample_failure(error, dataset, index, title)
    raise failure.error()


def _checked(sample: Any) -> dict[str, Any]:
    """A sample as plain tensors, which can be sent to another process."""
    if not isinstance(sample, Mapping):
        raise SampleError(f"expected a dict of tensors, got {type(sample).__name__}")
    return {name: _plain(name, value) for name, value in sample.items()}


def _check_memory(sample: Mapping[str, Any], count: int) -> None:
    """Check that `count` samples and their copy as a batch fit in the memory, before it is full."""
    size = 2 * count * sum(getattr(value, "nbytes", 0) for value in sample.values())
    if size > _SMALL and size > (there := largest_available()):
        raise SampleError(
            f"a batch of {count} needs {size / 2**30:.1f} GB, but {there / 2**30:.1f} GB are "
            "available; lower data.batch_size or patch, or raise train.accumulate"
        )


def _plain(name: object, value: Any) -> Any:
    if not isinstance(name, str):
        raise SampleError(f"the keys must be texts, got {type(name).__name__}")
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise SampleError(f"'{name}': expected a dense tensor, got {value.layout}")
        return value.detach().as_subclass(Tensor)
    if isinstance(value, (np.ndarray, np.number, bool, int, float)):
        return value
    raise SampleError(f"'{name}': expected a tensor, got {type(value).__name__}")


def _check_alike(samples: Sequence[Mapping[str, Any]]) -> None:
    """Check that samples have the same keys and sizes."""
    first = _sizes(samples[0])
    for sample in samples[1:]:
        if (sizes := _sizes(sample)) != first:
            raise SampleError(f"keys and sizes must be equal, got {first} and {sizes}")


def _sizes(sample: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(np.shape(value)) for name, value in sample.items()}


def _failure(error: BaseException, place: str) -> _Failure:
    text = details = f"error {type(error).__name__} without a text"
    try:
        text = describe_failure(error).text
        details = "".join(traceback.format_exception(error))
    except BaseException as other:  # the text of a foreign exception can raise another one
        if isinstance(other, KeyboardInterrupt) and get_worker_info() is None:
            raise  # Ctrl-C
    return _Failure(f"{place}: {text}", details)


def _sample_failure(error: BaseException, dataset: Any, index: int, title: str) -> _Failure:
    """An error with the number of the sample and, if the data set knows them, its photos."""
    place, photos = f"{title}, sample {index}", []
    with contextlib.suppress(Exception):
        photos = [str(path) for path in dataset.photos_of(index)]
    failure = _failure(error, place)
    if not photos or any(photo in failure.text for photo in photos):
        return failure
    return _failure(error, f"{place} ({photos[0]})")


def _prepare_worker(reader: Connection, writer: Connection, worker: int) -> None:
    ignore_interrupts(worker)
    keep_freed_memory()
    writer.close()  # the copy of this process; the other end is the training process's
    threading.Thread(target=_end_with_training, args=(reader,), daemon=True).start()


def _end_with_training(reader: Connection) -> None:
    """End this worker when the training process closes its end of the pipe, or ends."""
    try:
        reader.poll(None)
    finally:
        os._exit(0)


def _end_workers(iterator: Any, writer: Connection) -> None:
    """End the workers: first those that wait, after `GRACE_S` those that still make a sample."""
    if writer.closed:  # the program ends, so a thread cannot be started
        return
    timer = threading.Timer(GRACE_S, writer.close)
    with contextlib.suppress(RuntimeError):  # no memory for a thread
        timer.start()
    try:
        getattr(iterator, "_shutdown_workers", lambda: None)()
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()
        writer.close()
        for worker in getattr(iterator, "_workers", ()):
            worker.join(GRACE_S)
            worker.kill()  # if foreign code does not let the thread of `_prepare_worker` run
