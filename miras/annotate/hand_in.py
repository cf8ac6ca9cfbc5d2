"""Takes samples back: one answer per sample and group, and one clear line for whatever is wrong with it.

Nothing is guessed: a file with another label, of another size, or one of two that differ is refused with what to
do, and stays where it is. in = accepted + still open + rejected.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miras.annotate.dialogue_text import read_changes
from miras.annotate.guide import ABSENT, FINISHED, PROPOSAL
from miras.annotate.hand_out import label_of
from miras.annotate.manifest import sha256_of
from miras.annotate.records import Answer, Change, HandedOut, Sample
from miras.dialogue import masks
from miras.dialogue.records import Rejected, Rle
from miras.errors import DataError
from miras.sources.annotations import read_json, rejection
from miras.sources.labelme import ENCODINGS, IGNORED_LABEL, SHAPES_WITHOUT_AREA, shape_mask
from miras.sources.pictures import printable

_NEAR = 0.5  # assumed: as alike as a slip of the keyboard or a word left out
_NUM_LABELS_SHOWN = 3
_LABEL_CHARACTERS = 80  # of a wrong label, shown


class _StillOpenError(Exception):
    """The drawing is not finished; the message says what is lacking."""


@dataclass(frozen=True)
class _Drawing:
    """What a Labelme file says: a mask, or that there is nothing to draw."""

    mask: Rle | None


class GroupFolder:
    """The Labelme files in one group's folder, sorted by the sample they belong to."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Lists the folder once.

        Args:
            names: of all samples ever handed out, so that the files of earlier ones are known.
        """
        self.folder = folder
        self._files: dict[str, list[Path]] = {}
        self.strangers: list[Path] = []
        known = set(names)
        files = folder.iterdir() if folder.is_dir() else ()
        for path in sorted(file for file in files if file.suffix.lower() == ".json" and file.is_file()):
            sample = next((path.stem[:end] for end in range(len(path.stem), 0, -1) if path.stem[:end] in known), None)
            if sample is None:
                self.strangers.append(path)
            else:
                self._files.setdefault(sample, []).append(path)

    def drawn(self, sample: str) -> list[Path]:
        """The sample's file and copies of it (`NAME (1).json`, `NAME - Copy.json`)."""
        return self._files.get(sample, [])

    def rejected_strangers(self) -> list[Rejected]:
        """A refusal of each file that belongs to no sample."""
        reason = "belongs to no sample that was handed out. Give it the name of its picture, or take it out"
        return [rejection(Rejected, path, reason) for path in self.strangers]


def take_in(
    sample: Sample, handed: HandedOut, group: str, *, files: GroupFolder, ignored: Sequence[str], text_sha256: str
) -> Answer:
    """A group's answer about a sample.

    Args:
        handed: what was given.
        files: the group's folder.
        ignored: labels of outlines that were given for comparison only.
        text_sha256: of the text file as it would be given now.
    """
    reply: dict[str, Any] = {"sample": sample.name, "group": group}
    try:
        drawing = _drawing(files.drawn(sample.name), handed, group, ignored=ignored)
        changes = _changes(files.folder / f"{sample.name}.txt", sample, handed.text_sha256[group], text_sha256)
    except _StillOpenError as unfinished:
        return Answer(**reply, state="open", reason=printable(unfinished))
    except DataError as error:
        return Answer(**reply, state="rejected", reason=printable(error))
    return Answer(**reply, state="accepted", mask=drawing.mask, changes=changes)


def _drawing(paths: Sequence[Path], handed: HandedOut, group: str, *, ignored: Sequence[str]) -> _Drawing:
    """What the group drew, from whichever of its files it saved.

    Raises:
        _StillOpenError: nothing was saved, or not finished.
        DataError: a file cannot be used, or two say different things.
    """
    saved = [path for path in paths if sha256_of(_content(path)) != handed.outline_sha256[group]]
    if not saved:
        raise _StillOpenError("nothing has been saved yet")
    found: dict[Path, _Drawing] = {}
    unfinished: list[str] = []
    for path in saved:
        try:
            found[path] = _read_drawing(path, handed, ignored=ignored)
        except _StillOpenError as reason:
            unfinished.append(str(reason))
    if not found:
        raise _StillOpenError(unfinished[0])
    first, *others = found.values()
    if any(other != first for other in others):
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{saved[0].parent}: {names} are {len(found)} answers to one sample, and they differ. Keep the right one "
            f"as {handed.sample}.json and take the others out"
        )
    return first


