"""Everything that has come back, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miras.annotate.adjudicate import Decision, adjudicate, adjudicated, agreements, decide
from miras.annotate.agreement import SampleAgreement
from miras.annotate.config import ADJUDICATION, AnnotateConfig
from miras.annotate.hand_in import GroupFolder, elsewhere, take_in
from miras.annotate.hand_out import text_sha256_now
from miras.annotate.manifest import Manifest
from miras.annotate.records import Answer, Sample, State
from miras.dialogue.records import Rejected
from miras.progress import progress


@dataclass(frozen=True)
class Returned:
    """The state of all samples."""

    decisions: dict[str, Decision]
    """Region id -> what is decided."""
    answers: tuple[Answer, ...]
    """One per sample and group it was dealt to, and one of the adjudicator per sample that is in dispute."""
    compared: tuple[SampleAgreement, ...]
    """Of the groups' own answers, before anybody adjudicated."""
    strangers: tuple[Rejected, ...]
    """Files in the people's folder that are not read."""

    @property
    def unanswered(self) -> list[Answer]:
        """What is still open or was refused."""
        return [answer for answer in self.answers if answer.state != "accepted"]

    def count(self, state: State) -> int:
        """How many answers are accepted, open or rejected; together they are all."""
        return sum(answer.state == state for answer in self.answers)


def collect(samples: Sequence[Sample], manifest: Manifest, *, pictures: Path, config: AnnotateConfig) -> Returned:
    """Reads the groups' folders and the adjudicator's, to which samples in dispute are handed out.

    Args:
        samples: what is to be drawn; all of them are in the manifest.
        manifest: what was handed out.
        pictures: folder of the pictures.
    """
    folder = Path(config.folder)
    folders = _group_folders(folder, manifest)
    decisions: dict[str, Decision] = {}
    all_answers: list[Answer] = []
    compared: list[SampleAgreement] = []
    disputed: list[tuple[Sample, Sequence[Answer]]] = []
    for sample in progress(samples, name="taking in", unit="samples"):
        answers = _answers(sample, manifest, folders)
        all_answers += answers
        if any(answer.state != "accepted" for answer in answers):
            continue
        pairs = agreements(answers, size=manifest.samples[sample.name].size)
        compared += pairs
        decision = decide(answers, pairs, config=config)
        if decision is None:
            disputed.append((sample, answers))
        else:
            decisions[sample.region.region_id] = decision
    third = adjudicate(disputed, folder=folder, pictures=pictures, samples=manifest.samples)
    for (sample, own), final in zip(disputed, third.answers, strict=True):
        all_answers.append(final)
        if final.state == "accepted":
            decisions[sample.region.region_id] = adjudicated(final, own)
    strangers = [item for group in folders.values() for item in group.strangers]
    strangers += [*third.strangers, *elsewhere(folder, read=[*folders, ADJUDICATION])]
    return Returned(decisions, tuple(all_answers), tuple(compared), tuple(strangers))


def _group_folders(folder: Path, manifest: Manifest) -> dict[str, GroupFolder]:
    """The folder of every group that was ever dealt a sample."""
    given: dict[str, set[str]] = {}
    for item in manifest.samples.values():
        for group in item.outline_sha256:
            given.setdefault(group, set()).add(item.sample)
    return {group: GroupFolder(folder / group, given=given[group], samples=manifest.samples) for group in sorted(given)}


def _answers(sample: Sample, manifest: Manifest, folders: dict[str, GroupFolder]) -> list[Answer]:
    handed = manifest.samples[sample.name]
    text_sha256 = text_sha256_now(sample, {})
    return [
        take_in(sample, handed, group, files=folders[group], ignored=(), text_sha256=text_sha256)
        for group in handed.outline_sha256
    ]
