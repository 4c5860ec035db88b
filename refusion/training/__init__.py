"""Training: the loop, the stages with their losses, and exact continuation of interrupted runs.

`Trainer` runs the loop, and a class in `stages/` defines the networks, the loss and the saved file
of each stage. The package imports `restorers`, `stable_diffusion`, `data` and packages below; `cli`
and scripts may import it. A new stage is a file in `stages/` and an entry of `STAGES`. A new
optimizer is an entry of `optim.OPTIMIZERS`, and its name is added to the `Literal` of
`OptimizerConfig.type` in `refusion/config/sections.py` and to `_OPTIMIZERS` in
`refusion/config/official/options.py` (option files of the official code).
"""

from __future__ import annotations

from refusion.devices.processes import World, join_processes
from refusion.training.trainer import Trainer

__all__ = ["Trainer", "World", "join_processes"]
