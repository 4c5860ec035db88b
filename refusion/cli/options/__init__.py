"""Groups of command-line options that several commands share, one group per file.

Each file offers `add_..._options(add)` and a function that turns the parsed options into values.
Heavy imports stay inside functions, so `--help` does not wait for PyTorch.
"""