def _read_drawing(path: Path, handed: HandedOut, *, ignored: Sequence[str]) -> _Drawing:
    content = read_json(path, encodings=ENCODINGS)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f'{path}: no list under "shapes": not a Labelme file. Save it in Labelme again')
    flags = content.get("flags")
    flags = flags if isinstance(flags, dict) else {}
    if flags.get(FINISHED) is not True:
        raise _StillOpenError(
            f"{path}: saved, but the flag {FINISHED!r} is not ticked. Tick it in Labelme when it is done"
        )
    _check_size(path, content, handed)
    mask = _mask(path, content["shapes"], handed, ignored=ignored)
    if flags.get(ABSENT) is True:
        if mask is not None:
            raise DataError(
                f"{path}: {ABSENT!r} is ticked, and there is an outline labelled {label_of(handed.phrase)!r} all the "
                "same. Take one of them away"
            )
        return _Drawing(None)
    if mask is None:
        raise DataError(
            f"{path}: no outline: expected one with the label {label_of(handed.phrase)!r}. Draw it, or tick "
            f"{ABSENT!r} if it cannot be seen"
        )
    return _Drawing(mask)


def _check_size(path: Path, content: Mapping[str, Any], handed: HandedOut) -> None:
    stated = (content.get("imageHeight"), content.get("imageWidth"))
    if any(found is not None and found != given for found, given in zip(stated, handed.size, strict=True)):
        height, width = handed.size
        raise DataError(
            f"{path}: drawn on a picture of {stated[1]} x {stated[0]} px, handed out was one of {width} x {height}. "
            f"Draw on the picture {handed.sample} of this folder, unchanged"
        )


def _mask(path: Path, shapes: Sequence[Any], handed: HandedOut, *, ignored: Sequence[str]) -> Rle | None:
    """The union of the outlines with the right label; None where there is none.

    Raises:
        DataError: an outline cannot be read, or has a label that nobody gave.
    """
    expected = _folded(handed.phrase)
    not_counted = {_folded(label) for label in (*ignored, IGNORED_LABEL)}
    pieces: list[Rle] = []
    wrong: list[str] = []
    for index, shape in enumerate(shapes):
        if not isinstance(shape, dict):
            raise DataError(f"{path}: shapes[{index}]: expected an outline, found {shape!r}. Save it in Labelme again")
        label = shape.get("label")
        folded = _folded(label) if isinstance(label, str) else ""
        if shape.get("shape_type") in SHAPES_WITHOUT_AREA:
            continue
        if folded != expected:
            if folded not in not_counted and not _is_proposal(folded):
                wrong.append(repr(label)[:_LABEL_CHARACTERS])
            continue
        try:
            pieces.append(shape_mask(shape, height=handed.size[0], width=handed.size[1]))
        except DataError as error:
            raise DataError(f"{path}: shapes[{index}]: {error}. Draw it again") from None
    if wrong:
        raise DataError(f"{path}: {_wrong_label(wrong, handed.phrase)}")
    return masks.union(pieces) if pieces else None


def _wrong_label(wrong: Sequence[str], phrase: str) -> str:
    shown = ", ".join(wrong[:_NUM_LABELS_SHOWN]) + (" ..." if len(wrong) > _NUM_LABELS_SHOWN else "")
    alike = difflib.SequenceMatcher(None, _folded(wrong[0].strip("'\"")), _folded(phrase)).ratio()
    meant = "meant is probably" if alike >= _NEAR else "expected was"
    return f"{len(wrong)} outlines have the label {shown}; {meant} {label_of(phrase)!r}. Rename or delete them"


def _is_proposal(folded: str) -> bool:
    return folded.startswith(f"{PROPOSAL} ") and folded.removeprefix(PROPOSAL).strip().isdigit()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Make it readable and run this again") from None


def _folded(label: str) -> str:
    """The label as it is compared: without regard to capitals, underscores and the number of blanks."""
    return " ".join(label.replace("_", " ").split()).casefold()


def _changes(path: Path, sample: Sample, handed_sha256: str, current_sha256: str) -> tuple[Change, ...]:
    """What the group corrected in the dialogues.

    Raises:
        DataError: the file cannot be read, or is a correction of dialogues that have changed since.
    """
    content = _content(path)
    if sha256_of(content) == current_sha256:
        return ()
    if handed_sha256 != current_sha256:
        raise DataError(
            f"{path}: corrects dialogues that have been written anew since they were handed out. Put it aside, run the "
            "same command again to get the new text, and correct that"
        )
    for encoding in ENCODINGS:
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise DataError(f"{path}: not text in {' or '.join(ENCODINGS)}. Save it as UTF-8")
    try:
        return read_changes(text, sample.dialogues)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
