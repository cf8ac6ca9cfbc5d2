"""The ledger: what was spent counts over runs and processes, whatever broke off."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.errors import DataError
from miras.llm import budget
from miras.llm.budget import Amount, Ledger
from tests.unit.llm.asked import service

LIMITED = service("http://x/v1", budget_tokens=100)
TEN = Amount(10, 0.0)


def test_reservations_and_settlements_count_in_every_ledger_of_the_folder(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    reservation = first.reserve(Amount(60, 0.0), LIMITED, key="k")
    assert reservation is not None
    assert second.reserve(Amount(50, 0.0), LIMITED, key="l") is None
    first.settle(reservation, TEN)
    first.settle(reservation, TEN)
    assert second.reserve(Amount(90, 0.0), LIMITED, key="l") is not None
    assert Ledger(tmp_path).spent().tokens == 100
    assert first.reserve(Amount(1, 0.0), LIMITED, key="m") is None


def test_a_long_ledger_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    for number in range(20):
        kept = ledger.reserve(Amount(5, 0.0), LIMITED, key=f"key-{number}")
        assert kept is not None
        ledger.settle(kept, Amount(3, 0.0))
    monkeypatch.setattr(budget, "READ_BYTES", 7)
    again = Ledger(tmp_path)
    assert again.spent().tokens == 60
    assert again.reserve(Amount(41, 0.0), LIMITED, key="k") is None


def test_money_is_limited_too(tmp_path: Path) -> None:
    config = service("http://x/v1", budget_usd=1.0, usd_per_million_prompt_tokens=1.0)
    ledger = Ledger(tmp_path)
    assert ledger.reserve(Amount(1, 0.75), config, key="k") is not None
    assert ledger.reserve(Amount(1, 0.5), config, key="k") is None
    assert ledger.reserve(Amount(1, 0.25), config, key="k") is not None


@pytest.mark.parametrize("lost", range(1, 57, 5))
def test_a_line_cut_by_a_kill_never_lowers_what_may_have_been_spent(tmp_path: Path, lost: int) -> None:
    ledger = Ledger(tmp_path)
    kept = ledger.reserve(Amount(40, 0.0), LIMITED, key="k")
    assert kept is not None
    ledger.settle(kept, TEN)
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content[:-lost])
    again = Ledger(tmp_path)
    assert again.spent().tokens in (10, 40)
    assert again.reserve(TEN, LIMITED, key="l") is not None
    assert Ledger(tmp_path).spent().tokens == again.spent().tokens


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(DataError, match=r"ledger\.jsonl: not a line of the ledger"):
        Ledger(tmp_path)
