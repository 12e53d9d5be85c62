"""The command line: ``python -m <folder of the pack>.infinitetalk.cli COMMAND ...``. Knows no ComfyUI."""
