"""The command `miras`: what a person does by hand beside `make run`.

Light: torch is imported only when a command needs it. Exit codes: 0 well, 1 an error with a message, 2 a wrong
command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miras.errors import ConfigError, MirasError

if TYPE_CHECKING:
    from miras.paths import Paths

app = typer.Typer(
    help="miras: pixel-level reasoning segmentation. `make run` does the whole pipeline; these commands help.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Params = Annotated[Path, typer.Option(help="Parameter file: params.yaml, or one of presets/.")]
Launch = Annotated[
    str | None, typer.Option(help="Launch profile: a name of infra/launch (default: MIRAS_LAUNCH, else local).")
]

ModelAddress = Annotated[str, typer.Option(help="Directory that `miras export` wrote, or models:/NAME@ALIAS.")]

PARAMS = Path("params.yaml")


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
    launch: Launch = None,
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
    launch: Launch = None,
    pictures: Annotated[int | None, typer.Option(help="Their number, where the data set is not here yet.")] = None,
) -> None:
    """Print parameters, memory, steps, hours and disk of a preset before anything starts."""
    from miras.config import read_yaml
    from miras.launch.profiles import read_launch

    profile = read_launch(launch)
    read_yaml(params)
    from miras.plan import plan, render  # takes seconds: after what can be wrong at once

    print(render(plan(params, profile, pictures=pictures)))


@app.command("estimate-cost")
def estimate_cost(
    params: Params = PARAMS,
    pictures: Annotated[int, typer.Option(min=1, help="Look at this many at most, evenly spread.")] = 1000,
) -> None:
    """Print what asking the language model will cost, step by step: calls, tokens, money. Nothing is asked."""
    from miras.generate.written.cost import as_text, estimate_run

    cost = estimate_run(params, cache=Path("work/generate/store"), most_pictures=pictures)
    print(as_text(cost) if cost else f"{params}: no language model is asked for money (generate.model).")


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


@app.command()
def predict(
    picture: Annotated[Path, typer.Argument(help="Picture file.")],
    questions: Annotated[list[str], typer.Argument(help="Questions of one dialogue, in order.")],
    model: Annotated[
        str, typer.Option(help="Directory that `miras export` wrote, or models:/NAME@ALIAS.")
    ] = "exported",
    out: Annotated[Path | None, typer.Option(help="Folder for masks and answers, new or empty.")] = None,
    refer: Annotated[
        list[str] | None, typer.Option(help="`1:0`: question 1 speaks of what answer 0 marked; counted from 0.")
    ] = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
) -> None:
    """Ask a model about a picture from the shell; each question sees the ones before it."""
    from miras.predict import check_output, predict, references

    spoken_of = references(refer or [], count=len(questions))
    check_output(out)
    with contextlib.redirect_stdout(sys.stderr):  # imported packages may print
        from miras.pretrained import Miras  # takes seconds

        talk = Miras.from_pretrained(model, device=device).dialogue(picture)
    for question, answer in zip(questions, predict(talk, questions, spoken_of), strict=True):
        marks = ", ".join(f"{t.phrase} ({int(t.mask.sum()):,} px)" for t in answer.targets)
        print(f"> {question}\n{answer.text}" + (f"\n  marked: {marks}" if marks else ""))
    if out is not None:
        from miras.taking import write_dialogue

        for path in write_dialogue(talk, out, file_name=picture.name):
            print(path)


@app.command()
def chat(
    model: Annotated[
        list[str] | None, typer.Option(help="Directory of `miras export`, or models:/NAME@ALIAS; twice: side by side.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 7860,
    corrections: Annotated[Path, typer.Option(help="Folder for answers that people put right.")] = Path("corrections"),
    limits: Annotated[Path, typer.Option(help="Limits of sizes, numbers and memory.")] = Path("infra/chat.yaml"),
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
) -> None:
    """Talk to a model in the browser: ask, refine, click on masks, compare two models, put answers right."""
    with contextlib.redirect_stdout(sys.stderr):  # imported packages may print
        from miras.chat.command import chat as serve_page  # takes seconds
    serve_page(
        model or ["exported"], host=host, port=port, corrections=corrections, limits=limits, device=device, say=print
    )


@app.command()
def serve(
    model: ModelAddress = "exported",
    config: Annotated[Path, typer.Option(help="Address, limits and device.")] = Path("infra/serve.yaml"),
) -> None:
    """Answer over HTTP: OpenAI's chat completions with pictures, /segment, /health, /metrics."""
    with contextlib.redirect_stdout(sys.stderr):  # imported packages may print
        from miras.serve.config import read_serve_config
        from miras.serve.server import serve  # takes seconds

        serve(model, read_serve_config(config))


