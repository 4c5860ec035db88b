"""Groups of command-line options, one group per file.

Each file has a function `add_..._options(add)` and a function that converts the parsed options to
objects of the library. The files may import all packages below `cli`, but PyTorch only inside
functions, so that `--help` is fast. A new group gets a file here and is added in the commands.
"""
