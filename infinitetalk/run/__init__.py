"""The window loop, its checks, and runs on disk; none of it knows ComfyUI."""