@app.command()
def questions(
    into: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    benchmark: Annotated[str, typer.Option(help="`test`, or one of evaluate.benchmarks.")] = "test",
    params: Params = PARAMS,
) -> None:
    """Write the questions of a benchmark, with truth and pictures, for a model that is asked elsewhere."""
    from miras.evaluate.commands import Settings, write_questions

    count = write_questions(benchmark, into, Settings.read(params))
    print(f"{into}: {count:,} questions in questions.jsonl, their pictures in pictures/.")


@app.command()
def score(
    questions: Annotated[Path, typer.Argument(help="questions.jsonl of a benchmark.")],
    predictions: Annotated[Path, typer.Argument(help="predictions.jsonl of any model (docs/evaluation.md).")],
    into: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    incomplete: Annotated[bool, typer.Option(help="Bear unanswered questions; they are counted.")] = False,
    params: Params = PARAMS,
) -> None:
    """Score anyone's predictions; every fault of the file is named and nothing is scored in spite of it."""
    _check_file(questions, "`miras questions FOLDER` writes one, and so does the stage evaluate (reports/evaluate/).")
    _check_file(predictions, "Expected one line for each answer, as docs/evaluation.md describes it.")
    from miras.evaluate.commands import Settings, score_file  # takes seconds

    rows = score_file(questions, predictions, into, Settings.read(params).config, is_incomplete=incomplete)
    _print_rows(rows)
    print(f"{into}: report.html, scores.json, predictions.jsonl.")


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(help="stage1, stage2, a folder that `miras export` wrote, models:/NAME@ALIAS, served:FILE.")
    ],
    into: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    benchmark: Annotated[list[str] | None, typer.Option(help="`test` (default) or of evaluate.benchmarks.")] = None,
    params: Params = PARAMS,
    launch: Launch = None,
) -> None:
    """Ask a model the questions of benchmarks and score it; interrupted, the same command goes on."""
    from miras.evaluate.asked_model import check_model
    from miras.launch.profiles import read_launch

    check_model(model)
    profile = read_launch(launch)
    with contextlib.redirect_stdout(sys.stderr):  # imported packages may print
        from miras.evaluate.commands import Settings, evaluate_model  # takes seconds

        folders = evaluate_model(model, benchmark or ["test"], into, Settings.read(params), profile)
    for name, folder in folders.items():
        print(f"{name}: {folder / 'report.html'}")
        _print_rows(json.loads((folder / "scores.json").read_text("utf-8"))["tables"]["masks"])


@app.command()
def judge(
    folder: Annotated[
        Path, typer.Argument(metavar="EVALUATION_FOLDER", help="Folder with questions.jsonl and predictions.jsonl.")
    ],
    pictures: Annotated[
        Path | None, typer.Option(help="Their pictures. Without it: `pictures` in the folder, else the data set's.")
    ] = None,
    benchmark: Annotated[str, typer.Option(help="Which of the folder's benchmarks.")] = "dialogues",
    model: Annotated[str, typer.Option(help="Whose predictions.")] = "stage2",
    history: Annotated[str, typer.Option(help="own, reference or none.")] = "own",
    human: Annotated[Path | None, typer.Option(help="People's scores (.csv, .jsonl), to compare with.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would cost; ask nothing.")] = False,
    params: Params = PARAMS,
) -> None:
    """Have a language model judge how well dialogues reason; exit code 1 when too many of its answers are missing."""
    from miras.config import parse_sections, read_yaml
    from miras.evaluate.judge.command import CACHE, as_text, estimate_as_text, estimate_folder, judge_folder, whose
    from miras.evaluate.judge.config import JudgeConfig
    from miras.evaluate.judge.judging import check_complete
    from miras.llm.config import read_service

    values = {name: section for name, section in read_yaml(params).items() if name == "judge"}
    config: JudgeConfig = parse_sections(values, {"judge": JudgeConfig}, source=str(params))["judge"]
    judged = whose(benchmark, model, history)
    if pictures is None:
        pictures = folder / "pictures" if (folder / "pictures").is_dir() else _paths(params).pictures
    service = read_service()
    if dry_run:
        print(
            estimate_as_text(
                estimate_folder(folder, judged=judged, pictures=pictures, config=config, service=service, cache=CACHE)
            )
        )
        return
    scores = judge_folder(
        folder, judged=judged, pictures=pictures, config=config, service=service, cache=CACHE, human=human
    )
    print(as_text(scores))
    check_complete(scores)


