"""Counts of a PRIST file. Text only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean, median
from typing import Any

from miras.dialogue.rendering import IMAGE, OBJ, SEG
from miras.sources.prist_masks import ambiguities

_OPEN_IMAGES_NAME = re.compile(r"[0-9a-f]{16}\.jpg")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_JOINED = re.compile(r"\band\b|&|,", re.IGNORECASE)
_QUOTED = re.compile("[\"\u201c\u201d]|(?<!\\w)['\u2018]|['\u2019](?!\\w)")
# Heuristic, ours: words that name lettering, and quoted strings.
_LETTERING = re.compile(
    r"\b(?:text|sign|signage|label|logo|number|word|phrase|letter|name|title|brand|banner|poster|slogan|plate|date|"
    r"inscription|writing|display|score|time|price|badge|sticker|tag|caption|headline|symbol|board|billboard)s?\b",
    re.IGNORECASE,
)
_MOJIBAKE = re.compile("\u00c3[\u0080-\u00bf]|\u00e2\u20ac|\ufffd")


@dataclass(frozen=True)
class Spread:
    """Mean, median and ends of some counts; all 0 where there is none."""

    mean: float
    median: float
    least: int
    most: int

    @classmethod
    def of(cls, values: Iterable[int]) -> Spread:
        counts = list(values)
        if not counts:
            return cls(0.0, 0.0, 0, 0)
        return cls(fmean(counts), float(median(counts)), min(counts), max(counts))


@dataclass(frozen=True)
class Faults:
    """Records that are not of the form, by what is wrong with them; one may be in several."""

    not_a_record: int
    wrong_alternation: int
    odd_length: int
    empty_value: int
    empty_focus: int


@dataclass(frozen=True)
class Texts:
    """Lengths in words (parts between blanks) unless said otherwise."""

    words_per_dialogue: Spread
    characters_per_dialogue: Spread
    tokens_per_dialogue: Spread
    """Words and punctuation signs."""
    tokens_per_image: Spread
    words_per_question: Spread
    words_per_answer: Spread
    words_per_reasoning_question: Spread
    words_per_reasoning_answer: Spread
    by_reasoning_turn: dict[int, tuple[float, float]]
    """Turn from 1 -> mean words of its question and of its answer."""
    words_by_pairs: dict[int, float]
    """Number of pairs -> mean words per dialogue."""
    first_words: dict[str, int]
    distinct_1_percent: float
    """Of the reasoning answers: different words of all words, in lower case."""
    distinct_2_percent: float
    """The same of pairs of words that follow each other within an answer."""
    answer_tokens: int


@dataclass(frozen=True)
class Foci:
    """Of the phrases that dialogues lead to."""

    words: Spread
    histogram: dict[int, int]
    """Words -> foci."""
    distinct: int
    lettering: int
    """Name text, signs, labels, logos, numbers; by a word list of ours."""
    covered_words_percent: float
    """Of the words of all foci, those that stand in their dialogue."""
    verbatim: int
    """Stand in their dialogue as they are."""
    quoted: int
    joined: int
    """With and, & or a comma."""
    starting_with_the: int


@dataclass(frozen=True)
class Markers:
    """Where markers stand."""

    last_answers_with_one_seg: int
    seg_elsewhere: int
    obj: int
    image: int


@dataclass(frozen=True)
class PristStatistics:
    """Counts of one file; all but `faults` are of its sound records."""

    dialogues: int
    images: int
    dialogues_per_image: dict[int, int]
    """Dialogues of an image -> images."""
    runs_of_an_image: int
    """As many as images: the records of each stand together."""
    open_images_names: int
    messages_per_dialogue: dict[int, int]
    """Messages -> dialogues."""
    pairs: int
    mean_pairs: float
    reasoning_pairs: int
    """Without the last one of each dialogue."""
    distinct_reasoning_questions: int
    distinct_reasoning_answers: int
    faults: Faults
    texts: Texts
    foci: Foci
    markers: Markers
    distinct_last_questions: int
    distinct_last_answers: int
    distinct_last_pairs: int
    last_questions_with_segment: int
    last_questions_with_divide: int
    exact_duplicates: int
    duplicate_dialogue_texts: int
    same_focus_pairs: tuple[tuple[int, int], ...]
    """Positions of records of one image with one focus."""
    substring_foci: tuple[tuple[int, int], ...]
    """(record, record of the same image whose focus contains its focus)."""
    non_ascii: tuple[int, ...]
    """Positions of records with other than ASCII letters."""
    mojibake: int
    outer_blanks: tuple[int, ...]
    """Positions of records with a text that begins or ends with a blank."""
    reasoning_questions_without_mark: tuple[int, ...]
    """Positions of records with a question that does not end with a question mark."""


@dataclass(frozen=True)
class _Sound:
    """A record of the form."""

    index: int
    image: str
    focus: str
    values: tuple[str, ...]

    @property
    def reasoning_questions(self) -> tuple[str, ...]:
        return self.values[:-2:2]

    @property
    def reasoning_answers(self) -> tuple[str, ...]:
        return self.values[1:-2:2]


def statistics(records: Sequence[Any]) -> PristStatistics:
    """The counts of a file.

    Args:
        records: as `prist.read_records` gives them.
    """
    faults, sound = _sort_out(records)
    names = [record.image for record in sound]
    per_image = Counter(names)
    ambiguous = list(ambiguities(records))
    questions = [text for record in sound for text in record.reasoning_questions]
    answers = [text for record in sound for text in record.reasoning_answers]
    last = [record.values[-2:] for record in sound]
    pairs = sum(len(record.values) // 2 for record in sound)
    return PristStatistics(
        dialogues=len(sound),
        images=len(per_image),
        dialogues_per_image=_counts(per_image.values()),
        runs_of_an_image=sum(1 for _ in groupby(names)),
        open_images_names=sum(bool(_OPEN_IMAGES_NAME.fullmatch(name)) for name in names),
        messages_per_dialogue=_counts(len(record.values) for record in sound),
        pairs=pairs,
        mean_pairs=pairs / len(sound) if sound else 0.0,
        reasoning_pairs=len(questions),
        distinct_reasoning_questions=len(set(questions)),
        distinct_reasoning_answers=len(set(answers)),
        faults=faults,
        texts=_texts(sound),
        foci=_foci(sound),
        markers=_markers(sound),
        distinct_last_questions=len({question for question, _ in last}),
        distinct_last_answers=len({answer for _, answer in last}),
        distinct_last_pairs=len(set(last)),
        last_questions_with_segment=sum("segment" in question.lower() for question, _ in last),
        last_questions_with_divide=sum("divide" in question.lower() for question, _ in last),
        exact_duplicates=len(sound) - len({(record.image, record.focus, record.values) for record in sound}),
        duplicate_dialogue_texts=len(sound) - len({record.values for record in sound}),
        same_focus_pairs=tuple(
            (item.index, other)
            for item in ambiguous
            if item.case == "duplicate"
            for other in item.others
            if item.index < other
        ),
        substring_foci=tuple(
            (item.index, other) for item in ambiguous if item.case == "substring" for other in item.others
        ),
        non_ascii=_where(sound, lambda text: not text.isascii()),
        mojibake=len(_where(sound, lambda text: bool(_MOJIBAKE.search(text)))),
        outer_blanks=_where(sound, lambda text: text != text.strip()),
        reasoning_questions_without_mark=tuple(
            record.index
            for record in sound
            if any(not question.rstrip().endswith("?") for question in record.reasoning_questions)
        ),
    )


def _sort_out(records: Sequence[Any]) -> tuple[Faults, list[_Sound]]:
    counts: Counter[str] = Counter()
    sound: list[_Sound] = []
    for index, record in enumerate(records):
        try:
            image, focus = record["img_id"], record["focus"]
            roles = [message["from"] for message in record["dialogue"]]
            values = tuple(message["value"] for message in record["dialogue"])
            if not all(isinstance(text, str) for text in (image, focus, *values)):
                raise TypeError
        except (TypeError, KeyError):
            counts["not_a_record"] += 1
            continue
        wrong = {
            "wrong_alternation": roles != [("human", "gpt")[number % 2] for number in range(len(roles))],
            "odd_length": len(values) % 2 == 1 or not values,
            "empty_value": not all(text.strip() for text in values),
            "empty_focus": not focus.strip(),
        }
        counts.update(name for name, is_wrong in wrong.items() if is_wrong)
        if not any(wrong.values()):
            sound.append(_Sound(index, image, focus, values))
    names = ("not_a_record", "wrong_alternation", "odd_length", "empty_value", "empty_focus")
    return Faults(**{name: counts[name] for name in names}), sound


def _texts(sound: Sequence[_Sound]) -> Texts:
    words = [sum(_words(text) for text in record.values) for record in sound]
    tokens = [sum(len(_TOKEN.findall(text)) for text in record.values) for record in sound]
    per_image: Counter[str] = Counter()
    for record, count in zip(sound, tokens, strict=True):
        per_image[record.image] += count
    by_turn: dict[int, tuple[list[int], list[int]]] = {}
    by_pairs: dict[int, list[int]] = {}
    for record, count in zip(sound, words, strict=True):
        by_pairs.setdefault(len(record.values) // 2, []).append(count)
        for number, (question, answer) in enumerate(
            zip(record.reasoning_questions, record.reasoning_answers, strict=True), 1
        ):
            asked, answered = by_turn.setdefault(number, ([], []))
            asked.append(_words(question))
            answered.append(_words(answer))
    answers = [text.lower().split() for record in sound for text in record.reasoning_answers]
    singles = [word for answer in answers for word in answer]
    doubles = [pair for answer in answers for pair in pairwise(answer)]
    return Texts(
        words_per_dialogue=Spread.of(words),
        characters_per_dialogue=Spread.of(sum(map(len, record.values)) for record in sound),
        tokens_per_dialogue=Spread.of(tokens),
        tokens_per_image=Spread.of(per_image.values()),
        words_per_question=Spread.of(_words(text) for record in sound for text in record.values[::2]),
        words_per_answer=Spread.of(_words(text) for record in sound for text in record.values[1::2]),
        words_per_reasoning_question=Spread.of(_words(text) for record in sound for text in record.reasoning_questions),
        words_per_reasoning_answer=Spread.of(_words(text) for record in sound for text in record.reasoning_answers),
        by_reasoning_turn={number: (fmean(asked), fmean(answered)) for number, (asked, answered) in by_turn.items()},
        words_by_pairs={number: fmean(counts) for number, counts in sorted(by_pairs.items())},
        first_words=dict(Counter(record.values[0].split()[0] for record in sound).most_common()),
        distinct_1_percent=_percent(len(set(singles)), len(singles)),
        distinct_2_percent=_percent(len(set(doubles)), len(doubles)),
        answer_tokens=len(singles),
    )


def _foci(sound: Sequence[_Sound]) -> Foci:
    lengths = [_words(record.focus) for record in sound]
    covered = total = verbatim = 0
    for record in sound:
        text = " ".join(record.values).lower()
        said, wanted = set(re.findall(r"\w+", text)), re.findall(r"\w+", record.focus.lower())
        covered += sum(word in said for word in wanted)
        total += len(wanted)
        verbatim += record.focus.strip().lower() in text
    return Foci(
        words=Spread.of(lengths),
        histogram=_counts(lengths),
        distinct=len({record.focus for record in sound}),
        lettering=sum(bool(_LETTERING.search(record.focus) or _QUOTED.search(record.focus)) for record in sound),
        covered_words_percent=_percent(covered, total),
        verbatim=verbatim,
        quoted=sum(bool(_QUOTED.search(record.focus)) for record in sound),
        joined=sum(bool(_JOINED.search(record.focus)) for record in sound),
        starting_with_the=sum(record.focus.lower().startswith("the ") for record in sound),
    )


def _markers(sound: Sequence[_Sound]) -> Markers:
    texts = [text for record in sound for text in (*record.values, record.focus)]
    return Markers(
        last_answers_with_one_seg=sum(record.values[-1].count(SEG) == 1 for record in sound),
        seg_elsewhere=sum(text.count(SEG) for record in sound for text in (*record.values[:-1], record.focus)),
        obj=sum(text.count(OBJ) for text in texts),
        image=sum(text.count(IMAGE) for text in texts),
    )


def _where(sound: Sequence[_Sound], is_so: Callable[[str], bool]) -> tuple[int, ...]:
    return tuple(record.index for record in sound if any(is_so(text) for text in (*record.values, record.focus)))


def _words(text: str) -> int:
    return len(text.split())


def _counts(values: Iterable[int]) -> dict[int, int]:
    return dict(sorted(Counter(values).items()))


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
