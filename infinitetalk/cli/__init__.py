"""The command line: ``python bin/longtalk COMMAND ...`` in the pack's folder. Knows no ComfyUI."""
