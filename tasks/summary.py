"""What a run leaves a person with: the headline scores and where to look further."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from miras.paths import Paths
from tasks.results import headline

_SHOWN = "_ciou"  # of every benchmark, history and baseline; MLflow and the report have all scores


def summary_text(paths: Paths, *, is_evaluated: bool) -> str:
    """For the terminal; scores only if this run brought the evaluation up to date."""
    scores = _shown_scores(paths) if is_evaluated else {}
    width = max(map(len, scores), default=0)
    lines = [f"  {name:<{width}}  {value:8.2f}" for name, value in scores.items()]
    places = [f"  {name:<15} {place}" for name, place in _places(paths).items() if Path(place).exists()]
    return "\n".join(
        [
            *(["", "Scores (percent)", *lines] if lines else []),
            "",
            "Where to look",
            *places,
            "  make ui         MLflow (runs, curves, galleries, the model) and Prefect (runs, logs)",
        ]
    )


def publish_summary(paths: Paths) -> None:
    """The same as an artifact of the flow run in Prefect; nothing outside of a flow run."""
    scores = _shown_scores(paths)
    if FlowRunContext.get() is None or not scores:
        return
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in scores.items())
    places = "\n".join(f"- {name}: `{place}`" for name, place in _places(paths).items())
    create_markdown_artifact(
        key="scores",
        markdown=f"| score | value |\n|---|---:|\n{rows}\n\n{places}\n",
        description="Headline scores of this run and where the rest lies.",
    )


def _shown_scores(paths: Paths) -> dict[str, float]:
    return {name: value for name, value in headline(paths).items() if name.endswith(_SHOWN)}


def _places(paths: Paths) -> dict[str, str]:
    return {
        "report": str(paths.report_page),
        "data docs": str(Path(paths.data_docs) / "index.html"),
        "scores": str(paths.scores),
        "model": paths.receipt,
    }
