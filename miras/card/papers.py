"""Tables 2 and 8 of the PRIST paper: its numbers as stated facts, and the same figures of our data set."""

from __future__ import annotations

from dataclasses import dataclass

from miras.card.counting import Distribution, shares_percent
from miras.card.statistics import DataStatistics, PartStatistics


@dataclass(frozen=True)
class Row:
    """A figure in two data sets."""

    name: str
    ours: str
    paper: str


@dataclass(frozen=True)
class Comparison:
    """A line of Table 8. "+": it has that; "-": it has not; empty: the table says nothing."""

    name: str
    pictures: str
    regions: str
    samples: str
    caption: str
    single_turn: str
    multi_turn: str
    region_level: str
    pixel_level: str
    reasoning: str
    steps: str


# Stated in the paper's Table 8 (appendix B.3); counts there are rounded.
STATED = (
    Comparison("RefCOCO", "20K", "142K", "142K", "+", "+", "-", "+", "-", "-", ""),
    Comparison("Visual Genome", "82.4K", "3.8M", "3.8M", "+", "+", "-", "+", "-", "-", ""),
    Comparison("ReasonSeg", "1.2K", "1.2K", "1.2K", "+", "+", "-", "+", "-", "+", ""),
    Comparison("MMMU", "11.5K", "", "11.5K", "+", "+", "-", "-", "-", "+", "1.0"),
    Comparison("PRIST (the paper)", "2.8K", "8.3K", "8.3K", "+", "+", "+", "+", "+", "+", "4.0"),
)


def table_2(found: DataStatistics) -> list[Row]:
    """The columns of Table 2, ours of the PRIST dialogues of all splits, the paper's as it states them.

    The paper gives no unit for the length of a dialogue; its text calls it tokens. Its test file has a mean of 97.5
    tokens and of 492 characters, so characters are the nearer reading: both are given here.
    """
    prist = found.part("kind", "prist")
    if prist is None:
        return []
    sizes = prist.masks
    shares = shares_percent((sizes.coarse, sizes.medium, sizes.fine))
    turns = prist.lengths["turns_per_dialogue"]
    masked = "{:.0f} % : {:.0f} % : {:.0f} %".format(*shares) if sizes.area_px.count else "no masks"
    return [
        Row("Pictures", f"{prist.pictures:,}", "2,800"),
        Row("Dialogues", f"{prist.dialogues:,}", "8,320"),
        Row("Focus classes", f"{len(prist.focus_classes)}", "12"),
        Row("Masks, coarse : medium : fine", masked, "22 % : 25 % : 53 %"),
        Row("Utterances (turns without the last)", f"{prist.reasoning_turns:,}", "24k"),
        Row("Turns, mean / most", _mean_and_most(turns), "4 / 7"),
        Row(
            "Length of a dialogue in characters, mean / most",
            _mean_and_most(prist.lengths["characters_per_dialogue"]),
            "477.6 / 518 (unit not stated)",
        ),
        Row(
            "Length of a dialogue in words and signs, mean / most",
            _mean_and_most(prist.lengths["tokens_per_dialogue"]),
            "",
        ),
    ]


def table_8(found: DataStatistics, *, name: str) -> list[Comparison]:
    """Rows of Table 8 as stated, and our own, computed.

    Of ours: single and multi turn, captions and reasoning by the kinds and lengths of its dialogues; region level:
    targets with a mask; pixel level: targets of the size class fine; steps: mean turns of PRIST dialogues.
    """
    whole, prist = found.whole, found.part("kind", "prist")
    sizes = whole.masks
    turns = whole.lengths["turns_per_dialogue"]
    own = Comparison(
        name=name,
        pictures=_short(whole.pictures),
        regions=_short(whole.targets - whole.targets_without_mask),
        samples=_short(whole.dialogues),
        caption=_sign("caption" in whole.kinds),
        single_turn=_sign(turns.least == 1),
        multi_turn=_sign(turns.most > 1),
        region_level=_sign(bool(sizes.area_px.count)),
        pixel_level=_sign(bool(sizes.fine)),
        reasoning=_sign(prist is not None),
        steps=f"{prist.lengths['turns_per_dialogue'].mean:.1f}" if prist else "",
    )
    return [*STATED, own]


def size_shares_percent(part: PartStatistics) -> tuple[float, ...]:
    """Fine, medium, coarse."""
    return tuple(shares_percent((part.masks.fine, part.masks.medium, part.masks.coarse)))


def _mean_and_most(lengths: Distribution) -> str:
    return f"{lengths.mean:.1f} / {lengths.most:,}"


def _sign(has_it: bool) -> str:
    return "+" if has_it else "-"


def _short(count: int) -> str:
    """In the paper's manner: 950, 2.8K, 11K, 3.8M."""
    for unit, letter in ((1_000_000, "M"), (1_000, "K")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + letter
    return str(count)
