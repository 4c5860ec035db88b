"""The time of a run: what is used, what its end needs, what is due; with a clock of the test."""

import pytest

from refusion.config.sections import LrScheduleConfig
from refusion.training.budget import GRACE_S, Budget, duration
from refusion.training.optim import learning_rate


class Clock:
    """Seconds that only the test moves."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def budget_of(steps=None, minutes=1.0, **settings):
    clock = Clock()
    return Budget(steps, minutes, clock=clock, **settings), clock


def agreed(budget):
    budget.agree(budget.now(), budget.needed())
    return budget


def test_steps_alone_end_the_run_and_nothing_else():
    budget, clock = budget_of(steps=3, minutes=None)
    clock.seconds += 1e9
    assert [agreed(budget).is_over(step) for step in (2, 3)] == [False, True]
    assert (budget.share(), budget.needed(), budget.validation_limit()) == (0, 0, None)
    assert budget.encoding_limit() is None and budget.validates()


def test_the_end_of_the_run_is_reserved():
    budget, clock = budget_of(workers=3)
    for name, seconds in (("validation", 4), ("validation", 6), ("saving", 2), ("saving", 1)):
        budget.note(name, seconds)
    for seconds in (30, 0.5, 0.25):  # the first step compiles the network
        budget.note("step", seconds)
    # The longest validation, two savings, a step, three workers that end, 1 % and 0.5 s.
    assert budget.needed() == pytest.approx(6 + 2 * 2 + 0.5 + 3 * 0.5 + 1.1)
    clock.seconds += 60 - 13.1 - 0.01
    assert not agreed(budget).is_over(10**9)
    clock.seconds += 0.02
    assert agreed(budget).is_over(0)
    assert budget.share() == 1


def test_a_long_step_counts_until_ten_others_were_shorter():
    budget, _ = budget_of(workers=8)
    for seconds in (1, 5, *[1] * 9):
        budget.note("step", seconds)
    assert budget.costs["step"] == 5
    assert budget.needed() == pytest.approx(5 + GRACE_S + 1.1)  # workers are ended after GRACE_S
    budget.note("step", 1)
    assert budget.costs["step"] == 1


def test_the_share_is_that_of_the_time_for_steps():
    budget, clock = budget_of(minutes=1)
    budget.note("validation", 8.9)
    clock.seconds += 25
    assert agreed(budget).share() == pytest.approx(0.5)  # of 60 s - 8.9 s - 1.1 s
    clock.seconds += 10**6
    assert agreed(budget).share() == 1


def test_whichever_ends_first():
    budget, clock = budget_of(steps=5, minutes=1)
    assert agreed(budget).is_over(5)
    assert not budget.is_over(4)
    clock.seconds += 60
    assert agreed(budget).is_over(0)


def test_time_before_the_start_and_of_earlier_processes_counts():
    first, clock = budget_of(minutes=2, begun=990.0)
    clock.seconds += 5
    assert first.now() == 15
    first.note("saving", 2)
    first.photos["whole"] = 4
    second, _ = budget_of(minutes=2)
    second.load(first.state())
    assert second.now() == 15 and second.costs["saving"] == 2 and second.photos == {"whole": 4}
    assert agreed(second).share() == pytest.approx(15 / (120 - 4 - 1.7))
    for other in ({"steps": 9, "minutes": None}, {"minutes": 3}):  # have time for other photos
        changed, _ = budget_of(**other)
        changed.load(first.state())
        assert changed.now() == 15 and changed.photos == {}


def test_what_is_due_by_steps_and_by_time():
    budget, clock = budget_of(minutes=1)
    clock.seconds += 5
    agreed(budget)
    assert [budget.is_due(8, every, 0.1) for every in (4, 3, None)] == [True, False, False]
    budget.mark()
    found = []
    for _ in range(22):
        clock.seconds += 2.5
        found.append(agreed(budget).is_due(1, None, 0.1))
        budget.mark()
    assert found.count(True) == 10  # 6, 12, ... 60 s
    clock.seconds += 30
    assert agreed(budget).is_due(1, None, 0.1)  # once, however long a step takes
    assert budget.is_due(1, None, 0.1)  # until it is done
    budget.mark()
    assert not budget.is_due(1, None, 0.1)


def test_a_validation_that_takes_a_fifth_of_the_time_is_not_repeated_nor_reserved():
    budget, _ = budget_of(minutes=1)
    budget.note("validation", 12)
    assert budget.validates() and budget.needed() > 12
    budget.note("validation", 12.1)
    assert not budget.validates() and budget.needed() < 1.2


def test_limits_within_the_run():
    budget, clock = budget_of(minutes=1)
    assert budget.validation_limit() == 3
    clock.seconds += 20
    assert budget.encoding_limit() == 10
    clock.seconds += 100
    assert budget.encoding_limit() == 0


def test_time_left():
    budget, clock = budget_of(steps=100, minutes=1)
    clock.seconds += 20
    agreed(budget)
    assert budget.left_s(50, 0.1) == pytest.approx(5)
    assert budget.left_s(50, 10) == 40


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (540, "9 min"), (8000, "2 h 13 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_learning_rate_follows_steps_or_time_whichever_is_further():
    schedule = LrScheduleConfig(type="cosine", warmup_steps=0, eta_min=0.0)
    assert learning_rate(25, 101, 1.0, schedule, 0.5) == pytest.approx(0.5)
    assert learning_rate(50, 101, 1.0, schedule, 0.25) == pytest.approx(0.5)
    assert learning_rate(10**6, None, 1.0, schedule, 0.75) == pytest.approx(0.1464, abs=1e-4)
    constant = LrScheduleConfig(type="constant")
    assert learning_rate(3, None, 1.0, constant, 0.75) == 1


def test_the_warm_up_counts_steps_and_never_exceeds_the_schedule():
    schedule = LrScheduleConfig(type="cosine", warmup_steps=3, eta_min=0.0)
    rates = [learning_rate(step, None, 1.0, schedule, 0.01) for step in range(4)]
    assert rates[:3] == [0.25, 0.5, 0.75] and rates[3] == pytest.approx(1, abs=1e-3)
    assert learning_rate(2, None, 1.0, schedule, 1.0) == 0
