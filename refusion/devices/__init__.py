"""Where networks run: device, number format, memory kept for reuse, processes together.

May be imported by everything that runs a network. `precision` is the one place that decides on
device and number format; `processes` is the one place that knows of `torch.distributed`. A new
accelerator or number format goes into `precision`.
"""
