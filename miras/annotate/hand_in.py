"""Takes samples back: one answer per sample and group, and one clear line for whatever is wrong with it.

Nothing is guessed: a file with another label, of another size, or one of two that differ is refused with what to
do, and stays where it is. in = accepted + still open + rejected.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
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

    def __init__(self, folder: Path, *, given: Collection[str], samples: Collection[str]) -> None:
        """Lists the folder once.

        Args:
            given: samples that were ever handed out into this folder, also those that are no longer needed.
            samples: that were ever handed out to anybody.
        """
        self.folder = folder
        self.strangers: list[Rejected] = []
        """A refusal of each file that is not read."""
        self._files: dict[str, list[Path]] = {}
        for path in _saved_by_people(folder):
            sample = _sample_of(path, samples)
            reason = self._why_not_read(path, sample, given)
            if reason:
                self.strangers.append(rejection(Rejected, path, reason))
            elif sample and path.suffix.lower() == ".json":
                self._files.setdefault(sample, []).append(path)

    def drawn(self, sample: str) -> list[Path]:
        """The sample's file and copies of it (`NAME (1).json`, `NAME - Copy.json`)."""
        return self._files.get(sample, [])

    def _why_not_read(self, path: Path, sample: str | None, given: Collection[str]) -> str:
        """Empty when it is read, or is a text of the people's own."""
        is_text = path.suffix.lower() == ".txt"
        if sample is None:
            named = "belongs to no sample that was handed out. Give it the name of its picture, or take it out"
            return "" if is_text else named
        if sample not in given:
            return f"the sample {sample} was handed out to others, not to this folder. Move it there, or take it out"
        if path.parent != self.folder:
            return f"only files beside the pictures are read. Move it to {self.folder}, or take it out"
        if is_text and path.name != f"{sample}.txt":
            return f"only {sample}.txt is read. Put what it corrects into that file, and take this one out"
        return ""


def elsewhere(folder: Path, *, read: Collection[str]) -> list[Rejected]:
    """A refusal of each Labelme file below the people's folder that lies in nobody's folder.

    Args:
        read: names of the folders that are read.
    """
    reason = f"lies in no folder that is read. Move it to the group's own: {', '.join(read)}"
    return [
        rejection(Rejected, path, reason)
        for path in _saved_by_people(folder)
        if path.relative_to(folder).parts[0] not in read and path.suffix.lower() == ".json"
    ]


def _saved_by_people(folder: Path) -> list[Path]:
    """Labelme files and texts below a folder, in order; hidden ones (macOS keeps its own notes so) are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".json", ".txt") and not path.name.startswith(".") and path.is_file()
    )


def _sample_of(path: Path, samples: Collection[str]) -> str | None:
    """The sample whose name a file's name begins with."""
    return next((path.stem[:end] for end in range(len(path.stem), 0, -1) if path.stem[:end] in samples), None)


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
            f"{path}: no outline with the label {label_of(handed.phrase)!r} encloses anything. Draw it with Create "
            f"Polygons, give that label to the outline that fits, or tick {ABSENT!r} if it cannot be seen"
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
    used: set[str] = set()  # groups of outlines, as text: what stands there may be anything
    left: set[str] = set()
    for index, shape in enumerate(shapes):
        if not isinstance(shape, dict):
            raise DataError(f"{path}: outline {index + 1}: expected a shape, found {shape!r}. Save it in Labelme again")
        label = shape.get("label")
        folded = _folded(label) if isinstance(label, str) else ""
        if shape.get("shape_type") in SHAPES_WITHOUT_AREA:
            continue
        group = shape.get("group_id")
        if group is not None:
            (used if folded == expected else left).add(repr(group))
        if folded != expected:
            if folded not in not_counted and not _is_proposal(folded):
                wrong.append(repr(label)[:_LABEL_CHARACTERS])
            continue
        try:
            pieces.append(shape_mask(shape, height=handed.size[0], width=handed.size[1]))
        except DataError as error:
            raise DataError(f"{path}: outline {index + 1}: {error}. Draw it again") from None
    if wrong:
        raise DataError(f"{path}: {_wrong_label(wrong, handed.phrase)}")
    if used & left:
        raise DataError(
            f"{path}: of the parts of one outline (group {', '.join(sorted(used & left))}) some have the label "
            f"{label_of(handed.phrase)!r} and some have not. Rename all of them, or delete what is not meant"
        )
    return masks.union(pieces) if pieces else None


def _wrong_label(wrong: Sequence[str], phrase: str) -> str:
    shown = ", ".join(wrong[:_NUM_LABELS_SHOWN]) + (" ..." if len(wrong) > _NUM_LABELS_SHOWN else "")
    alike = difflib.SequenceMatcher(None, _folded(wrong[0].strip("'\"")), _folded(phrase)).ratio()
    meant = "meant is probably" if alike >= _NEAR else "expected was"
    found = "an outline has" if len(wrong) == 1 else f"{len(wrong)} outlines have"
    return f"{found} the label {shown}; {meant} {label_of(phrase)!r}. Rename or delete what is wrong"


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
    if "\0" in text:
        raise DataError(f"{path}: saved as UTF-16, or no text at all. Save it as UTF-8")
    try:
        return read_changes(text, sample.dialogues)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
