"""The core of LongTalk: plan, model, run and the room that talks to ComfyUI."""
