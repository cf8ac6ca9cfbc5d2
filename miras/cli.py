"""The command `miras`: what a person does by hand beside `make run`.

Light: torch is imported only when a command needs it. Exit codes: 0 well, 1 an error with a message, 2 a wrong
command line.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miras.errors import MirasError

if TYPE_CHECKING:
    from miras.paths import Paths

app = typer.Typer(
    help="miras: pixel-level reasoning segmentation. `make run` does the whole pipeline; these commands help.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Params = Annotated[Path, typer.Option(help="Parameter file, or a preset.")]
Launch = Annotated[Path, typer.Option(help="Launch profile of the machine that trains.")]

PARAMS, LAUNCH = Path("params.yaml"), Path("infra/launch/local.yaml")


def main() -> None:
    """Runs the command line; what a user can cause ends in one message on stderr."""
    try:
        app()
    except MirasError as error:
        print(f"miras: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def doctor(
    params: Params = PARAMS,
    launch: Launch = LAUNCH,
    constraints: Annotated[Path, typer.Option(help="Pinned versions.")] = Path("constraints.txt"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check Python, packages, GPUs, disk, memory and weights, with remedies; exit code 1 on an error."""
    from miras import doctor

    with contextlib.redirect_stdout(sys.stderr):  # imported packages may print
        findings = doctor.examine(params=params, launch=launch, constraints=constraints)
    print(doctor.as_json(findings) if as_json else doctor.as_text(findings))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def plan(
    params: Params = PARAMS,
    launch: Launch = LAUNCH,
    pictures: Annotated[int | None, typer.Option(help="Their number, where the data set is not here yet.")] = None,
) -> None:
    """Print parameters, memory, steps, hours and disk of a preset before anything starts."""
    from miras.launch.local import read_local_launch

    profile = read_local_launch(launch)
    from miras.plan import plan, render  # takes seconds: after what can be wrong at once

    print(render(plan(params, profile, pictures=pictures)))


@app.command()
def export(
    params: Params = PARAMS,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of a training stage. Without it: stage 2 of the parameter file.")
    ] = None,
    backbones: Annotated[
        Path | None, typer.Option(help="What it was trained on. Without it: the parameter file's.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory to write; an earlier export there is replaced.")] = Path(
        "exported"
    ),
) -> None:
    """Write a trained model as one directory for transformers and `Miras.from_pretrained`, checked after writing."""
    if weights is None or backbones is None:
        paths = _paths(params)
        weights, backbones = weights or Path(paths.stage2), backbones or Path(paths.backbones)
    with contextlib.redirect_stdout(sys.stderr):  # imported packages may print
        from miras.export import export  # takes seconds: after what can be wrong at once

        written = export(weights=weights, backbones=backbones, out=out)
    print(
        f"{written.folder}: {written.num_bytes / 1e6:,.0f} MB. Opened again and compared with {weights}: largest "
        f"difference {written.text_difference:.1e} of text logits, {written.mask_difference:.1e} of mask logits."
    )


@app.command("export-data")
def export_data(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="hf, coco, prist or mrseg.")],
    into: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    split: Annotated[str | None, typer.Option(help="train, val or test. Without it: all three.")] = None,
    params: Params = PARAMS,
) -> None:
    """Write the finished data set for Hugging Face `datasets`, as COCO instances, or in PRIST's or MRSeg's own form."""
    from miras.card.exports import export

    done = export(_paths(params), form, into, split=split)
    print(f"{done.folder}: {done.pictures:,} pictures, {done.regions:,} masks, {done.dialogues:,} dialogues.")
    for kind, count in done.left_out.items():
        print(f"  left out, {form} has no place for them: {count:,} dialogues of kind {kind}")
    if done.rejected:
        print(f"  rejected: {done.rejected:,} records, each with its reason in {done.folder / 'rejected.jsonl'}")


def _paths(params: Path) -> Paths:
    """The section `paths` of a parameter file."""
    from miras.config import parse_sections, read_yaml
    from miras.paths import Paths

    values = {name: section for name, section in read_yaml(params).items() if name == "paths"}
    paths: Paths = parse_sections(values, {"paths": Paths}, source=str(params))["paths"]
    return paths


if __name__ == "__main__":
    main()
