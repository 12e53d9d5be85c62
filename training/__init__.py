"""Training of the tiny model that talks, stage by stage: see README.md.

`python -m longtalk.training.judge` hands over to scripts/start.py, which puts ComfyUI and the scripts on the path.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parent.parent / "scripts" / "hand_over.py"))
