"""Dealing: nothing moves without need, near-duplicates stay together, and with a ledger the shares are exact."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from miras.dialogue.records import Split
from miras.errors import ConfigError
from miras.quality.config import SplitConfig
from miras.quality.dealing import Group, Stratum, deal, deal_on, read_ledger, write_ledger

SPLIT = SplitConfig(
    val_share=0.1, test_share=0.15, seed=0, keep_split=False, ledger="not asked for", near_duplicate_bits=7
)
STRATA = (("lettering", "fine"), ("lettering", "coarse"), ("machine", "fine"), ("person", "medium"))
SHARES: tuple[tuple[Split, float], ...] = (("test", SPLIT.test_share), ("val", SPLIT.val_share))


def content(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def groups(count: int, *, first: int = 0, dice: random.Random | None = None) -> list[Group]:
    """Single pictures, dealt to strata of unequal size."""
    dice = dice or random.Random(first)
    strata = dice.choices(STRATA, [40, 20, 9, 1], k=count)
    return [Group((content(first + number),), strata[number]) for number in range(count)]


def known(dealt: dict[str, Split | None]) -> dict[str, Split]:
    return {key: split for key, split in dealt.items() if split is not None}


def counts(some: list[Group], dealt: dict[str, Split | None], split: Split) -> dict[Stratum, tuple[int, int]]:
    """Stratum -> pictures of the split, and all."""
    found = {}
    for stratum in STRATA:
        contents = [key for group in some if group.stratum == stratum for key in group.contents]
        found[stratum] = (sum(dealt[key] == split for key in contents), len(contents))
    return found


def test_every_stratum_gets_its_shares_to_within_one_picture() -> None:
    some = groups(997)
    dealt = deal_on(some, {}, SPLIT)
    for name, share in SHARES:
        for have, total in counts(some, dealt, name).values():
            assert abs(have - share * total) <= 1
        assert abs(list(dealt.values()).count(name) - share * 997) <= 1


def test_kept_pictures_never_move_and_the_shares_stay_exact_while_data_grows() -> None:
    some: list[Group] = []
    kept: dict[str, Split] = {}
    for round_number in range(8):
        some += groups(150, first=1000 * round_number)
        dealt = deal_on(some, kept, SPLIT)
        assert {key: dealt[key] for key in kept} == kept
        kept = known(dealt)
        for name, share in SHARES:
            for have, total in counts(some, dealt, name).values():
                assert abs(have - share * total) <= 1.5  # a carried half may already be spent in an earlier round


def test_many_small_strata_do_not_all_round_down() -> None:
    some = [Group((content(number),), (f"class{number // 2}", "fine")) for number in range(200)]
    dealt = deal_on(some, {}, SPLIT)
    assert list(dealt.values()).count("test") == pytest.approx(30, abs=1)
    assert list(dealt.values()).count("val") == pytest.approx(20, abs=1)


def test_the_order_of_the_data_does_not_matter() -> None:
    some = groups(300)
    shuffled = random.Random(1).sample(some, len(some))
    assert deal_on(some, {}, SPLIT) == deal_on(shuffled, {}, SPLIT)
    assert deal(some, SPLIT) == deal(shuffled, SPLIT)


def test_without_a_ledger_no_single_picture_ever_moves() -> None:
    some, more = groups(300), groups(300, first=5000)
    before, after = deal(some, SPLIT), deal(some + more, SPLIT)
    assert {key: after[key] for key in before} == before


def test_without_a_ledger_a_stratum_has_its_share_in_expectation_only() -> None:
    some = groups(4000)
    for name, share in SHARES:
        for have, total in counts(some, dict(deal(some, SPLIT)), name).values():
            assert abs(have / total - share) <= 4 * (share * (1 - share) / total) ** 0.5


def test_a_group_is_dealt_whole() -> None:
    pairs = [Group(tuple(sorted((content(n), content(n + 10_000)))), STRATA[0]) for n in range(200)]
    for dealt in (dict(deal(pairs, SPLIT)), deal_on(pairs, {}, SPLIT)):
        assert all(len({dealt[key] for key in pair.contents}) == 1 for pair in pairs)
        assert list(dealt.values()).count("test") == pytest.approx(60, abs=35)


def test_a_new_near_duplicate_follows_the_kept_picture() -> None:
    kept: dict[str, Split] = {content(1): "test"}
    dealt = deal_on([Group(tuple(sorted((content(1), content(2)))), STRATA[0])], kept, SPLIT)
    assert dealt == {content(1): "test", content(2): "test"}


def test_a_new_picture_between_two_splits_fits_none() -> None:
    kept: dict[str, Split] = {content(1): "test", content(2): "train"}
    dealt = deal_on([Group(tuple(sorted(map(content, (1, 2, 3)))), STRATA[0])], kept, SPLIT)
    assert dealt == {**kept, content(3): None}


def test_the_ledger_comes_back_as_it_was_written(tmp_path: Path) -> None:
    kept = known(deal_on(groups(50), {}, SPLIT))
    write_ledger(tmp_path / "kept.jsonl", kept, seed=3)
    assert read_ledger(tmp_path / "kept.jsonl", seed=3) == kept
    assert read_ledger(tmp_path / "none.jsonl", seed=3) == {}
    with pytest.raises(ConfigError, match="set the seed back, or take the file away"):
        read_ledger(tmp_path / "kept.jsonl", seed=4)
