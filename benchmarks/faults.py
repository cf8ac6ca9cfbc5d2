"""What is lost when something breaks: injects each fault for real and writes docs/reliability.md.

    python -m benchmarks.faults                        all faults, 15 to 40 minutes; writes docs/reliability.md
    python -m benchmarks.faults --only clock_skew      one of them: its row alone is written anew

Each fault meets a small pipeline (preset smoke, stage 1 of 40 steps with a checkpoint every 5) in a copy of this
repository. The same command is run again afterwards, and what comes out is compared byte by byte with the result of an
undisturbed run. Exit code 1: something was lost that the table says is not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.fault_bench import Bench, NotRunError, Outcome, prepare
from benchmarks.fault_kinds import FAULTS
from benchmarks.report import commit
from benchmarks.workspace import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = """\
# What is lost when something breaks

Written by `python -m benchmarks.faults`: every fault was injected for real into a small pipeline, the same command was
run again where needed, and what came out was compared byte by byte with an undisturbed run.

| fault | how it was injected | what a person sees | lost | when, commit |
|---|---|---|---|---|
"""


def note(outcome: Outcome, *, stamp: str) -> None:
    """Puts the row into the table, in the place of the one that tells of the same fault."""
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][1:] if PAGE.exists() else []
    known = {row.split(" | ")[0]: row for row in rows}
    cells = (outcome.fault, outcome.injected, outcome.seen, outcome.lost, stamp)
    row = "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"
    known[row.split(" | ")[0]] = row
    PAGE.write_text(HEAD + "\n".join(known.values()) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Injects the faults; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(FAULTS), help="some of the faults")
    options = parser.parse_args(arguments)
    is_fine = True
    stamp = f"{date.today()}, {commit()}"  # before the page is written: that would make the tree look changed
    with tempfile.TemporaryDirectory(prefix="miras-faults-") as folder:
        bench = prepare(Path(folder))
        for name in options.only or FAULTS:
            started = time.monotonic()
            outcome = _injected(name, bench)
            note(outcome, stamp=stamp)
            print(f"{name} ({time.monotonic() - started:.0f} s): lost: {outcome.lost}", flush=True)
            is_fine = is_fine and outcome.is_as_promised
            shutil.rmtree(Path(folder) / name, ignore_errors=True)
    return 0 if is_fine else 1


def _injected(name: str, bench: Bench) -> Outcome:
    shown = name.replace("_", " ")
    try:
        return FAULTS[name](bench)
    except NotRunError as why:
        return Outcome(shown, f"not run: {why}", "-", "not known", False)
    except RuntimeError as error:
        return Outcome(shown, "-", str(error)[-300:], "not known: it did not end as it has to", False)


if __name__ == "__main__":
    sys.exit(main())
