"""One restoration at a time, and how it is stopped."""

import threading
import time

import pytest
import torch
from torch import nn

from refusion.app.slot import Slot, StoppedError

SECONDS = 20


def in_thread(run):
    """Start a function; the returned function waits for its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(run()), daemon=True)
    thread.start()

    def wait():
        thread.join(SECONDS)
        assert not thread.is_alive()
        return results[0]

    return wait


def restoration(slot, session, begun, work):
    """A restoration: calls `work` until it is stopped."""

    def run():
        try:
            with slot.restoring(session) as check:
                begun.set()
                while True:
                    work(check)
        except StoppedError:
            return "stopped"

    return run


def test_a_restoration_ends_when_it_is_stopped_and_the_next_one_begins():
    slot, first, second = Slot(), threading.Event(), threading.Event()
    one = in_thread(restoration(slot, "a", first, lambda check: (check(), time.sleep(0.01))))
    assert first.wait(SECONDS)
    two = in_thread(restoration(slot, "b", second, lambda check: (check(), time.sleep(0.01))))
    assert not second.wait(0.3)
    slot.stop("c")
    assert not second.wait(0.1)
    slot.stop("a")
    assert one() == "stopped"
    assert second.wait(SECONDS)
    slot.stop("b")
    assert two() == "stopped"


def test_it_is_stopped_before_the_next_layer_of_a_network():
    slot, begun = Slot(), threading.Event()
    network = nn.Sequential(*[nn.Linear(2, 2) for _ in range(3)])

    def forward(_):
        with torch.no_grad():
            network(torch.zeros(1, 2))

    one = in_thread(restoration(slot, "a", begun, forward))
    assert begun.wait(SECONDS)
    slot.stop("a")
    assert one() == "stopped"
    assert torch.nn.modules.module._global_forward_pre_hooks == {}


def test_a_waiting_restoration_is_stopped():
    slot, begun = Slot(), threading.Event()
    with slot.restoring("a") as check:
        waiting = in_thread(restoration(slot, "b", begun, lambda _: None))
        time.sleep(0.2)
        slot.stop("b")
        assert waiting() == "stopped"
        check()
    assert not begun.is_set()


def test_it_is_stopped_if_its_tab_never_asks_for_the_results(monkeypatch):
    monkeypatch.setattr("refusion.app.slot._ARRIVAL_S", 0.2)
    slot, first, second = Slot(), threading.Event(), threading.Event()
    work = lambda check: (check(), time.sleep(0.01))  # noqa: E731
    orphan = in_thread(restoration(slot, "a", first, work))
    assert orphan() == "stopped"
    with slot.waiting("b"):
        kept = in_thread(restoration(slot, "b", second, work))
        assert second.wait(SECONDS)
        time.sleep(0.4)
        assert slot._stops
    assert kept() == "stopped"
    assert not slot._tabs


def test_the_slot_is_free_after_an_error():
    slot = Slot()
    with pytest.raises(RuntimeError), slot.restoring("a"):
        raise RuntimeError
    with slot.restoring("a"):
        pass


def test_a_stop_is_no_error_of_the_photo():
    assert not issubclass(StoppedError, Exception)


def test_close_stops_all_and_says_whether_they_have_ended():
    slot, begun = Slot(), threading.Event()
    assert slot.close(0)
    assert restoration(slot, "a", begun, lambda _: None)() == "stopped"
    assert not begun.is_set()
    slot, end = Slot(), threading.Event()
    busy = in_thread(restoration(slot, "a", begun, lambda check: (end.wait(SECONDS), check())))
    assert begun.wait(SECONDS)
    start = time.monotonic()
    assert not slot.close(0.2)
    assert time.monotonic() - start < 5
    end.set()
    assert slot.close(SECONDS)
    assert busy() == "stopped"
