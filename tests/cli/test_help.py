import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import minillm as package
from minillm.cli import scoring, settings
from minillm.cli.score import METRICS
from minillm.cli.score import SCHEMES as TOLD_SCHEMES
from minillm.cli.settings import COUNTED, MODELS, NEURAL, SETTINGS
from minillm.metrics.sequence import SCHEMES
from minillm.models import language_model
from minillm.models.ngram import NGramConfig
from minillm.models.ngram_config import NAMES as SMOOTHINGS
from minillm.optim import SCHEDULES
from minillm.tokenizers import NAMES as TOKENIZERS
from minillm.training import OPTIMIZERS, TrainConfig, counting

ROOT = str(Path(__file__).parents[2])
ALL = [setting for group in SETTINGS.values() for setting in group]
COMMANDS = [["demo"], ["train"], ["eval"], ["generate"], ["score"], ["gradcheck"]]
COMMANDS += [["tokenize", name] for name in ("train", "encode", "decode", "show", "languages")]
COMMANDS += [["export"], ["bench", "cpu"], ["bench", "classical"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(minillm, command):
    for flag in ("--help", "-h"):
        done = minillm(*command, flag)
        assert (done.code, done.err) == (0, "")
        assert f"Example:\n    minillm {' '.join(command)}" in done.out
        assert "--config FILE" in done.out


def test_no_command_shows_the_help(minillm):
    assert minillm().out == minillm("--help").out
    listed = minillm().out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed if line.startswith("  ")][:9] == [
        "demo",
        "train",
        "eval",
        "generate",
        "tokenize",
        "score",
        "export",
        "bench",
        "gradcheck",
    ]
    assert minillm("bench").out == minillm("bench", "--help").out
    assert minillm("--version").out == f"minillm, version {package.__version__}\n"


def test_help_is_quick_because_it_imports_little():
    code = """
import sys
from minillm.cli import run
run(["train", "--help"])
loaded = {name for name in sys.modules if name.split(".")[0] not in sys.stdlib_module_names}
heavy = ("matplotlib", "tqdm", "safetensors", "minillm.training", "minillm.models", "minillm.data")
print([name for name in heavy if name in loaded], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "[]\n"


def fields(config):
    return {f.name: f.default for f in dataclasses.fields(config)}


def test_the_table_of_settings_is_that_of_the_configurations():
    training = fields(TrainConfig)
    shapes = {kind: fields(config) for kind, (_, config) in language_model.KINDS.items()}
    shapes["ngram"] = fields(NGramConfig)
    assert set(NEURAL) == set(language_model.KINDS)
    assert set(COUNTED) == set(language_model.COUNTED) == set(counting.COUNTED)
    for setting in ALL:
        for kind in set(setting.models) & {*NEURAL, "ngram"}:
            default = shapes[kind].get(setting.name, training.get(setting.name, "missing"))
            assert default != "missing", setting.name
            if default is None:
                assert "[default: " in setting.help
                assert setting.default is None
            elif setting.name not in ("n_layer", "tied"):  # these differ between models
                assert (setting.default, type(setting.default)) == (default, type(default)), setting
    told = {setting.name for setting in ALL}
    assert set(training) <= told
    left_out = {"vocab_size", "block_size", "cell", "eps", "rotary_base", "weights"}
    for shape in shapes.values():
        assert set(shape) - told <= left_out


def test_defaults_that_differ_between_models_are_told_right():
    gpt, lstm = (language_model.KINDS[kind][1] for kind in ("gpt", "lstm"))
    told = {setting.name: setting.default for setting in ALL}
    assert told["n_layer"] == f"gpt {fields(gpt)['n_layer']}, others {fields(lstm)['n_layer']}"
    assert told["tied"] == "gpt yes, others no"
    assert (fields(gpt)["tied"], fields(lstm)["tied"]) == (True, False)


def test_names_are_those_that_exist(minillm):
    types = {setting.name: setting.type for setting in ALL}
    assert set(types["optimizer"]) == set(OPTIMIZERS)
    assert set(types["schedule"]) == set(SCHEDULES)
    assert set(types["smoothing"]) == set(SMOOTHINGS)
    assert set(settings.TOKENIZERS) == set(TOKENIZERS)
    assert set(TOLD_SCHEMES) == set(SCHEMES)
    assert set(METRICS) == set(scoring.METRICS)
    out = minillm("train", "--help").out
    for name in (*MODELS, *OPTIMIZERS, *SCHEDULES, *TOKENIZERS):
        assert name in out


def test_the_package_is_the_command_too():
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "minillm", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("minillm, version")
