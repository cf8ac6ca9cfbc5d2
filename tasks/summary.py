"""What a run leaves a person with: the headline scores and where to look further."""

from __future__ import annotations

from pathlib import Path

from miras.paths import Paths
from tasks.tracking.results import headline

_SHOWN = "_ciou"  # of every benchmark, history and baseline; MLflow and the report have all scores


def summary_text(paths: Paths, *, is_evaluated: bool) -> str:
    """For the terminal; scores only if this run brought the evaluation up to date."""
    scores = shown_scores(paths) if is_evaluated else {}
    width = max(map(len, scores), default=0)
    lines = [f"  {name:<{width}}  {value:8.2f}" for name, value in scores.items()]
    found = [f"  {name:<15} {place}" for name, place in places(paths).items() if place.exists()]
    return "\n".join(
        [
            *(["", "Scores (percent)", *lines] if lines else []),
            "",
            "Where to look",
            *found,
            "  make ui         MLflow (runs, curves, galleries, the model) and Prefect (runs, logs)",
        ]
    )


def shown_scores(paths: Paths) -> dict[str, float]:
    """The headline scores that are shown, in percent, by name; empty before an evaluation."""
    return {name: value for name, value in headline(paths).items() if name.endswith(_SHOWN)}


def places(paths: Paths) -> dict[str, Path]:
    """Where results lie, by what they are."""
    return {
        "report": Path(paths.report_page),
        "data docs": Path(paths.data_docs) / "index.html",
        "scores": Path(paths.scores),
        "model": Path(paths.receipt),
    }
