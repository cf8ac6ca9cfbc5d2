"""Makes torchvision importable when its compiled part does not fit the installed torch.

The published torchvision wheel is built for CUDA; beside a CPU-only torch its C++ library cannot load and
`import torchvision` fails, which in turn breaks transformers and segment_anything. Only the operator `nms` is
needed to import it, so we register one of our own. Where the compiled part loads (GPU machines, matching
builds) nothing is changed.

`miras.model` is imported by everything that needs torchvision, so this runs there and costs light commands nothing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from miras.errors import MirasError

_MATCHING = {"2.13": "0.28"}  # torch -> torchvision, the pair in constraints.txt
_library: object | None = None  # registered operators live as long as this object


def ensure_torchvision() -> None:
    """Imports torchvision, with our own CPU `nms` if its compiled part cannot load.

    Raises:
        MirasError: torchvision is absent, or belongs to another torch; with the command that mends it.
    """
    global _library
    if "torchvision" in sys.modules:
        return
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise MirasError("torchvision is not installed. Run `make install`.")
    try:
        torch.ops.load_library(str(Path(spec.origin).parent / "_C.so"))
        return
    except OSError:
        pass  # built for CUDA, or for another torch: told apart below
    _check_versions(torch.__version__, importlib.metadata.version("torchvision"))
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", non_maximum_suppression, "CPU")
    _library = library
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True


def _check_versions(torch_version: str, torchvision_version: str) -> None:
    wanted = _MATCHING.get(".".join(torch_version.split(".")[:2]))
    if wanted is None or not torchvision_version.startswith(wanted + "."):
        raise MirasError(
            f"torchvision {torchvision_version} does not belong to torch {torch_version}. "
            f"Install the pair in constraints.txt: `make install`."
        )


def non_maximum_suppression(dets, scores, iou_threshold):  # type: ignore[no-untyped-def]
    """Indices of kept boxes, best score first: greedy suppression above the IoU threshold.

    Args:
        dets: float [n, 4] boxes xyxy.
        scores: float [n].
        iou_threshold: a box overlapping a kept one by more than this is dropped.
    """
    import torch

    order = scores.argsort(descending=True, stable=True)
    areas = (dets[:, 2] - dets[:, 0]) * (dets[:, 3] - dets[:, 1])
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        top_left = torch.maximum(dets[best, :2], dets[rest, :2])
        bottom_right = torch.minimum(dets[best, 2:], dets[rest, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        order = rest[overlap / (areas[best] + areas[rest] - overlap) <= iou_threshold]
    return torch.stack(kept) if kept else order
