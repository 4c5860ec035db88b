"""Device, dtype, memory allocation and process groups of the networks.

`precision` chooses device and dtype, and no other module does. `processes` is the only module that
uses `torch.distributed`. `allocator` keeps freed memory for reuse. Import from these modules; every
package that runs a network may do so. This package imports networks, errors and nothing above. A
new accelerator or dtype is added in `precision`.
"""
