"""Repeated execution of a train step: from a CUDA graph where it can be captured, eagerly elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch

_WARM = 3
"""Eager steps before the capture: kernels are compiled and libraries set up, which a capture does not allow."""


class GraphedStep:
    """Calls ``step``; on a GPU captures it as a CUDA graph after a few eager calls and replays the graph from then on.

    Every call is one real step. ``refused``: why there is no graph, '' while there is one or none was tried.
    """

    def __init__(self, step: Callable[[], None], device: torch.device, wanted: bool = True) -> None:
        self._step = step
        self._cuda = device.type == "cuda" and wanted
        self.refused = ""
        self.reset()

    def reset(self) -> None:
        """Discards the graph: needed when the step will run other operations, as after a change of precision."""
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def __call__(self) -> None:
        if not self._cuda or self.refused:
            self._step()
            return
        if self._graph is None and self._calls < _WARM:
            self._calls += 1
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._step()
            torch.cuda.current_stream().wait_stream(side)
            return
        if self._graph is None and not self._capture():
            self._step()
            return
        assert self._graph is not None
        self._graph.replay()

    def _capture(self) -> bool:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph):
                self._step()
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a technique does that a capture refuses, it works without
            torch.cuda.synchronize()
            self.refused = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            return False
        self._graph = graph
        return True
