"""Records as rows of features: what the expectations look at. Never arrays, never pictures.

A column that names a problem is null where there is none, so that its value is also the explanation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from miras.dialogue.masks import CANVAS_PX, size_class
from miras.dialogue.records import TARGET_SLOT, Dialogue, Picture, Region, Turn
from miras.dialogue.rendering import OBJ, SEG, phrases_in, render_answer
from miras.quality.dialogue_progress import progress_of
from miras.quality.duplicates import dialogue_key, repeated_dialogues, text_key
from miras.quality.focus_classes import focus_class
from miras.quality.mask_features import fault, fault_of_runs, runs_px
from miras.quality.text_features import listed, names, text_features, texts, typed_markers
from miras.quality.word_list import WordList

_REGION_COLUMNS = {
    "record_id": "str",
    "image_id": "str",
    "unknown_picture": "str",
    "phrase": "str",
    "phrase_words": "int64",
    "typed_markers": "str",
    "is_spoken": "bool",
    "target_without_mask": "str",
    "same_phrase_as": "str",
    "parent_problem": "str",
    "bad_parent": "str",
    "id_used_again": "str",
    "unwanted_words": "str",
}
_MASK_COLUMNS = {
    "record_id": "str",
    "image_id": "str",
    "is_target": "bool",
    "height_px": "Int64",
    "width_px": "Int64",
    "picture_height_px": "Int64",
    "picture_width_px": "Int64",
    "mask_fault": "str",
    "area_px": "Int64",
    "area_canvas_px": "float64",
    "size_class": "str",
}
_DIALOGUE_COLUMNS = {
    "record_id": "str",
    "image_id": "str",
    "kind": "str",
    "unknown_picture": "str",
    "text_key": "str",
    "repeats": "str",
    "turn_pattern": "str",
    "turns": "int64",
    "longest_text_words": "int64",
    "untidy_text": "str",
    "typed_markers": "str",
    "slots_in_questions": "int64",
    "slot_mismatch": "str",
    "wrong_references": "str",
    "speaks_of_no_mask": "str",
    "targets_per_turn": "str",
    "unknown_targets": "str",
    "targets_elsewhere": "str",
    "bad_targets": "str",
    "focus_key": "str",
    "target_phrase_key": "str",
    "rendered_phrases": "str",
    "target_phrases": "str",
    "id_used_again": "str",
    "unwanted_words": "str",
    "focus_class": "str",
    "focus_named": "float64",
    "turns_linked": "float64",
}


@dataclass(frozen=True)
class Known:
    """What the rows are compared with."""

    pictures: Mapping[str, Picture] | None
    """By image id; None for text-only sources, whose pictures nobody has."""
    regions: Mapping[str, Region]
    """By region id."""
    targeted: Collection[str]
    """Ids of the regions that some dialogue asks for."""
    spoken: Collection[str]
    """Of those, the ones that some answer calls by the region's own phrase."""
    repeated_region_ids: Collection[str]
    """Ids that more than one region of the data set has."""
    repeated_dialogue_ids: Collection[str]
    """Ids that more than one dialogue of the data set has."""
    words: WordList
    """What no text may hold."""


def region_frame(regions: Sequence[Region], known: Known, *, bad_region_ids: Collection[str]) -> pd.DataFrame:
    """One row per region: identity, phrase, parent.

    Args:
        regions: the table.
        known: pictures, regions and targets.
        bad_region_ids: regions known to be bad; their parts are bad with them.
    """
    holders = _phrase_holders(regions)
    rows = [
        {
            "record_id": region.region_id,
            "image_id": region.image_id,
            "unknown_picture": _unknown_picture(region.image_id, known),
            "phrase": region.phrase,
            "phrase_words": len(region.phrase.split()),
            "typed_markers": typed_markers([region.phrase], slots_allowed=False),
            "is_spoken": region.region_id in known.spoken,
            "target_without_mask": _target_without_mask(region, known),
            "same_phrase_as": _same_phrase_as(region, holders, known),
            "parent_problem": _parent_problem(region, known),
            "bad_parent": region.parent_id if region.parent_id in bad_region_ids else None,
            "id_used_again": region.region_id if region.region_id in known.repeated_region_ids else None,
            "unwanted_words": listed(known.words.found_in([region.phrase])),
        }
        for region in regions
    ]
    return _frame(rows, _REGION_COLUMNS)


