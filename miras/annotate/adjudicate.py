"""From several groups' answers to one: agreed, or decided by a third person.

The mask of an agreed sample is the outline of the group that was dealt it first (the front rotates, so no group's
hand decides for all): it is something that a person has drawn and looked at, where the union or intersection of two
outlines is always too large or too small. With three groups or more each pixel goes with more than half of them.
Where they do not agree, the adjudicator's answer counts alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miras.annotate import outlines
from miras.annotate.agreement import SampleAgreement, compare
from miras.annotate.config import ADJUDICATION, AnnotateConfig
from miras.annotate.dialogue_text import Place, apply_changes
from miras.annotate.hand_in import GroupFolder, take_in
from miras.annotate.hand_out import give, label_of, text_sha256_now
from miras.annotate.manifest import Manifest
from miras.annotate.records import Answer, Change, Correction, HandedOut, Sample
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Rejected, Rle


@dataclass(frozen=True)
class Decision:
    """What is to be used of a sample."""

    mask: Rle | None
    """None: people found that the thing is not in the picture."""
    corrections: tuple[Correction, ...]


@dataclass(frozen=True)
class Adjudicated:
    """What came back from the adjudicator's folder."""

    answers: tuple[Answer, ...]
    """One per sample in dispute."""
    strangers: tuple[Rejected, ...]
    """Files there that are not read."""


def agreements(answers: Sequence[Answer], *, size: tuple[int, int]) -> list[SampleAgreement]:
    """The agreement of every pair of accepted answers to one sample; "not in the picture" is an empty mask.

    Args:
        size: (height, width) of the picture.
    """
    empty = masks.encode(np.zeros(size, dtype=bool))
    accepted = [answer for answer in answers if answer.state == "accepted"]
    return compare(accepted[0].sample, [(a.group, a.mask or empty) for a in accepted]) if accepted else []


def decide(
    answers: Sequence[Answer], compared: Sequence[SampleAgreement], *, config: AnnotateConfig
) -> Decision | None:
    """What the groups decide together; None where they do not agree.

    Args:
        answers: all accepted, the first group's first.
        compared: their agreements.
    """
    is_agreed = all(c.counts.iou >= config.min_iou and c.counts.kappa >= config.min_kappa for c in compared)
    is_absent = {answer.mask is None for answer in answers}
    if not is_agreed or len(is_absent) > 1 or _remarks(answers):
        return None
    drawn = [answer.mask for answer in answers if answer.mask is not None]
    return Decision(_majority(drawn) if len(drawn) > 2 else next(iter(drawn), None), tuple(_undisputed(answers)))


def adjudicate(
    cases: Sequence[tuple[Sample, Sequence[Answer]]], *, folder: Path, pictures: Path, samples: Collection[str]
) -> Adjudicated:
    """What the adjudicator says about each sample that the groups do not agree on; hands out what is new.

    The text is given with all corrections that no other group contradicts; what contradicts stands below it.

    Args:
        cases: samples with the groups' accepted answers.
        folder: that of all groups; the adjudicator's is in it.
        pictures: folder of the pictures.
        samples: names of all that were ever handed out.
    """
    own = folder / ADJUDICATION
    manifest = Manifest(own)
    given: list[tuple[Sample, HandedOut, str]] = []
    for sample, answers in cases:
        shown = replace(sample, dialogues=_corrected(sample, answers))
        remarks = _remarks(answers)
        shapes = [
            shape
            for number, answer in enumerate(answers, 1)
            if answer.mask is not None
            for shape in outlines.shapes(answer.mask, label=_label(sample, answer.group), group_id=number)
        ]
        before = manifest.samples.get(sample.name)
        handed = give(shown, {ADJUDICATION: own}, pictures=pictures, shapes=shapes, before=before, remarks=remarks)
        manifest.add(handed)
        given.append((shown, handed, text_sha256_now(shown, remarks)))
    files = GroupFolder(own, given=manifest.samples, samples=samples)
    finals = [
        take_in(
            shown,
            handed,
            ADJUDICATION,
            files=files,
            ignored=[_label(sample, answer.group) for answer in answers],
            text_sha256=text_sha256,
        )
        for (shown, handed, text_sha256), (sample, answers) in zip(given, cases, strict=True)
    ]
    return Adjudicated(tuple(finals), tuple(files.strangers))


def adjudicated(answer: Answer, answers: Sequence[Answer]) -> Decision:
    """What follows from the adjudicator's accepted answer to what the groups answered."""
    changes = {_place(change): change for change in answer.changes}
    kept = [item for item in _undisputed(answers) if _place(item.change) not in changes]
    before = {_place(item.change): item.change.before for item in _undisputed(answers)}
    own = [
        Correction(
            groups=(answer.group,), change=change.model_copy(update={"before": before.get(place, change.before)})
        )
        for place, change in changes.items()
    ]
    return Decision(answer.mask, (*kept, *(item for item in own if item.change.before != item.change.after)))


def _majority(drawn: Sequence[Rle]) -> Rle:
    votes = np.sum([masks.decode(rle) for rle in drawn], axis=0)
    return masks.encode(2 * votes > len(drawn))


def _by_place(answers: Sequence[Answer]) -> dict[Place, list[tuple[str, Change]]]:
    """Place -> (group, change) of all who corrected it."""
    found: dict[Place, list[tuple[str, Change]]] = {}
    for answer in answers:
        for change in answer.changes:
            found.setdefault(_place(change), []).append((answer.group, change))
    return found


def _undisputed(answers: Sequence[Answer]) -> list[Correction]:
    """The corrections of places for which all who corrected them wrote the same."""
    return [
        Correction(groups=tuple(group for group, _ in made), change=made[0][1])
        for made in _by_place(answers).values()
        if len({change.after for _, change in made}) == 1
    ]


def _remarks(answers: Sequence[Answer]) -> dict[Place, list[str]]:
    """What each group wrote, for the places where they contradict each other."""
    return {
        place: [f"{group} would write: {change.after}" for group, change in made]
        for place, made in _by_place(answers).items()
        if len({change.after for _, change in made}) > 1
    }


def _corrected(sample: Sample, answers: Sequence[Answer]) -> tuple[Dialogue, ...]:
    changes = [item.change for item in _undisputed(answers)]
    return tuple(apply_changes(dialogue, changes) for dialogue in sample.dialogues)


def _place(change: Change) -> Place:
    return (change.dialogue_id, change.turn, change.field)


def _label(sample: Sample, group: str) -> str:
    """What a group's outline is called where it is shown to the adjudicator; Labelme colours by label."""
    return f"{label_of(sample.region.phrase)} ({group})"
