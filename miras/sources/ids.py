"""The name of a source before every id of its records, so that no two sources share one."""

from __future__ import annotations

from dataclasses import replace

from miras.dialogue.records import Dialogue, Region
from miras.sources.records import SourcePicture, TextOnly


def own_picture(picture: SourcePicture, name: str) -> SourcePicture:
    """The picture of source `name` with its regions, dialogues and originals."""
    return replace(
        picture,
        image_id=_own(name, picture.image_id),
        regions=tuple(_own_region(region, name) for region in picture.regions),
        dialogues=tuple(_own_dialogue(dialogue, name) for dialogue in picture.dialogues),
        originals=tuple(
            original.model_copy(update={"dialogue_id": _own(name, original.dialogue_id)})
            for original in picture.originals
        ),
    )


def own_texts(texts: TextOnly, name: str) -> TextOnly:
    """The dialogues of source `name`."""
    return TextOnly(tuple(_own_dialogue(dialogue, name) for dialogue in texts.dialogues))


def _own(name: str, record_id: str) -> str:
    return f"{name}-{record_id}" if record_id else ""  # a dialogue without picture keeps none


def _own_region(region: Region, name: str) -> Region:
    return region.model_copy(
        update={
            "region_id": _own(name, region.region_id),
            "image_id": _own(name, region.image_id),
            "parent_id": _own(name, region.parent_id) if region.parent_id else None,
            "relations": tuple(
                relation.model_copy(update={"object_id": _own(name, relation.object_id)})
                for relation in region.relations
            ),
        }
    )


def _own_dialogue(dialogue: Dialogue, name: str) -> Dialogue:
    turns = tuple(
        turn.model_copy(
            update={
                "targets": tuple(_own(name, target) for target in turn.targets),
                "points_at": tuple(_own(name, region_id) for region_id in turn.points_at),
            }
        )
        for turn in dialogue.turns
    )
    ids = {"dialogue_id": _own(name, dialogue.dialogue_id), "image_id": _own(name, dialogue.image_id)}
    return dialogue.model_copy(update=ids | {"turns": turns})
