"""The command `miras` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from miras import cli, doctor
from miras.doctor import Finding
from miras.errors import ConfigError

ROOT = Path(__file__).parents[2]


def miras(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "miras.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_names_the_commands_without_importing_torch() -> None:
    script = (
        "import sys\n"
        "from miras.cli import main\n"
        "sys.argv = ['miras', '--help']\n"
        "try:\n    main()\nfinally:\n    print(sorted(sys.modules.keys() & {'torch', 'transformers', 'deepspeed'}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "doctor" in ended.stdout
    assert "plan" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"


def test_an_unknown_option_is_explained_by_the_command_line_itself() -> None:
    ended = miras("doctor", "--nix")
    assert ended.returncode == 2
    assert "No such option: --nix" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_users_mistake_is_one_message_without_a_traceback() -> None:
    ended = miras("plan", "--launch", "nowhere.yaml")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("miras: launch profile 'nowhere.yaml': nowhere.yaml is not there; known: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plan --params tiny", "tiny: no such file; did you mean presets/tiny.yaml? Run from"),
        ("score none.jsonl x.jsonl --into out", "none.jsonl: no such file. `miras questions FOLDER` writes one"),
        ("score README.md x.jsonl --into out", "x.jsonl: no such file. Expected one line for each answer"),
        ("score docs x.jsonl --into out", "docs: a folder, no file. "),
        ("evaluate nowhere --into out", "model 'nowhere': no such directory. Give stage1, stage2"),
        ("judge nowhere", "nowhere: no such folder. Name the folder of an evaluation"),
        ("judge docs --history any", "history 'any': expected one of own, reference, none."),
    ],
)
def test_a_wrong_name_is_told_before_anything_heavy_is_imported(words: str, message: str) -> None:
    script = (
        "import sys\n"
        "from miras.cli import main\n"
        f"sys.argv = ['miras', *{words.split()!r}]\n"
        "try:\n    main()\nfinally:\n    print(sorted(sys.modules.keys() & {'torch', 'transformers', 'mlflow'}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "[]\n")
    assert ended.stderr.startswith(f"miras: {message}")


def test_the_help_of_judge_names_the_histories_that_it_takes() -> None:
    from miras.evaluate.judge.command import HISTORIES

    *others, last = HISTORIES
    assert f"{', '.join(others)} or {last}." in miras("judge", "--help").stdout


def test_help_of_sync_sends_nothing() -> None:
    ended = miras("sync", "--help")
    assert ended.returncode == 0
    assert "Send to MLflow what was recorded while it was away" in ended.stdout


def test_doctor_prints_json_alone_for_machines_and_says_errors_by_its_exit_code(tmp_path: Path) -> None:
    ended = miras("doctor", "--json", "--params", str(tmp_path / "none.yaml"), "--constraints", "constraints.txt")
    findings = json.loads(ended.stdout)
    assert {"check", "level", "found", "remedy"} == findings[0].keys()
    assert [finding["check"] for finding in findings if finding["level"] == "error"] == ["params"]
    assert all(finding["remedy"] for finding in findings if finding["level"] != "ok")
    assert ended.returncode == 1


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("warning", 0), ("error", 1)])
def test_only_errors_change_the_exit_code_of_doctor(
    level: doctor.Level, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda **_: [Finding("git", level, "something", "a remedy")])
    monkeypatch.setattr(sys, "argv", ["miras", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert f"git  {level}" in capsys.readouterr().out


def test_an_error_of_ours_becomes_exit_code_1_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> list[Finding]:
        raise ConfigError("params.yaml: stage1.steps: found -1, expected at least 1")

    monkeypatch.setattr(doctor, "examine", refuse)
    monkeypatch.setattr(sys, "argv", ["miras", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "miras: params.yaml: stage1.steps: found -1, expected at least 1\n"