def mask_frame(regions: Sequence[Region], known: Known) -> pd.DataFrame:
    """One row per region that has a mask: sizes in pixels, area on the 1024 canvas, size class."""
    rows = [_mask_row(region, known) for region in regions if region.mask is not None]
    return _frame(rows, _MASK_COLUMNS)


def dialogue_frame(
    dialogues: Sequence[Dialogue],
    known: Known,
    *,
    bad_regions: Mapping[str, str],
    near_duplicate_similarity: float,
) -> pd.DataFrame:
    """One row per dialogue: shape of its turns, texts, targets, repetition.

    Args:
        dialogues: the table.
        known: pictures, regions and targets.
        bad_regions: region id -> why it is in quarantine.
        near_duplicate_similarity: see `CheckConfig`.
    """
    phrases = {region_id: region.phrase for region_id, region in known.regions.items()}
    keys = [dialogue_key(dialogue, phrases) for dialogue in dialogues]
    repeats = repeated_dialogues(dialogues, keys, similarity=near_duplicate_similarity)
    rows = [
        {
            "record_id": dialogue.dialogue_id,
            "image_id": dialogue.image_id,
            "kind": dialogue.kind,
            "unknown_picture": _unknown_picture(dialogue.image_id, known) if _shows(dialogue) else None,
            "text_key": keys[row],
            "repeats": dialogues[repeats[row]].dialogue_id if row in repeats else None,
            **text_features(dialogue),
            **_target_features(dialogue, known, bad_regions),
            "id_used_again": dialogue.dialogue_id if dialogue.dialogue_id in known.repeated_dialogue_ids else None,
            "unwanted_words": listed(known.words.found_in(texts(dialogue) + names(dialogue))),
            **_prist_features(dialogue, phrases),
        }
        for row, dialogue in enumerate(dialogues)
    ]
    return _frame(rows, _DIALOGUE_COLUMNS)


def _frame(rows: list[dict[str, Any]], types: Mapping[str, str]) -> pd.DataFrame:
    """A frame with a `row` column and exactly these columns, also when it is empty or a column all null."""
    frame = pd.DataFrame(rows, columns=list(types)).astype(dict(types))
    frame.insert(0, "row", range(len(rows)))
    return frame


def _unknown_picture(image_id: str, known: Known) -> str | None:
    return image_id if known.pictures is not None and image_id not in known.pictures else None


def _shows(dialogue: Dialogue) -> bool:
    """Whether there has to be a picture: a dialogue in words alone may have none."""
    return bool(dialogue.image_id) or any(_used(turn) for turn in dialogue.turns)


def _target_without_mask(region: Region, known: Known) -> str | None:
    """The region's id when a dialogue asks for pixels that nobody marked; text-only sources have none."""
    is_missing = region.mask is None and region.region_id in known.targeted and known.pictures is not None
    return region.region_id if is_missing else None


def _phrase_holders(regions: Sequence[Region]) -> dict[tuple[str, str], list[str]]:
    """(image id, normalised phrase) -> ids of the regions with it."""
    holders: dict[tuple[str, str], list[str]] = {}
    for region in regions:
        holders.setdefault((region.image_id, text_key(region.phrase)), []).append(region.region_id)
    return holders


def _same_phrase_as(region: Region, holders: Mapping[tuple[str, str], list[str]], known: Known) -> str | None:
    if region.region_id not in known.spoken or not region.phrase.strip():
        return None
    others = set(holders[region.image_id, text_key(region.phrase)]) - {region.region_id}
    return ", ".join(sorted(others)) or None


def _parent_problem(region: Region, known: Known) -> str | None:
    if region.parent_id is None:
        return None
    parent = known.regions.get(region.parent_id)
    if parent is None:
        return f"{region.parent_id} is not in the table"
    if parent.image_id != region.image_id:
        return f"{region.parent_id} is in another picture, {parent.image_id}"
    return f"{region.parent_id} is the region itself" if region.parent_id == region.region_id else None


