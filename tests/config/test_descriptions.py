"""Descriptions of settings come from the comments and docstrings of the source."""

import inspect
from dataclasses import dataclass

import pytest

from refusion.config.descriptions import descriptions


@dataclass
class Base:
    """A base.

    Attributes:
        first: said in the docstring,
            on two lines, with ``code``.
        second: replaced by the comment.
    """

    first: int
    second: tuple[
        int,
        int,
    ] = (1, 2)  # said behind the field
    # Said above it,
    # on two lines.
    third: int = 3
    silent: int = 4


@dataclass
class Derived(Base):
    """A class of its own.

    Attributes:
        third: said by the derived class.

    Raises:
        ValueError: never.
    """

    fourth: str = "# no comment"  # said # behind


def function(data: int, *, loss: str = "l1") -> None:
    """Do something.

    Args:
        data: values.
        loss: "l1" or "l2".
    """


def test_comments_and_docstrings():
    assert descriptions(Base) == {
        "first": "said in the docstring, on two lines, with `code`.",
        "second": "said behind the field",
        "third": "Said above it, on two lines.",
    }


def test_base_classes_count_and_derived_ones_come_first():
    found = descriptions(Derived)
    assert found["third"] == "said by the derived class."
    assert found["fourth"] == "said # behind"
    assert found["second"] == "said behind the field"
    assert "ValueError" not in found


def test_functions_and_things_without_a_source():
    assert descriptions(function) == {"data": "values.", "loss": '"l1" or "l2".'}
    made = type("Made", (), {"__annotations__": {"x": int}, "__doc__": None})
    assert descriptions(made) == {}


PAIR = (
    lambda *, a=1: a,
    lambda *, b=2: b,
)  # the source of one lambda is not a statement


def test_lambdas_and_local_variables_have_no_description():
    def local(*, loss=1):
        loss: int = 2  # of the variable
        return loss

    single = lambda *, a=1: a  # noqa: E731
    assert [descriptions(entry) for entry in (*PAIR, single, local)] == [{}] * 4


@pytest.mark.parametrize(
    "source",
    ["class A(:", "  class A:\n x: int", "class A:\n    x: int = (", "A = 1", ""],
)
def test_a_class_whose_source_cannot_be_parsed_has_no_comments(monkeypatch, source):
    monkeypatch.setattr(inspect, "getsource", lambda owner: source)
    assert descriptions(Base) == {
        "first": "said in the docstring, on two lines, with `code`.",
        "second": "replaced by the comment.",
    }


@pytest.mark.parametrize("error", [OSError, TypeError, IndentationError])
def test_a_class_whose_source_cannot_be_read_has_no_comments(monkeypatch, error):
    def fails(owner):
        raise error("no source")

    monkeypatch.setattr(inspect, "getsource", fails)
    assert descriptions(Base)["second"] == "replaced by the comment."
