"""Text metrics on generated answers, one reference each; markers are stripped before anything is counted.

BLEU and METEOR see the tokens of sacrebleu's `13a`, Dist and ROUGE their own. BERTScore: miras.evaluate.bert_score.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import nltk
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from miras.dialogue.rendering import phrases_in, plain_text
from miras.errors import DataError
from miras.evaluate.wordnet import open_wordnet


@dataclass(frozen=True)
class TextScores:
    """Scores of a list of answers, 0 to 100."""

    answers: int
    bleu4: float
    """Corpus BLEU-4."""
    bleu_signature: str
    """sacrebleu's own statement of tokenizer, smoothing and version."""
    sentence_bleu4: float
    """Mean BLEU-4 of single answers, smoothing method 1 of Chen and Cherry 2014."""
    rouge_l: float
    """Mean F of the longest common subsequence, stemmed words."""
    meteor: float | None
    """Mean METEOR (exact, stem, WordNet synonym); None: see `missing`."""
    meteor_signature: str
    """Versions of nltk and WordNet, and the tokens; empty with `meteor` None."""
    dist1: float
    """Different words / all words, over the whole list, lower case, split at whitespace."""
    dist2: float
    """The same for pairs of neighbouring words of an answer."""
    missing: dict[str, str]
    """Column that is None -> why, and what to do."""


def score_texts(*, answers: Sequence[str], references: Sequence[str]) -> TextScores:
    """Scores of a non-empty list of answers (markers may be there) against one reference each."""
    assert answers, "text scores need answers"
    generated = [plain_text(answer) for answer in answers]
    expected = [plain_text(reference) for reference in references]
    pairs = list(zip(map(_tokens, generated), map(_tokens, expected), strict=True))
    bleu = BLEU(max_ngram_order=4)
    score = bleu.corpus_score(generated, [expected])
    rouge = RougeScorer(["rougeL"], tokenizer=DefaultTokenizer(use_stemmer=True))
    overlaps = [
        rouge.score(reference, answer)["rougeL"].fmeasure for reference, answer in zip(expected, generated, strict=True)
    ]
    missing: dict[str, str] = {}
    meteor, meteor_signature = None, ""
    try:
        meteor, meteor_signature = _meteor(pairs)
    except DataError as error:
        missing["meteor"] = str(error)
    return TextScores(
        answers=len(generated),
        bleu4=score.score,
        bleu_signature=str(bleu.get_signature()),
        sentence_bleu4=_sentence_bleu4(pairs),
        rouge_l=_percent(overlaps),
        meteor=meteor,
        meteor_signature=meteor_signature,
        dist1=100 * distinct_share(generated, length=1),
        dist2=100 * distinct_share(generated, length=2),
        missing=missing,
    )


_Pairs = Sequence[tuple[Sequence[str], Sequence[str]]]  # tokens of an answer, and of its reference


def _tokens(text: str) -> list[str]:
    tokens: str = Tokenizer13a()(text)
    return tokens.split()


def _sentence_bleu4(pairs: _Pairs) -> float:
    smoothing = SmoothingFunction().method1
    return _percent([sentence_bleu([reference], answer, smoothing_function=smoothing) for answer, reference in pairs])


def _meteor(pairs: _Pairs) -> tuple[float, str]:
    """Score and signature.

    Raises:
        DataError: WordNet is not installed or damaged.
    """
    wordnet = open_wordnet()
    scores = [single_meteor_score(reference, answer, wordnet=wordnet.reader) for answer, reference in pairs]
    return _percent(scores), f"nltk:{nltk.__version__}|wordnet:{wordnet.name}|tok:13a"


def _percent(shares: Sequence[float]) -> float:
    return 100 * fsum(shares) / len(shares)


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
