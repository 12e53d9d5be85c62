"""The command line: ``python -m <folder of the pack>.infinitetalk.cli runs ...``. Knows no ComfyUI."""
