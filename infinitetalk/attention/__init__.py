"""Which attention kernel is used: the fastest that is exact enough, measured on this GPU.

- backends: the kernels that are installed
- chooser: measures the kernels at the real shape and takes one
- proof: attention in float32, which kernels are compared with
- measured: what was measured, as it is kept and shown
"""
