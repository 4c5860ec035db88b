"""The table of samplers, and the names of samplers in YAML and on the command line.

    NAME[@GRID]     euler, ode, posterior, mean, or KIND-FORM-ORDER, as in sde-data-2@log_snr

KIND is ode, sde or, between the two, eta and a number (eta0.5); FORM is data or noise, ORDER 1, 2
or 3; GRID is a key of `GRIDS`. An own sampler is one more entry, `SAMPLERS["mine"] = Sampler(...)`;
its name has no '@'.
"""

from __future__ import annotations

import re
from dataclasses import replace

from refusion.arguments import check_arguments
from refusion.errors import ConfigError, suggest
from refusion.sde.bridges import UniDB
from refusion.sde.grids import GRIDS
from refusion.sde.samplers import Sampler, euler_step, mean_step, ode_step, posterior_step
from refusion.sde.solvers import ORDERS, SolverStep

_ETAS = {"ode": 0.0, "sde": 1.0}
_FORMS = ("data", "noise")
_BETWEEN = re.compile(r"eta(\d*\.?\d+)-(data|noise)-(\d)")


def solver(form: str, order: int, eta: float) -> Sampler:
    """The sampler of a solver; arguments of `SolverStep`."""
    return Sampler(SolverStep(form, order, eta), is_random=eta > 0, memory=order)


def find_sampler(word: str) -> Sampler:
    """The sampler of a word.

    Raises:
        ConfigError: there is none; says which part of the word is wrong.

    >>> find_sampler("eta0.5-data-2@karras").step
    SolverStep(form='data', order=2, eta=0.5)
    """
    check_arguments(find_sampler, locals())
    name, at, grid = word.partition("@")
    between = _BETWEEN.fullmatch(name)
    found = SAMPLERS.get(name)  # names only: `get` does not ask `__missing__`
    if found is None and between is None:
        raise ConfigError(f"sampler: unknown sampler {name!r}{suggest(name, SAMPLERS)}")
    if at and grid not in GRIDS:
        raise ConfigError(f"sampler: {word}: unknown grid {grid!r}{suggest(grid, GRIDS)}")
    try:
        found = found or solver(between[2], int(between[3]), float(between[1]))
    except ConfigError as error:
        raise ConfigError(f"sampler: {word}: {error}") from None
    return replace(found, grid=GRIDS[grid]) if at else found


class SamplerTable(dict[str, Sampler]):
    """Samplers by name; look-ups also understand NAME@GRID and eta0.5-data-2, as `find_sampler`."""

    def __missing__(self, word: str) -> Sampler:
        """The sampler of a word that is no name; KeyError where there is none."""
        try:
            return find_sampler(word)
        except ConfigError as error:
            raise KeyError(word) from error

    def __contains__(self, word: object) -> bool:
        """Whether there is a sampler of this word."""
        try:
            return isinstance(word, str) and bool(find_sampler(word))
        except ConfigError:
            return False


SAMPLERS = SamplerTable(
    {
        "euler": Sampler(euler_step, is_random=True, ends_at_x0=False),
        "ode": Sampler(ode_step, is_random=False, ends_at_x0=False, unsuited=(UniDB,)),
        "posterior": Sampler(posterior_step, is_random=True),
        "mean": Sampler(mean_step, is_random=False),
    }
    | {
        f"{kind}-{form}-{order}": solver(form, order, eta)
        for kind, eta in _ETAS.items()
        for form in _FORMS
        for order in ORDERS
    }
)
