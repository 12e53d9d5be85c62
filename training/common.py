"""What the stages share: ComfyUI, a clock, a state that survives the end of a call."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
START = time.time()


def say(*words: object) -> None:
    print(f"{time.time() - START:7.1f}s", *words, flush=True)


def import_comfyui() -> None:
    """Import ComfyUI with options that suit the training; scripts/start.py has put it on the path."""
    options = ["--highvram", "--disable-dynamic-vram"] if torch.cuda.is_available() else ["--cpu"]
    argv, sys.argv = sys.argv, [sys.argv[0], *options]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args
    import comfy.model_management
    import comfy.sd
    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False
    logging.getLogger().setLevel(logging.ERROR)
    sys.argv = argv
    torch.set_float32_matmul_precision("high")


def stage_arguments(about: str | None) -> argparse.ArgumentParser:
    """What every stage of the training takes."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the speech")
    parser.add_argument("--state", type=Path, required=True, help="folder that a stage goes on from")
    parser.add_argument("--budget-s", type=float, required=True, help="seconds of training in this call")
    parser.add_argument("--total-s", type=float, required=True, help="seconds of training in all calls")
    return parser


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Training:
    """Adam with a moving average of the weights, a schedule over seconds of training, and a file to go on from.

    Args:
        modules: what is trained, by name.
        path: of the state.
        total_s: seconds of training in all calls together; the learning rate falls to zero over them.
        budget_s: seconds of training in this call.
    """

    def __init__(
        self, modules: dict[str, nn.Module], path: Path, total_s: float, budget_s: float, rate: float, average: float
    ) -> None:
        self.modules, self.path, self.total_s, self.rate, self.average = modules, path, total_s, rate, average
        self.parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        fused = {"fused": True} if torch.cuda.is_available() else {}
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, **fused)
        self.averaged = [p.detach().clone() for p in self.parameters]
        self.steps, self.spent_s = 0, 0.0
        if path.is_file():
            kept = torch.load(path, map_location=device(), weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(kept["modules"][name])
            self.optimiser.load_state_dict(kept["optimiser"])
            for mine, theirs in zip(self.averaged, kept["averaged"], strict=True):
                mine.copy_(theirs)
            self.steps, self.spent_s = kept["steps"], kept["spent_s"]
            say(f"resumed {path.name}: {self.steps} steps, {self.spent_s:.0f} of {total_s:.0f} s")
        self.begin()
        self._until_s = min(total_s, self.spent_s + budget_s)
        self.sums: dict[str, torch.Tensor] = {}
        self._summed = 0

    def begin(self) -> None:
        """The clock starts here, once more."""
        self._before_s, self._since = self.spent_s, time.time()

    @property
    def goes_on(self) -> bool:
        if self.steps % 8 == 0 and torch.cuda.is_available():
            torch.cuda.synchronize()
        self.spent_s = self._before_s + time.time() - self._since
        return self.spent_s < self._until_s

    def step(self, losses: dict[str, torch.Tensor], every: int = 500) -> None:
        loss = torch.stack(list(losses.values())).sum()
        done = min(1.0, self.spent_s / self.total_s)
        rate = self.rate * min(1.0, (self.steps + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done) + 0.01)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        # A step without numbers would spoil everything that came before it.
        for p in self.parameters:
            if p.grad is not None:
                p.grad.nan_to_num_(0.0, 0.0, 0.0)
        self.optimiser.step()
        self.steps += 1
        keep = min(self.average, self.steps / (self.steps + 20))
        torch._foreach_lerp_(self.averaged, [p.detach() for p in self.parameters], 1 - keep)
        for name, value in {**losses, "|g|": norm}.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self._summed += 1
        if self.steps % every == 0 or self.steps == 20:
            means = {name: round(float(value) / self._summed, 4) for name, value in self.sums.items()}
            say(f"step {self.steps} lr {rate:.1e} at {self.spent_s:.0f} s {means}")
            self.sums, self._summed = {}, 0

    def save(self) -> None:
        part = self.path.with_suffix(".part")
        torch.save(
            {
                "modules": {name: module.state_dict() for name, module in self.modules.items()},
                "optimiser": self.optimiser.state_dict(),
                "averaged": self.averaged,
                "steps": self.steps,
                "spent_s": self.spent_s,
            },
            part,
        )
        part.replace(self.path)

    @torch.no_grad()
    def use_average(self) -> None:
        for p, averaged in zip(self.parameters, self.averaged, strict=True):
            p.copy_(averaged)
