"""What was measured of attention kernels on one device: how it is kept, chosen from and shown."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ...base.errors import LongTalkError
from ...base.files import DamagedFileError, read_json, write_json
from ...base.values import check_member

log = logging.getLogger(__name__)

FORMAT = 1


class Precision(str, Enum):
    """How far a kernel may be from attention computed in float32."""

    EXACT = "exact"
    """0.5 %: kernels in half precision, 0.03 % in float16 and 0.23 % in bfloat16."""
    FAST = "fast"
    """3 %: kernels that quantise to 8 bits, 1 to 2 % on random tensors."""

    @property
    def tolerance(self) -> float:
        """The largest relative error."""
        return 0.005 if self is Precision.EXACT else 0.03


def precision_of(name: Precision | str) -> Precision:
    """The precision of this name.

    Raises:
        LongTalkError: there is no precision of this name.
    """
    return check_member(name, "attention", Precision)


@dataclass(frozen=True)
class Case:
    """What a measurement holds for.

    Attributes:
        device: the name of the device.
        dtype: of the tensors, such as ``float16``.
        head: the size of a head.
        queries, keys: their number raised to a power of two, see :func:`bucket`, so that windows of nearly the same
            length share a choice.
        masked: whether there is a mask.
    """

    device: str
    dtype: str
    head: int
    queries: int
    keys: int
    masked: bool

    @property
    def text(self) -> str:
        mask = ", masked" if self.masked else ""
        return f"{self.device}, {self.dtype}, heads of {self.head}, {self.queries} x {self.keys} tokens{mask}"


def bucket(length: int) -> int:
    """``length`` raised to the next power of two; powers of two stay."""
    return 1 << max(0, length - 1).bit_length()


@dataclass(frozen=True)
class Trial:
    """What came of one kernel.

    Attributes:
        name: of the kernel's backend.
        ms: the median time of a call; None when the kernel could not run.
        error: the relative error against float32; None when the kernel could not run.
        tolerance: the error up to which the kernel is taken in every class, see :class:`~.backends.Backend`.
        refusal: why the kernel could not run, else empty.
    """

    name: str
    ms: float | None = None
    error: float | None = None
    tolerance: float = 0.0
    refusal: str = ""

    def allowed(self, precision: Precision) -> bool:
        """Whether the kernel computes attention as closely as asked for."""
        return self.error is not None and self.error <= max(precision.tolerance, self.tolerance)


def ranked(trials: Iterable[Trial], precision: Precision) -> list[Trial]:
    """The kernels that may be used, fastest first."""
    usable = [trial for trial in trials if trial.ms is not None and trial.allowed(precision)]
    return sorted(usable, key=lambda trial: (trial.ms, trial.name))


def table(case: Case, trials: Sequence[Trial], precision: Precision) -> str:
    """The measurement for a person; the chosen kernel is marked."""
    best = next(iter(ranked(trials, precision)), None)
    lines = [f"attention: {case.text}; {precision.value}, error up to {precision.tolerance:.1%}"]
    for trial in sorted(trials, key=lambda trial: (trial.ms is None, trial.ms or 0.0, trial.name)):
        mark = "*" if best is not None and trial.name == best.name else " "
        if trial.ms is None or trial.error is None:
            lines.append(f"  {mark} {trial.name:28} {trial.refusal}")
            continue
        error = f"error {trial.error:.2%}" if math.isfinite(trial.error) else "NaN or infinite values"
        verdict = "" if trial.allowed(precision) else ", too far off"
        lines.append(f"  {mark} {trial.name:28} {trial.ms:9.2f} ms  {error}{verdict}")
    return "\n".join(lines)


class Store:
    """Keeps measurements in a JSON file, so that another process takes the same kernels without measuring anew.

    Args:
        path: of the file; None keeps them in memory only.
        software: see :func:`~.backends.software`; measurements made with another are forgotten.
    """

    def __init__(self, path: Path | None, software: str) -> None:
        self._path = path
        self._software = software
        self._cases = self._read()

    def get(self, case: Case) -> list[Trial] | None:
        """What was measured for a case."""
        return self._cases.get(case)

    def put(self, case: Case, trials: Sequence[Trial]) -> None:
        """Remember a measurement. A file that cannot be written is only logged."""
        self._cases[case] = list(trials)
        if self._path is None:
            return
        cases = [{**asdict(case), "trials": [_to_json(trial) for trial in each]} for case, each in self._cases.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"format": FORMAT, "software": self._software, "cases": cases})
        except (OSError, LongTalkError) as error:
            log.warning("attention: the measurements could not be kept: %s", error)

    def _read(self) -> dict[Case, list[Trial]]:
        if self._path is None:
            return {}
        try:
            content = read_json(self._path)
            if content["format"] != FORMAT or content["software"] != self._software:
                return {}
            return {_case(entry): [_trial(trial) for trial in entry["trials"]] for entry in content["cases"]}
        except FileNotFoundError:
            return {}
        except (DamagedFileError, KeyError, TypeError, ValueError, OverflowError) as error:
            log.warning("attention: %s cannot be read and is made anew: %s", self._path, error)
            return {}


def _case(entry: Mapping[str, Any]) -> Case:
    return Case(
        device=str(entry["device"]),
        dtype=str(entry["dtype"]),
        head=int(entry["head"]),
        queries=int(entry["queries"]),
        keys=int(entry["keys"]),
        masked=bool(entry["masked"]),
    )


def _to_json(trial: Trial) -> dict[str, Any]:
    """A trial for JSON, which has no infinity: an output that is not a number has a time, and None as its error."""
    error = trial.error if trial.error is not None and math.isfinite(trial.error) else None
    return {**asdict(trial), "error": error}


def _trial(entry: Mapping[str, Any]) -> Trial:
    ms = None if entry["ms"] is None else float(entry["ms"])
    error = None if entry["error"] is None else float(entry["error"])
    if ms is not None and error is None:
        error = math.inf
    return Trial(str(entry["name"]), ms, error, float(entry["tolerance"]), str(entry["refusal"]))
