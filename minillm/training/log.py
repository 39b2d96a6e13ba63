"""OUT/metrics.jsonl: one JSON object a line, appended at each logged step."""

import json
from pathlib import Path

from minillm.errors import UserError
from minillm.files import write_text

__all__ = ["MetricsLog"]


class MetricsLog:
    """The log of one run.

    A line has step, seconds (of the whole run, evaluations included), train_loss (mean over the
    steps since the line before), validation_loss, both in nats per token, lr, grad_norm (before
    clipping) and tokens_per_second (of the training alone); null for what was not measured.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.history: list[dict] = []

    def cut_back(self, step):
        """Keep the lines up to this step, as a run needs that continues from its checkpoint.

        None are kept for step 0: the evaluation before the first step will be done again. A last
        line that a killed process left unfinished goes, too.
        """
        lines = []
        if self.path.exists():
            for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    line = json.loads(text)
                    if line["step"] <= step and step > 0:
                        lines.append(line)
                except (ValueError, KeyError, TypeError):
                    continue
        self.history = lines
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def append(self, line):
        """Add a line.

        Raises
        ------
        UserError
            when the disk is full or the folder has gone.
        """
        self.history.append(line)
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
