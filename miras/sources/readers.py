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
from miras.sources.limits import ReadLimits
from miras.sources.records import SourcePicture, TextOnly
from miras.sources.scenes import ScenesSource

Item = SourcePicture | TextOnly | Rejected


def _read_scenes(source: ScenesSource, *, limits: ReadLimits) -> Iterator[SourcePicture]:
    count = min(source.count, limits.max_pictures)
    rendered = scenes.read(count=count, size_px=source.size_px, seed=source.seed)
    yield from progress(rendered, total=count, name="rendering scenes", unit="pictures")


# Their annotators outlined what they were asked for: a class that is not annotated may well be in the picture.
NOT_EXHAUSTIVE = frozenset({"lvis", "paco", "visual_genome", "refer", "reasonseg", "prist", "mrseg"})

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
