import os
import resource
import shutil

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.language_model import LanguageModel
from minillm.training import checkpoint
from tests.training.runs import same_run, trainer, weights


def names(out):
    return sorted(p.name for p in out.iterdir())


def save(out, step, *, best=False, size=3):
    class Model:
        def save(self, folder):
            (folder / "weights.safetensors").write_bytes(b"x" * size)

    checkpoint.save_checkpoint(
        out,
        {"step": step},
        model=Model(),
        optimizer_state={"step": np.array(step), "m": [np.ones(size)]},
        recurrent_state={"h": np.ones(2)},
        best=best,
    )


def test_two_links_keep_two_folders(tmp_path):
    for step, best in ((0, True), (5, False), (7, True), (9, False), (12, False)):
        save(tmp_path, step, best=best)
        assert os.readlink(tmp_path / "last") == f"step-{step:06d}"
    assert names(tmp_path) == ["best", "last", "step-000007", "step-000012"]
    assert os.readlink(tmp_path / "best") == "step-000007"
    assert names(tmp_path / "last") == [
        "optimizer.safetensors",
        "state.json",
        "state.safetensors",
        "weights.safetensors",
    ]


def test_a_full_disk_costs_nothing_that_was_there(tmp_path):
    save(tmp_path, 3, best=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # writes beyond it fail part-way
    try:
        with pytest.raises(
            UserError, match=r"cannot write .*optimizer.safetensors: File too large"
        ):
            save(tmp_path, 4, size=4000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["best", "last", "step-000003"]
    assert os.readlink(tmp_path / "last") == "step-000003"


def test_a_full_disk_ends_training_with_one_line_and_it_can_go_on(tmp_path):
    trainer(tmp_path / "whole").run()

    def fill_up(line):
        if line["step"] == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError, match=r"cannot write .*step-000008.*: File too large"):
            trainer(tmp_path / "full").run(on_eval=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    LanguageModel.load(tmp_path / "full" / "last")
    trainer(tmp_path / "full", resume=True).run()
    same_run(tmp_path / "full", tmp_path / "whole")


def test_out_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*/file/run: Not a directory"):
        trainer(tmp_path / "file" / "run").run()


@pytest.mark.parametrize("moment", ["folder", "last", "best"])
def test_killed_between_two_parts_of_a_save(tmp_path, moment, monkeypatch):
    """The folder is there and `last` is not swapped, or `last` is and `best` is not, and so on."""
    trainer(tmp_path / "whole").run()
    done = []

    class Killed(BaseException):
        pass

    def replace_link(link, target):
        done.append(target)
        if target == "step-000004" and link.name == {"folder": "last"}.get(moment, "best"):
            if moment == "best":
                original(link, target)
            raise Killed
        original(link, target)

    original = checkpoint.replace_link
    monkeypatch.setattr(checkpoint, "replace_link", replace_link)
    with pytest.raises(Killed):
        trainer(tmp_path / "killed").run()
    monkeypatch.undo()
    assert (tmp_path / "killed" / "step-000004").exists()
    before = {"folder": 0, "last": 4, "best": 4}[moment]
    assert os.readlink(tmp_path / "killed" / "last") == f"step-{before:06d}"
    trainer(tmp_path / "killed", resume=True)
    best = os.readlink(tmp_path / "killed" / "best")
    assert best == f"step-{before:06d}"
    trainer(tmp_path / "killed", resume=True).run()
    same_run(tmp_path / "killed", tmp_path / "whole")


def test_killed_before_the_first_link(tmp_path, monkeypatch):
    trainer(tmp_path / "whole").run()

    def replace_link(link, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "replace_link", replace_link)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "killed").run()
    monkeypatch.undo()
    assert names(tmp_path / "killed") == ["step-000000"]
    trainer(tmp_path / "killed", resume=True).run()
    same_run(tmp_path / "killed", tmp_path / "whole")


def test_leftovers_go_and_other_files_stay(tmp_path):
    trainer(tmp_path, steps=4).run()
    (tmp_path / ".unfinished-step-000009-123").mkdir()
    (tmp_path / ".unfinished-metrics.jsonl-123").write_text("half")
    (tmp_path / "step-000009").mkdir()
    (tmp_path / "step-by-step").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    trainer(tmp_path, resume=True, steps=4)
    kept = {"step-by-step", "notes.txt", "best", "last", "metrics.jsonl", "step-000004"}
    assert set(names(tmp_path)) == kept | {os.readlink(tmp_path / "best")}


def test_a_run_can_be_copied_and_continued_elsewhere(tmp_path):
    trainer(tmp_path / "whole", schedule="constant").run()
    trainer(tmp_path / "here", schedule="constant", steps=5).run()
    shutil.copytree(tmp_path / "here", tmp_path / "there", symlinks=True)
    shutil.rmtree(tmp_path / "here")
    trainer(tmp_path / "there", schedule="constant", resume=True).run()
    assert weights(tmp_path / "there") == weights(tmp_path / "whole")


def test_another_format_is_named(tmp_path):
    trainer(tmp_path, steps=4).run()
    path = tmp_path / "last" / "state.json"
    path.write_text(path.read_text().replace("minillm-run-1", "minillm-run-2"))
    with pytest.raises(UserError, match=r"state.json is not of the format minillm-run-1"):
        trainer(tmp_path, resume=True, steps=4)
