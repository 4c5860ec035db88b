"""What a config says of a regression: a network that maps the photo to its restoration at once.

It has no process, so nothing that describes one.
"""

from __future__ import annotations

from collections.abc import Mapping

from refusion.config.parser import Component
from refusion.config.tables import find_table
from refusion.errors import ConfigError

_PROCESS = ("latent_unet", "sde", "prediction", "sampling")


def is_regressor(network: Component | None) -> bool:
    """Tell the network of a regression, whose class has `is_regression = True`, from others."""
    return network is not None and network.type in _regressors()


def check_no_process(network: Component, parts: Mapping[str, object]) -> None:
    """Refuse what only a diffusion has.

    Args:
        network: of a regression.
        parts: sections of the config by key.

    Raises:
        ConfigError: one of them is there.
    """
    unused = [key for key in _PROCESS if parts.get(key) is not None]
    if unused:
        raise ConfigError(f"{unused[0]}: a {network.type} restores without a process; remove it")


def check_regression_stage(
    stage: str, network: Component | None, parts: Mapping[str, object]
) -> None:
    """Check that stage `regression` and its networks come together, with an objective for x0.

    Args:
        stage: of the run.
        network: of the run.
        parts: other sections of the run by key.

    Raises:
        ConfigError: they do not, or something is missing or has no use.
    """
    known = ", ".join(sorted(_regressors()))
    if stage != "regression":
        if is_regressor(network):
            raise ConfigError(f"network.type: stage {stage} takes no {network.type}")
        return
    if network is None:
        raise ConfigError("network: required by stage regression")
    if not is_regressor(network):
        raise ConfigError(f"network.type: stage regression takes {known}, got {network.type}")
    check_no_process(network, parts)
    objective = parts.get("objective")
    if not isinstance(objective, Component) or objective.type != "x0":
        raise ConfigError("objective.type: stage regression needs 'x0', with loss l1 or l2")


def _regressors() -> list[str]:
    """Keys of `refusion.nets.NETS` whose networks are called with the photo alone."""
    nets = find_table("nets")
    return [name for name, net in nets.items() if getattr(net, "is_regression", False)]
