"""Reading of files of tensors from unknown sources: `torch.save` and safetensors.

Sizes are compared with the file before memory is used, and no code from a file is run. The package
imports `errors` and `files` only; every package may import it. A new format is a module of its own.
"""
