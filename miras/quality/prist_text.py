"""The suites on published PRIST text, whose pictures and masks nobody has: the rules of texts apply alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miras.dialogue.records import Rejected
from miras.quality.config import CheckConfig
from miras.quality.judge import Verdict, judge
from miras.quality.word_list import read_word_list
from miras.sources.prist import read_prist


@dataclass(frozen=True)
class TextVerdict:
    """What the reader refused and what the suites found in the rest."""

    rejected: tuple[Rejected, ...]
    verdict: Verdict


def check_prist_text(path: Path, *, check: CheckConfig) -> TextVerdict:
    """The verdict on a PRIST file.

    Args:
        path: a JSON file as PRIST publishes it.
        check: bounds of the rules; those of masks do not apply.

    Raises:
        DataError: the file is missing, not JSON, or not a list.
        ConfigError: the word list cannot be read.
    """
    read = list(read_prist(path))
    records = [record for record in read if not isinstance(record, Rejected)]
    return TextVerdict(
        rejected=tuple(record for record in read if isinstance(record, Rejected)),
        verdict=judge(
            [record.dialogue for record in records],
            [record.region for record in records],
            pictures=None,
            check=check,
            words=read_word_list(check.word_list, emails=check.refuse_emails, phones=check.refuse_phones),
        ),
    )
