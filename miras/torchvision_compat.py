"""Makes torchvision importable when its compiled part does not fit the installed torch.

The published torchvision wheel is built for CUDA; beside a CPU-only torch its C++ library cannot load and
`import torchvision` fails, which in turn breaks transformers and segment_anything. All that the import needs is
that the operators exist, so they are declared, without implementation: nothing here suppresses boxes. Where the
compiled part loads (GPU machines, matching builds) nothing is changed.

`import miras` only installs a look-out for the first import of torchvision; it costs nothing before that.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from miras.errors import MirasError

_MATCHING = {"2.13": "0.28"}  # torch -> torchvision, the pair in constraints.txt
_OPERATORS = ("nms", "qnms")


def install() -> None:
    """Watches for the first import of torchvision in this process."""
    if "torchvision" not in sys.modules and not any(isinstance(finder, _LookOut) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LookOut())


class _LookOut(MetaPathFinder):
    """Prepares torch when torchvision is about to be imported, then lets the import go its way."""

    def __init__(self) -> None:
        self.library: object | None = None  # declared operators live as long as this object

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del target
        if fullname == "torchvision" and self.library is None:
            spec = PathFinder.find_spec(fullname, path)
            if spec is not None and spec.origin is not None:
                self.library = _declare_operators(Path(spec.origin).parent / "_C.so")
        return None


def _declare_operators(compiled: Path) -> object:
    """Loads torchvision's compiled part, or declares its operators; the result must be kept.

    Raises:
        MirasError: torchvision belongs to another torch; with the command that mends it.
    """
    import torch  # only when torchvision is wanted: it takes seconds

    try:
        torch.ops.load_library(str(compiled))
    except OSError:
        check_versions(torch.__version__, importlib.metadata.version("torchvision"))
    else:
        return compiled
    library = torch.library.Library("torchvision", "DEF")
    for operator in _OPERATORS:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def check_versions(torch_version: str, torchvision_version: str) -> None:
    """Raises a MirasError unless the two versions belong together."""
    wanted = _MATCHING.get(".".join(torch_version.split(".")[:2]))
    if wanted is None or not torchvision_version.startswith(wanted + "."):
        raise MirasError(
            f"torchvision {torchvision_version} does not belong to torch {torch_version}. "
            "Install the pair in constraints.txt: `make install`."
        )
