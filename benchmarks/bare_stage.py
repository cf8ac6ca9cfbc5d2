"""A stage without anything around it, for comparison: `python -m benchmarks.bare_stage NAME`.

No Prefect, no DVC, no MLflow: reads params.yaml and calls the stage's function, as a plain training script would.
"""

from __future__ import annotations

import sys
from pathlib import Path

from miras.stages import STAGES
from tasks import params


def run(name: str) -> None:
    """Runs it in this process."""
    stage, sections = STAGES[name], params.load()
    work = Path("work") / name / "bare"
    work.mkdir(parents=True)
    chosen = {section: sections[section] for section in stage.sections}
    params.load_object(stage.function)(paths=sections["paths"], work=work, **chosen)


if __name__ == "__main__":
    run(sys.argv[1])
