"""The statistics as statistics.json holds them: numbers on top, which become metrics, and tables of flat records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from miras.card.statistics import DataStatistics
from miras.dialogue.masks import SIZE_CLASSES


def as_json(found: DataStatistics) -> dict[str, Any]:
    """Headline numbers, then tables: lists of flat records, so that a tracker shows them as tables."""
    whole = json.loads(found.model_dump_json())
    parts, lengths, classes, octaves = [], [], [], []
    for part in whole["parts"]:
        label = {"axis": part["axis"], "part": part["name"]}
        flat = {key: value for key, value in part.items() if isinstance(value, int)}
        sizes = {name: part["masks"][name] for name in SIZE_CLASSES}
        parts.append({**label, **flat, **sizes, **{f"kind_{kind}": count for kind, count in part["kinds"].items()}})
        spreads = {**part["lengths"], "mask_area_canvas_px": part["masks"]["area_px"]}
        lengths += [{**label, "measure": name, **spread} for name, spread in spreads.items()]
        classes += [{**label, **item} for item in part["focus_classes"]]
        octaves += [{**label, "half_octave": at, "targets": count} for at, count in part["masks"]["by_half_octave"]]
    return {
        **dict(headline(found)),
        "pictures_ingested": found.pictures_ingested,
        "rejected_by_sources": found.rejected_by_sources,
        "parts": parts,
        "lengths": lengths,
        "focus_classes": classes,
        "mask_areas": octaves,
        "focus_words": [{"word": word, "count": count} for word, count in found.focus_words],
        "licences": [{"licence": name, "pictures": count} for name, count in found.licences.items()],
        "checked": whole["checked"],
        "broken_rules": whole["broken_rules"],
        "unmet_bounds": [{"says": says} for says in found.unmet_bounds],
        "agreement": [
            {"division": division, "part": name, **figures}
            for division in ("groups", "pairs", "sizes")
            for name, figures in found.agreement.get(division, {}).items()
        ],
    }


def headline(found: DataStatistics) -> Iterator[tuple[str, float]]:
    """The numbers that stand flat at the top of statistics.json."""
    whole, prist = found.whole, found.part("kind", "prist")
    for name in (
        "pictures",
        "dialogues",
        "turns",
        "targets",
        "turns_with_target",
        "vocabulary",
        "targets_without_mask",
    ):
        yield name, getattr(whole, name)
    for part in found.along("split"):
        yield f"dialogues_{part.name}", part.dialogues
    for kind, count in whole.kinds.items():
        yield f"dialogues_{kind}", count
    for name in ("turns_per_dialogue", "words_per_dialogue", "words_per_question", "words_per_answer"):
        yield f"mean_{name}", whole.lengths[name].mean
    if prist:
        yield "prist_mean_turns", prist.lengths["turns_per_dialogue"].mean
        yield "prist_focus_classes", len(prist.focus_classes)
    masked = max(1, whole.masks.area_px.count)
    for size in SIZE_CLASSES:
        yield f"{size}_percent", round(100 * getattr(whole.masks, size) / masked, 2)
    yield "dist_1_percent", found.dist_1_percent
    yield "dist_2_percent", found.dist_2_percent
    for table in found.checked:
        yield f"quarantined_{table.table}", table.quarantined
    if found.agreement:
        yield "agreement_iou", found.agreement["all"]["iou"]
        yield "agreement_kappa", found.agreement["all"]["kappa"]
