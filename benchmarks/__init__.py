"""Benchmarks. The exit code of the first six reports what they found; those after sync want a GPU.

    python -m benchmarks.faults    is anything lost when the server is killed while it works?
    python -m benchmarks.fault_operations  the same at every single operation on a file
    python -m benchmarks.memory    does memory stay flat over a long video?
    python -m benchmarks.loop      what does LongTalk itself cost per window?
    python -m benchmarks.queue     what does an hour with 1,800 guides take before its first step?
    python -m benchmarks.half      how exact and how quick is the folded audio attention in half precision?
    python -m benchmarks.equal     do two checkouts make the same videos, and say the same about them?
    python -m benchmarks.findings  does the report of a sound find what is wrong, and nothing else?
    python -m benchmarks.sync      how well does the tiny model that talks follow a voice?
    python -m benchmarks.compare   how fast is it beside ComfyUI's own nodes and another pack, and how exact?
    python -m benchmarks.cards     does it run in the memory of a 24, 16 and 12 GB card, and how fast?
    python -m benchmarks.ltx       what does a window of LTX-2.3 take, in seconds and in GPU memory?
    python -m benchmarks.tables    the results of compare and cards as a page and a plot

They run with any Python on a fresh clone: `-m` hands over to scripts/start.py, which obtains what they need.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parent.parent / "scripts" / "hand_over.py"))
