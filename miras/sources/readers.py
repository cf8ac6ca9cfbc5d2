"""Which function reads a source: one for each `reader` that `ingest.sources` may name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from miras.dialogue.records import Rejected
from miras.progress import progress
from miras.sources import (
    ade20k,
    captions,
    coco,
    coco_panoptic,
    labelme,
    llava_instruct,
    lvis,
    mrseg,
    paco,
    pascal_part,
    prist,
    reasonseg,
    refer,
    scenes,
    semantic,
    visual_genome,
)
from miras.sources.coco import CocoSource
from miras.sources.config import Source
from miras.sources.labelme import LabelmeSource
from miras.sources.limits import ReadLimits
from miras.sources.records import SourcePicture, TextOnly
from miras.sources.scenes import ScenesSource
from miras.sources.semantic import SemanticSource

Item = SourcePicture | TextOnly | Rejected


def _read_scenes(source: ScenesSource, *, limits: ReadLimits) -> Iterator[SourcePicture]:
    count = min(source.count, limits.max_pictures)
    rendered = scenes.read(count=count, size_px=source.size_px, seed=source.seed)
    yield from progress(rendered, total=count, name="rendering scenes", unit="pictures")


# Of these, each picture's record names the classes of which not all are outlined, and those that it does not show.
_FEDERATED = frozenset({"lvis", "paco"})
# Their annotators outlined what they were asked for: what is not outlined may well be in the picture.
_SELECTIVE = frozenset({"visual_genome", "refer", "reasonseg", "prist", "mrseg"})


def is_exhaustive(source: Source) -> bool:
    """Whether a class of the source of which a picture has no region is not in that picture."""
    if isinstance(source, CocoSource | LabelmeSource | SemanticSource):
        return source.is_exhaustive
    return source.reader not in _FEDERATED | _SELECTIVE


def may_leave_out(source: Source) -> bool:
    """Whether a picture may show more of any class than is outlined, without a word about it in the source."""
    return not is_exhaustive(source) and source.reader not in _FEDERATED


READERS: dict[str, Callable[..., Iterable[Item]]] = {
    "scenes": _read_scenes,
    "coco": coco.read,
    "labelme": labelme.read,
    "lvis": lvis.read,
    "paco": paco.read,
    "pascal_part": pascal_part.read,
    "ade20k": ade20k.read,
    "coco_panoptic": coco_panoptic.read,
    "semantic": semantic.read,
    "visual_genome": visual_genome.read,
    "refer": refer.read,
    "reasonseg": reasonseg.read,
    "captions": captions.read,
    "llava_instruct": llava_instruct.read,
    "prist": prist.read,
    "mrseg": mrseg.read,
}
