"""Text metrics on generated answers, one reference each; markers are stripped before anything is counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU

from miras.dialogue.rendering import phrases_in, plain_text


@dataclass(frozen=True)
class TextScores:
    """Scores of a list of answers, 0 to 100."""

    answers: int
    bleu4: float
    """Corpus BLEU-4."""
    bleu_signature: str
    """sacrebleu's own statement of tokenizer, smoothing and version."""
    rouge_l: float
    """Mean F of the longest common subsequence, stemmed words."""
    dist1: float
    """Different words / all words, over the whole list, lower case, split at whitespace."""
    dist2: float
    """The same for pairs of neighbouring words of an answer."""


def score_texts(*, answers: Sequence[str], references: Sequence[str]) -> TextScores:
    """Scores of a non-empty list of answers (markers may be there) against one reference each."""
    assert answers, "text scores need answers"
    generated = [plain_text(answer) for answer in answers]
    expected = [plain_text(reference) for reference in references]
    bleu = BLEU(max_ngram_order=4)
    score = bleu.corpus_score(generated, [expected])
    rouge = RougeScorer(["rougeL"], tokenizer=DefaultTokenizer(use_stemmer=True))
    overlaps = [
        rouge.score(reference, answer)["rougeL"].fmeasure for reference, answer in zip(expected, generated, strict=True)
    ]
    return TextScores(
        answers=len(generated),
        bleu4=score.score,
        bleu_signature=str(bleu.get_signature()),
        rouge_l=100 * fsum(overlaps) / len(overlaps),
        dist1=100 * distinct_share(generated, length=1),
        dist2=100 * distinct_share(generated, length=2),
    )


def distinct_share(texts: Sequence[str], *, length: int) -> float:
    """Different n-grams / all n-grams over all texts; 0 when there are none."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = text.lower().split()
        grams = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 0.0


def same_phrases(*, answer: str, targets: Sequence[str]) -> bool:
    """Whether the phrases an answer points at are those of its targets (case, articles, order apart)."""
    return sorted(map(normalized, phrases_in(answer))) == sorted(map(normalized, targets))


def normalized(text: str) -> str:
    """Lower-case words and numbers without punctuation and articles."""
    words = re.findall(r"\w+", plain_text(text).lower())
    return " ".join(word for word in words if word not in ("a", "an", "the"))
