"""Which attention kernel is used: the fastest that is exact enough, measured on this GPU.

- backends: the kernels that are installed
- chooser: measures them at the real shape and takes one
- proof: attention in float32, to compare with
- measured: what was measured, kept and shown
"""
