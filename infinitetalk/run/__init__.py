"""The window loop and the streaming writer; neither knows ComfyUI."""
