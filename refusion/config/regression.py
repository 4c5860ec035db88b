"""Checks of a config with a regression: a network that maps the photo to the restored photo.

A regression has no diffusion process, so its config has no section that describes one. The class of
its network has the attribute `is_regression = True`.
"""

from __future__ import annotations

from collections.abc import Mapping

from refusion.config.parser import Component
from refusion.config.tables import find_table
from refusion.errors import ConfigError

_PROCESS = ("latent_unet", "sde", "prediction", "sampling")


def is_regressor(network: Component | None) -> bool:
    """Whether a network is called with the photo alone: its class has `is_regression = True`."""
    return network is not None and network.type in _regressors()


def check_no_process(network: Component, parts: Mapping[str, object]) -> None:
    """Refuse sections that only a diffusion has.

    Args:
        network: network of a regression.
        parts: sections of the config by key.

    Raises:
        ConfigError: one of these sections is present.
    """
    unused = [key for key in _PROCESS if parts.get(key) is not None]
    if unused:
        raise ConfigError(f"{unused[0]}: a {network.type} restores without a process; remove it")


def check_regression_stage(
    stage: str, network: Component | None, parts: Mapping[str, object]
) -> None:
    """Check that stage `regression` has a network of a regression, and no other stage has one.

    Args:
        stage: stage of the run.
        network: network of the run.
        parts: other sections of the run by key; `objective` has to be 'x0' in this stage.

    Raises:
        ConfigError: stage and network do not fit, or a section is missing or has no use.
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
