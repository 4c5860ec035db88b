"""Descriptions of settings come from the comments and docstrings of the source."""

from dataclasses import dataclass

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
