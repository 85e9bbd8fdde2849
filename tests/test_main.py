"""`diagram-ray VERB` does what `python -m diagram_ray.VERB` does, and loads no more than that."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import diagram_ray
from diagram_ray.__main__ import VERBS, main
from diagram_ray.study.study_folder import command_line

ROOT = Path(__file__).resolve().parents[1]
HEAVY = "import sys; print([name for name in ('torch', 'ray', 'pandas') if name in sys.modules])"


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_the_verbs_are_those_that_the_package_has() -> None:
    package = ROOT / "diagram_ray"
    modules = {path.stem for path in package.glob("*.py") if "\napp = cli.new_app()" in path.read_text("utf-8")}
    packages = {path.parent.name for path in package.glob("*/__main__.py")}
    assert modules | packages == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_the_same_by_both_names(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    together = capsys.readouterr().out
    assert f"Usage: diagram-ray {verb} " in together
    with pytest.raises(SystemExit):
        import_module(VERBS[verb][0]).app(["--help"], prog_name=f"diagram-ray {verb}")
    assert capsys.readouterr().out == together


def test_the_module_and_the_script_are_the_same_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert scripts == {"diagram-ray": "diagram_ray.__main__:main"}
    ended = _python("-m", "diagram_ray", "report", "no-such-folder")
    assert ended.returncode == 2
    assert ended.stderr == _python("-m", "diagram_ray.report", "no-such-folder").stderr
    assert ended.stderr.startswith("error: no-such-folder: not a study")


def test_help_names_every_verb_and_loads_nothing_heavy() -> None:
    ended = _python("-c", f"from diagram_ray.__main__ import main; main(['--help']); {HEAVY}")
    *lines, loaded = ended.stdout.splitlines()
    assert ended.returncode == 0
    assert loaded == "[]"
    assert all(any(line.split()[:1] == [verb] for line in lines) for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tain"], "unknown verb 'tain'; did you mean 'train'? allowed: "),
        (["xyz"], "unknown verb 'xyz'; allowed: "),
        ([], "a verb is missing; allowed: "),
    ],
)
def test_an_unknown_verb_is_one_line_and_exits_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {message}{', '.join(VERBS)}\n"


@pytest.mark.parametrize(
    ("program", "recorded"),
    [
        ("/bin/diagram-ray", "diagram-ray tune 'a b.yaml'"),
        ("/x/diagram_ray/__main__.py", "diagram_ray tune 'a b.yaml'"),
        ("/x/diagram_ray/train.py", "train.py tune 'a b.yaml'"),
    ],
)
def test_a_recorded_command_names_what_was_started(
    program: str, recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "tune", "a b.yaml"])
    assert command_line() == recorded


def test_importing_the_package_loads_neither_torch_nor_ray() -> None:
    ended = _python("-c", f"import diagram_ray; {HEAVY}; diagram_ray.Study; {HEAVY}")
    assert ended.stdout.splitlines() == ["[]", "['pandas']"]


def test_the_public_classes_are_those_of_their_modules() -> None:
    assert diagram_ray.Study is import_module("diagram_ray.results").Study
    assert diagram_ray.DiaGRAM is import_module("diagram_ray.models").DiaGRAM
    assert diagram_ray.Predictor is import_module("diagram_ray.training.inference.predictor").Predictor
    assert {"DiaGRAM", "Predictor", "Study"} <= set(dir(diagram_ray))
    with pytest.raises(AttributeError, match="'diagram_ray' has no attribute 'Sudy'"):
        diagram_ray.Sudy  # noqa: B018


def test_the_commands_stay_modules_of_the_package() -> None:
    for verb in VERBS:
        module = import_module(f"diagram_ray.{verb}")
        assert getattr(diagram_ray, verb) is module
    assert callable(import_module("diagram_ray.predict").load)
