"""Bytes on disk: public weights, stored features, checkpoints and what training leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from miras.errors import ConfigError
from miras.files import count_lines
from miras.model.blueprint import PartSize, stored_config
from miras.model.config import Public
from miras.paths import Paths
from miras.plan.memory import FLOAT32, Shapes
from miras.sources.coco import CocoSource
from miras.sources.config import IngestConfig, Source
from miras.sources.labelme import LabelmeSource
from miras.sources.scenes import ScenesSource

FEATURE_BYTES = 2  # float16
PUBLISHED_LLAVA_BYTES = 2  # LLaVA is published in half precision, ConvNeXt and SAM in float32
LLAVA_PARTS = ("CLIP", "projector", "embedding and head", "language model")
SAM_PARTS = ("SAM encoder", "prompt encoder", "mask decoder")


def count_pictures(paths: Paths, ingest: IngestConfig) -> int | None:
    """Pictures of the data set; None where that cannot be known before they are read.

    From the table that `ingest` left, else from the settings (scenes) or the user's annotations (COCO, Labelme).
    """
    if paths.picture_table.is_file():
        return count_lines(paths.picture_table)
    counts = [_count_source(source, limit=ingest.max_pictures) for source in ingest.sources.values()]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _count_source(source: Source, *, limit: int) -> int | None:
    if isinstance(source, ScenesSource):
        return min(source.count, limit)
    if isinstance(source, LabelmeSource):
        folder = Path(source.annotations)
        return min(limit, sum(1 for _ in folder.rglob("*.json"))) if folder.is_dir() else None
    if isinstance(source, CocoSource) and Path(source.annotations).is_file():
        try:
            return min(limit, len(json.loads(Path(source.annotations).read_bytes())["images"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{source.annotations}: no COCO file ({type(error).__name__}: {error}); expected a list `images`. "
                "Correct `annotations` of the source (params.yaml: ingest.sources)."
            ) from None
    return None


def public_weights(public: Public, sizes: Sequence[PartSize]) -> int:
    """Bytes still to be downloaded; a part that is at hand counts nothing."""
    count = {size.part: size.total for size in sizes}
    needed = 0
    if stored_config(public.llava, kinds=("llava", "llava_next")) is None:
        needed += PUBLISHED_LLAVA_BYTES * sum(count.get(part, 0) for part in LLAVA_PARTS)
    if public.convnext and stored_config(public.convnext, kinds=("convnext",)) is None:
        needed += FLOAT32 * count["ConvNeXt"]
    if not Path(public.sam).is_file():
        needed += FLOAT32 * sum(count[part] for part in SAM_PARTS)
    return needed


def feature_bytes(shapes: Shapes, *, pictures: int) -> int:
    """Bytes of the feature store: float16, exact but for a short header per shard."""
    return pictures * shapes.picture_features * FEATURE_BYTES


def stage_bytes(*, learned: int, trainable: int) -> int:
    """Bytes of a training stage: three checkpoints (two are kept, and the new one is whole before the oldest goes) and
    two copies of the weights (in the work folder and as the stage's result).

    A checkpoint holds per trainable parameter the float32 weight and Adam's two states.
    """
    checkpoint = trainable * 3 * FLOAT32
    return 3 * checkpoint + 2 * learned * FLOAT32


def still_needed(expected: Mapping[str, int], places: Mapping[str, str]) -> dict[str, int]:
    """Bytes that are not on disk yet: what is expected less what lies in the part's folder.

    Args:
        expected: part -> bytes.
        places: part -> folder, for parts that have one.
    """
    return {part: max(0, size - _folder_bytes(places.get(part))) for part, size in expected.items()}


def _folder_bytes(folder: str | None) -> int:
    if folder is None or not Path(folder).is_dir():
        return 0
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