def _mask_row(region: Region, known: Known) -> dict[str, Any]:
    assert region.mask is not None
    picture = (known.pictures or {}).get(region.image_id)
    height, width = region.mask.size
    runs = runs_px(region.mask)
    problem = fault_of_runs(runs, height=height, width=width) or _ignored_fault(region)
    area = None if runs is None or problem else int(runs[1::2].sum())
    canvas = area * (CANVAS_PX / max(height, width)) ** 2 if area else None
    return {
        "record_id": region.region_id,
        "image_id": region.image_id,
        "is_target": region.region_id in known.targeted,
        "height_px": height,
        "width_px": width,
        "picture_height_px": picture.height if picture else None,
        "picture_width_px": picture.width if picture else None,
        "mask_fault": problem,
        "area_px": area,
        "area_canvas_px": canvas,
        "size_class": size_class(canvas) if canvas else None,
    }


def _ignored_fault(region: Region) -> str | None:
    """What is wrong with the mask of the pixels that scoring leaves out."""
    if region.ignored is None or region.mask is None:
        return None
    if region.ignored.size != region.mask.size:
        return "its mask of ignored pixels is {} x {} px, another size".format(*region.ignored.size)
    problem = fault(region.ignored)
    return f"of its ignored pixels {problem}" if problem else None


def _prist_features(dialogue: Dialogue, phrases: Mapping[str, str]) -> dict[str, str | float | None]:
    if dialogue.kind != "prist":
        return {"focus_class": None, "focus_named": None, "turns_linked": None}
    progress = progress_of(dialogue, phrases)
    return {
        "focus_class": focus_class(dialogue.focus) if dialogue.focus.strip() else None,
        "focus_named": progress.focus_named,
        "turns_linked": progress.turns_linked,
    }


def _target_features(dialogue: Dialogue, known: Known, bad_regions: Mapping[str, str]) -> dict[str, str | bool | None]:
    used = {region_id: known.regions.get(region_id) for turn in dialogue.turns for region_id in _used(turn)}
    found = {region_id: region for region_id, region in used.items() if region is not None}
    last = dialogue.turns[-1] if dialogue.turns else None
    return {
        "targets_per_turn": " ".join(str(len(turn.targets)) for turn in dialogue.turns),
        "unknown_targets": listed(region_id for region_id, region in used.items() if region is None),
        "targets_elsewhere": listed(
            f"{region.region_id} of picture {region.image_id}"
            for region in found.values()
            if region.image_id != dialogue.image_id
        ),
        "bad_targets": listed(f"{key}: {bad_regions[key]}" for key in found if key in bad_regions),
        "focus_key": text_key(dialogue.focus) or None,
        "target_phrase_key": _first_target_phrase(last, found),
        **_rendered(last, found),
    }


def _used(turn: Turn) -> tuple[str, ...]:
    """Regions whose masks the turn needs: its targets and what the person points at."""
    return turn.targets + turn.points_at


def _first_target_phrase(last: Turn | None, found: Mapping[str, Region]) -> str | None:
    if last is None or not last.targets or last.targets[0] not in found:
        return None
    return text_key(found[last.targets[0]].phrase) or None


def _rendered(last: Turn | None, found: Mapping[str, Region]) -> dict[str, str | None]:
    """Phrases between markers in the last answer as a model reads it, and those that should be there."""
    if last is None or not set(last.targets) <= set(found) or last.answer.count(TARGET_SLOT) != len(last.targets):
        return {"rendered_phrases": None, "target_phrases": None}  # another rule speaks of these
    phrases = {region_id: found[region_id].phrase for region_id in last.targets}
    answer = render_answer(last, phrases)
    groups = phrases_in(answer)
    stray = answer.count(OBJ) + answer.count(SEG) - 2 * len(groups)
    return {
        "rendered_phrases": " | ".join(groups) + (f" and {stray} stray markers" if stray else ""),
        "target_phrases": " | ".join(phrases[region_id].strip() for region_id in last.targets),
    }