def _check_file(path: Path, advice: str) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: {'a folder, no file' if path.is_dir() else 'no such file'}. {advice}")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    """The scores of masks, a line each."""
    print(f"{'benchmark':<22}{'model':<18}{'history':<11}{'cIoU':>7}{'gIoU':>7}{'P@.5':>7}{'n':>7}{'unscored':>10}")
    for row in rows:
        shown = [f"{row[name]:.1f}" if name in row else "-" for name in ("ciou", "giou", "precision_at_50")]
        scores = "".join(f"{text:>7}" for text in shown)
        print(
            f"{row['benchmark']:<22}{row['model']:<18}{row['history']:<11}{scores}{row['samples']:>7}{row['unscored']:>10}"
        )


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="miras-3, -4, -5, -6, -10 or segllm-1, -3, -6, -7, -8.")],
    preset: Annotated[str, typer.Option(help="A file of presets/.")] = "tiny",
    seeds: Annotated[int, typer.Option(help="Trainings of every row.")] = 1,
    jobs: Annotated[int, typer.Option(help="Runs side by side; they share the processors.")] = 1,
    given: Annotated[list[str] | None, typer.Option(help="ROW=SCORES.json: another model's scores.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be run.")] = False,
) -> None:
    """Train and test what a table of the papers needs, and write it beside the paper's figures."""
    if not Path("flows/reproduce.py").is_file():
        raise ConfigError("flows/reproduce.py is not here. Run in the folder of your clone of miras.")
    words = [table, "--preset", preset, "--seeds", str(seeds), "--jobs", str(jobs), *(["--dry-run"] if dry_run else [])]
    words += [word for scores in given or [] for word in ("--given", scores)]
    os.execv(sys.executable, [sys.executable, "-m", "flows.reproduce", *words])  # signals and exit code are the flow's


@app.command()
def promote(
    version: Annotated[int | None, typer.Option(help="Version to promote. Without it: the newest candidate.")] = None,
    model: Annotated[str | None, typer.Option(help="Name in the registry. Without it: params.yaml's.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[str, typer.Option(metavar="REASON", help="Promote although a gate is not passed; recorded.")] = "",
) -> None:
    """Make a version the champion, where every gate of params.yaml (promote) says that it is not worse."""
    words = ["--yes"] if yes else []
    words += ["--version", str(version)] if version is not None else []
    words += ["--model", model] if model else []
    _run_module("flows.promote", [*words, *(["--force", force] if force else [])])


@app.command()
def rollback(
    model: Annotated[str | None, typer.Option(help="Name in the registry. Without it: params.yaml's.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "rolled back by hand",
) -> None:
    """Put the champion before this one back; once more: the one before that."""
    _run_module("tasks.registry.rollback", ["--reason", reason, *(["--model", model] if model else [])])


@app.command()
def lineage(
    address: Annotated[str, typer.Argument(help="models:/NAME@ALIAS or models:/NAME/VERSION.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what a registered version was made of: commit, data, parameters, checkpoint, scores, moves of its aliases."""
    _run_module("tasks.registry.lineage_command", [address, *(["--json"] if as_json else [])])


@app.command()
def sync() -> None:
    """Send to MLflow what was recorded while it was away, as `make sync` does."""
    _run_module("tasks.tracking.sync", [])


def _run_module(name: str, words: list[str]) -> None:
    """Goes on as a module of this clone: signals and exit code are that program's."""
    file = Path(*name.split(".")).with_suffix(".py")
    if not file.is_file():
        raise ConfigError(f"{file} is not here. Run in the folder of your clone of miras.")
    os.execv(sys.executable, [sys.executable, "-m", name, *words])


def _paths(params: Path) -> Paths:
    """The section `paths` of a parameter file."""
    from miras.config import parse_sections, read_yaml
    from miras.paths import Paths

    values = {name: section for name, section in read_yaml(params).items() if name == "paths"}
    paths: Paths = parse_sections(values, {"paths": Paths}, source=str(params))["paths"]
    return paths


if __name__ == "__main__":
    main()
