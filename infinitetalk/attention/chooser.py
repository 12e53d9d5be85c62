"""Takes the fastest attention kernel that proved itself: measured on the user's GPU, at the real shape, once."""

from __future__ import annotations

import contextlib
import functools
import logging
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch

from .backends import Backend
from .measured import Case, Precision, Store, Trial, bucket, ranked, table
from .proof import reference_rows, relative_error, sample_rows

log = logging.getLogger(__name__)

#: Calls that are timed, after one that compiles and allocates.
_TIMED_CALLS = 3


def case_of(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None) -> Case:
    """The case that a measurement of this call holds for."""
    device = query.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    dtype = str(query.dtype).removeprefix("torch.")
    return Case(name, dtype, query.shape[-1], bucket(query.shape[2]), bucket(key.shape[2]), mask is not None)


def _is_captured(device: torch.device) -> bool:
    """Whether the current call is being recorded as a CUDA graph, in which nothing can be timed or compared."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class Chooser:
    """Computes attention with the best kernel for each case.

    Kernels are tried on the tensors of the first call of a case. A kernel that fails later is left out from then on.
    One that quantises can be exact on one block's tensors and far off on another's: its calls number 1, 2, 4, 8 and so
    on are compared with float32 too, and when one is too far off, the next kernel takes over, then and for good.

    Args:
        backends: gives the candidates; called when the first measurement is due.
        store: where measurements are kept.
        aside: gives a context in which memory may be taken and given back that is no part of the model's forward. A
            host needs it that records what a forward allocates, to repeat exactly that.
    """

    def __init__(
        self,
        backends: Callable[[], Sequence[Backend]],
        store: Callable[[], Store],
        aside: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self._find = backends
        self._open = store
        self._aside = aside
        self._backends: dict[str, Backend] | None = None
        self._store: Store | None = None
        self._choices: dict[tuple[Case, Precision, str], list[Backend]] = {}
        self._failed: set[tuple[Case, str]] = set()
        self._calls: dict[tuple[tuple[Case, Precision, str], str], int] = {}
        self._lock = threading.Lock()

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None = None,
        scale: float | None = None,
        *,
        precision: Precision = Precision.EXACT,
        own: Backend | None = None,
    ) -> tuple[torch.Tensor, Case] | None:
        """Compute attention; the result and the case it was. None when no kernel proved itself.

        Args:
            query: ``[B, H, N, D]``.
            key, value: ``[B, H, M, D]``.
            mask: None, or four dimensions that broadcast to ``[B, H, N, M]``.
            scale: None for ``1 / sqrt(D)``.
            precision: how exact the kernel must be.
            own: one more candidate, which is the caller's; its name is part of the case.
        """
        case = case_of(query, key, mask)
        place = (case, precision, own.name if own is not None else "")
        choices = self._choices.get(place)
        first = choices is None
        if choices is None:
            if _is_captured(query.device):
                return None
            choices = self._choices[place] = self._choose(case, (query, key, value), mask, scale, precision, own)
        while choices:
            backend = choices[0]
            try:
                # A kernel's first call may make workspaces that stay.
                with self._aside() if first else contextlib.nullcontext():
                    out = backend.run(query, key, value, mask, scale)
                if backend.steady or self._is_still_right(place, backend, out, (query, key, value), mask, scale):
                    return out, case
                choices.pop(0)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # kernels fail on single shapes in their own ways
                choices.pop(0)
                log.warning("attention: %s failed and is left out: %s: %s", backend.name, type(error).__name__, error)
                self._failed.add((case, backend.name))
        return None

    def _is_still_right(
        self,
        place: tuple[Case, Precision, str],
        backend: Backend,
        out: torch.Tensor,
        parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        scale: float | None,
    ) -> bool:
        """Whether a kernel that quantises is exact enough on these tensors; it is looked at in calls 1, 2, 4, 8, ..."""
        if _is_captured(out.device):
            return True
        calls = self._calls[place, backend.name] = self._calls.get((place, backend.name), 0) + 1
        if calls & (calls - 1):
            return True
        case, precision, _ = place
        with self._aside():
            rows = sample_rows(parts[0].shape[2], out.device)
            error = relative_error(out, reference_rows(*parts, mask, scale, rows), rows)
        known = [replace(trial, error=error) if trial.name == backend.name else trial for trial in self.trials(case)]
        found = next((trial for trial in known if trial.name == backend.name), None)
        if found is None or found.allowed(precision):
            return True
        log.warning(
            "attention: %s has an error of %.2f %% in call %d and is left out", backend.name, error * 100, calls
        )
        if self._store is not None:
            self._store.put(case, known)
        return False

    def trials(self, case: Case) -> list[Trial]:
        """What was measured for a case."""
        return (self._store.get(case) if self._store is not None else None) or []

    def chosen(self, case: Case, precision: Precision) -> Trial | None:
        """The kernel in use for a case; None when none proved itself."""
        usable = (trial for trial in ranked(self.trials(case), precision) if (case, trial.name) not in self._failed)
        return next(usable, None)

    def _known(self) -> dict[str, Backend]:
        if self._backends is None:
            self._backends = {backend.name: backend for backend in self._find()}
        return self._backends

    def _choose(
        self,
        case: Case,
        parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        scale: float | None,
        precision: Precision,
        own: Backend | None,
    ) -> list[Backend]:
        """The kernels that may be used, fastest first; those not measured yet are measured now."""
        with self._lock:
            candidates = {**self._known(), **({own.name: own} if own is not None else {})}
            if self._store is None:
                self._store = self._open()
            trials = self._store.get(case) or []
            missing = [backend for name, backend in candidates.items() if name not in {trial.name for trial in trials}]
            if missing:
                with self._aside():
                    trials = [*trials, *measure(missing, *parts, mask, scale)]
                self._store.put(case, [trial for trial in trials if trial.refusal != NO_MEMORY])
                log.info("%s", table(case, trials, precision))
        return [candidates[trial.name] for trial in ranked(trials, precision) if trial.name in candidates]


NO_MEMORY = "not enough memory"


def measure(
    backends: Sequence[Backend],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
) -> list[Trial]:
    """Try kernels on these tensors: run, compare with float32, time.

    Args:
        backends: the candidates.
        query, key, value, mask, scale: as for :meth:`Chooser.attend`.

    Returns:
        One trial for each.
    """
    rows = sample_rows(query.shape[2], query.device)
    reference = reference_rows(query, key, value, mask, scale, rows)
    trials = []
    for backend in backends:
        if mask is not None and not backend.masks:
            trials.append(Trial(backend.name, tolerance=backend.tolerance, refusal="takes no mask"))
            continue
        try:
            call = functools.partial(backend.run, query, key, value, mask, scale)
            error = relative_error(call(), reference, rows)
            took = [_call_ms(call, query.device) for _ in range(_TIMED_CALLS)]
            trials.append(Trial(backend.name, statistics.median(took), error, backend.tolerance))
        except torch.OutOfMemoryError:
            trials.append(Trial(backend.name, tolerance=backend.tolerance, refusal=NO_MEMORY))
        except Exception as error:  # whatever a kernel says when it cannot
            words = str(error).strip().split("\n")[0][:120]
            trials.append(Trial(backend.name, tolerance=backend.tolerance, refusal=words or type(error).__name__))
    return trials


def _call_ms(call: Callable[[], torch.Tensor], device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        return (time.perf_counter() - began) * 1e3
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before.record()
    call()
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after))
