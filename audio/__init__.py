"""Speech: tracks, loudness and wav2vec2 features. Knows no ComfyUI."""
