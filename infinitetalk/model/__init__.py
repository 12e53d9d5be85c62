"""Torch only: the InfiniteTalk modules, the speaker map and the patch file."""
