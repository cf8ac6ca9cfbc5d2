"""Which split each picture goes to: near-duplicates together, and nothing that was dealt ever moves.

Without a ledger a group of near-duplicates goes where the smallest of its content hashes says, compared with fixed
thresholds. So a picture without near-duplicates never moves, whatever is added, and the order of the data does not
matter. The price: since a rule without memory may look at nothing but the picture itself (else something would move),
the shares hold in expectation only, in each stratum with a standard deviation of sqrt(p (1 - p) / n); and a group that
gains a near-duplicate with a smaller hash goes with that one.

With a ledger every picture that was ever dealt stays, groups included, and the new ones fill each stratum up to its
exact shares (within one picture where groups are single pictures; see `_deal_stratum`). The price: the split
depends on the history, which is in the ledger; and a new picture that looks like pictures of two splits at once fits
nowhere and is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miras.dialogue.records import Frozen, Split
from miras.errors import ConfigError
from miras.files import read_records, write_records
from miras.quality.config import SplitConfig

Stratum = tuple[str, str]
"""Focus class and size class."""


@dataclass(frozen=True)
class Group:
    """Pictures that look nearly the same; most groups have one."""

    contents: tuple[str, ...]
    """Hashes of their content, each once, ascending; the id of a dialogue without picture."""
    stratum: Stratum


class Kept(Frozen):
    """A line of the ledger."""

    content: str
    """Hash of the picture's content."""
    split: Split
    seed: int
    """Of the split in which it was dealt."""


def read_ledger(path: Path, *, seed: int) -> dict[str, Split]:
    """Content -> its split; empty when there is no ledger yet.

    Raises:
        ConfigError: the ledger was made with another seed.
        DataError: a line is broken.
    """
    if not path.exists():
        return {}
    kept = list(read_records(path, Kept))
    other = next((line.seed for line in kept if line.seed != seed), seed)
    if other != seed:
        raise ConfigError(
            f"{path}: made with split.seed {other}, and params.yaml says {seed}. Kept pictures never move, so another "
            "seed would change nothing for them: set the seed back, or take the file away for a new split."
        )
    return {line.content: line.split for line in kept}


def write_ledger(path: Path, kept: Mapping[str, Split], *, seed: int) -> None:
    """Writes all of it, in order of content; a picture that is gone from the data keeps its place."""
    write_records(path, (Kept(content=content, split=kept[content], seed=seed) for content in sorted(kept)))


def split_of(content: str, split: SplitConfig) -> Split:
    """The split of a picture with this hash of its content, or of a dialogue without picture with this id.

    Raising `val_share` moves pictures from train to val only; the test pictures stay.
    """
    place = _place(content, split.seed)
    if place < split.test_share:
        return "test"
    return "val" if place < split.test_share + split.val_share else "train"


def deal(groups: Iterable[Group], split: SplitConfig) -> dict[str, Split]:
    """Content -> its split, by content alone."""
    return {content: split_of(group.contents[0], split) for group in groups for content in group.contents}


def deal_on(groups: Sequence[Group], kept: Mapping[str, Split], split: SplitConfig) -> dict[str, Split | None]:
    """Content -> its split, kept ones where they are; None: it looks like kept pictures of several splits.

    Args:
        groups: all of the data set, new and old.
        kept: the ledger.
        split: the shares.
    """
    dealt: dict[str, Split | None] = {}
    strata: dict[Stratum, list[Group]] = {}
    for group in groups:
        strata.setdefault(group.stratum, []).append(group)
        splits = {kept[content] for content in group.contents if content in kept}
        if splits:
            followed = splits.pop() if len(splits) == 1 else None
            dealt |= {content: kept.get(content, followed) for content in group.contents}
    carried = {"test": 0.0, "val": 0.0}
    for stratum in sorted(strata):
        carried = _deal_stratum(strata[stratum], dealt, split, carried)
    return dealt


def _deal_stratum(
    groups: Sequence[Group], dealt: dict[str, Split | None], split: SplitConfig, carried: Mapping[str, float]
) -> dict[str, float]:
    """Adds the groups that are not dealt yet; returns what each split is short of its share (-0.5 to 0.5 pictures).

    That is carried over to the next stratum, so that many small strata do not all round down. With groups of one
    picture, and nothing kept beyond the share, a split gets its share of the stratum to within one picture: at most
    a half is carried in, and at most a half is lost by rounding.
    """
    waiting = [group for group in groups if group.contents[0] not in dealt]
    waiting.sort(key=lambda group: _place(group.contents[0], split.seed))
    total = sum(len(group.contents) for group in groups)
    short: dict[str, float] = {}
    shares: tuple[tuple[Split, float], ...] = (("test", split.test_share), ("val", split.val_share))
    for name, share in shares:
        wanted = share * total + carried[name]
        have = sum(dealt.get(content) == name for group in groups for content in group.contents)
        left = []
        for group in waiting:
            if have + len(group.contents) / 2 <= wanted:
                dealt |= dict.fromkeys(group.contents, name)
                have += len(group.contents)
            else:
                left.append(group)
        waiting = left
        short[name] = min(0.5, max(-0.5, wanted - have))
    dealt |= {content: "train" for group in waiting for content in group.contents}
    return short


def _place(content: str, seed: int) -> float:
    """In [0, 1), evenly spread."""
    digest = hashlib.sha256(f"{seed}:{content}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
