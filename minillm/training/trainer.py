"""The loop: batch, gradient, clip, update; evaluate, log and save on a schedule."""

import dataclasses
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from minillm.cores import available_cores
from minillm.errors import UserError
from minillm.ops._state import device
from minillm.optim import clip_scale
from minillm.training import checkpoint
from minillm.training.batches import TrainingBatches, fingerprint, validation_batches
from minillm.training.divergence import check_loss, check_step
from minillm.training.lock import FolderLock
from minillm.training.log import MetricsLog
from minillm.training.parallel import WorkerPool
from minillm.training.progress import Progress
from minillm.training.signals import listening
from minillm.training.step import join_states, loss_and_gradients, mean_loss, split_state
from minillm.tree import map_leaves

__all__ = ["TrainResult", "Trainer"]


@dataclasses.dataclass
class TrainResult:
    """What a run left.

    step : updates done
    stopped : "steps", "patience", "time" or the name of the signal
    best_loss, best_step : of the validation; None where there was none
    seconds : of the whole run, over all its resumptions
    history : the lines of metrics.jsonl, a list of dicts
    """

    step: int
    stopped: str
    best_loss: float | None
    best_step: int | None
    seconds: float
    history: list[dict]


@dataclasses.dataclass
class Counters:
    """What a run carries from step to step beside its arrays; part of every checkpoint."""

    step: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int | None = None
    evaluations_without_best: int = 0
    loss_sum: float = 0.0  # this and the next three: since the last line of the log
    loss_count: int = 0
    train_tokens: int = 0
    train_seconds: float = 0.0


class Trainer:
    """Trains a model in place and keeps its checkpoints and its log in a folder.

    Parameters
    ----------
    model : a LanguageModel
    data : (training ids, validation ids or None), 1-D integer arrays
    config : TrainConfig
    out : the run's folder
    resume : bool; continue the run in `out` bit for bit. The checkpoint's parameters overwrite the
        model's.
    progress : bool, show a bar or lines

    Raises
    ------
    UserError
        when `out` holds a run already, or for `resume` none, or one with other settings, another
        model or other data; when a text is shorter than a block; when `out` cannot be written.
    """

    def __init__(self, model, data, config, out, *, resume=False, progress=True):
        self.model, self.out, self.show_progress = model, Path(out), progress
        self.module = model.module
        with FolderLock(self.out) if resume and self.out.is_dir() else nullcontext():
            self._prepare(data, config, resume)

    def _prepare(self, data, config, resume):
        folder, saved = self._find_run(resume)
        if saved is not None:
            config = config.continued_from(saved["config"])
        self.device = device()
        threads = config.threads or self.device.threads or available_cores()
        if threads > (self.device.threads or threads):
            raise UserError(f"threads must be {self.device.threads} on this backend, got {threads}")
        self.config = dataclasses.replace(config, threads=threads)
        model = self.model
        model.params = map_leaves(_own, model.params)
        rule = self.config.make_optimizer()
        self.optimizer, self.optimizer_state = self.device.optimizer(rule), rule.init(model.params)
        self.rate = self.config.make_schedule()
        self._read_data(*data)
        self.log = MetricsLog(self.out / "metrics.jsonl")
        self.counters, self.recurrent, self.stopped = Counters(), None, None
        self.resumed_from = folder
        if saved is not None:
            self._restore(folder, saved)
        put = self.device.put  # the CPU's own leaves everything where it is
        self.params, self.optimizer_state = put(model.params), put(self.optimizer_state)
        self.recurrent = put(self.recurrent)

    def run(self, on_eval=None):
        """Train until the steps are done, or patience or time is over, or a signal asks to stop.

        on_eval : function of a line of the log (a dict), called after each evaluation

        Returns
        -------
        TrainResult

        Raises
        ------
        TrainingDiverged
            naming the step and the first bad gradient; the last checkpoint stays as it is.
        """
        self.on_eval = on_eval
        with FolderLock(self.out):
            if self.resumed_from not in (None, checkpoint.find_last(self.out)):
                raise UserError(f"{self.out} has gone on in the meantime: resume it again")
            return self._run()

    def _run(self):
        self.began = time.perf_counter() - self.counters.seconds
        with WorkerPool(self.config.threads) as self.pool, listening() as self.request:
            self.progress = Progress(self.config.steps, self.counters.step, self.show_progress)
            try:
                if self.counters.step == 0:
                    self._start()
                self.stopped = self._over()
                while self.stopped is None:
                    self._step()
                    self._after_step()
                    self.progress.advance(self.counters.step)
            finally:
                self.progress.close()
        c, history = self.counters, self.log.history
        return TrainResult(c.step, self.stopped, c.best_loss, c.best_step, c.seconds, history)

    def _start(self):
        """A checkpoint before the first step, so that there always is one, and an evaluation."""
        if self.resumed_from is None:
            checkpoint.forget_start(self.out)
            self._save(best=bool(self.validation))
        self.log.cut_back(0)
        if self.validation:
            self._log_line(self._evaluate())

    def _step(self):
        """One update."""
        c, config = self.counters, self.config
        began = time.perf_counter()
        first = c.step * config.accumulation
        result = loss_and_gradients(
            self.module,
            self.params,
            self.model.config,
            self.batches.micro_steps(first, config.accumulation),
            pool=self.pool,
            seed=config.seed,
            first=first,
            states=self.recurrent,
        )
        norm = self.optimizer.global_norm(result.grads, pool=self.pool)
        check_step(c.step + 1, result.loss, norm, result.grads, self._advice)
        lr = self.rate(c.step)
        scale = clip_scale(norm, config.clip) if config.clip else 1.0
        with np.errstate(all="ignore"):  # too large an update is reported by the next loss
            self.optimizer.update(
                self.params, result.grads, self.optimizer_state, lr, scale=scale, pool=self.pool
            )
        self.recurrent, self.lr, self.norm = result.states, lr, norm
        c.step += 1
        c.loss_sum += result.loss
        c.loss_count += 1
        c.train_tokens += result.tokens
        c.train_seconds += time.perf_counter() - began

    def _after_step(self):
        """Evaluate, log and save, where the schedule or the end asks for it.

        After a signal nothing is measured that an uninterrupted run would not measure here.
        """
        c, config = self.counters, self.config
        over = self._over()
        end = over in ("steps", "time")
        validation_loss, improved = None, False
        if self.validation and (end or c.step % config.eval_every == 0):
            validation_loss = self._evaluate()
            improved = c.best_step == c.step
        if validation_loss is not None or end or c.step % config.log_every == 0:
            self._log_line(validation_loss, lr=self.lr, norm=self.norm)
        self.stopped = over or self._out_of_patience()
        every = config.checkpoint_every or config.eval_every or config.steps
        if improved or self.stopped or c.step % every == 0:
            self._save(best=improved)

    def _over(self):
        """Why the run is over now, or None."""
        if self.counters.step >= self.config.steps:
            return "steps"
        limit = self.config.max_seconds
        if limit is not None and self._clock() >= limit:
            return "time"
        return self._out_of_patience() or self.request.heard

    def _out_of_patience(self):
        patience = self.config.patience
        spent = patience and self.counters.evaluations_without_best >= patience
        return "patience" if spent else None

    def _evaluate(self):
        """The loss on the validation batches; what it means for `best` goes into the counters."""
        c, config = self.counters, self.model.config
        loss = mean_loss(self.module, self.params, config, self.validation, pool=self.pool)
        check_loss(c.step, loss, self._advice)
        if c.best_loss is None or loss < c.best_loss:
            c.best_loss, c.best_step, c.evaluations_without_best = loss, c.step, 0
        else:
            c.evaluations_without_best += 1
        return loss

    def _log_line(self, validation_loss, *, lr=None, norm=None):
        c = self.counters
        line = {
            "step": c.step,
            "seconds": round(self._clock(), 3),
            "train_loss": c.loss_sum / c.loss_count if c.loss_count else None,
            "validation_loss": validation_loss,
            "lr": lr,
            "grad_norm": norm,
            "tokens_per_second": c.train_tokens / c.train_seconds if c.loss_count else None,
        }
        c.loss_sum, c.loss_count, c.train_tokens, c.train_seconds = 0.0, 0, 0, 0.0
        self.log.append(line)
        self.progress.show(line)
        if validation_loss is not None and self.on_eval is not None:
            self.on_eval(line)

    def _clock(self):
        """The run's seconds so far."""
        self.counters.seconds = time.perf_counter() - self.began
        return self.counters.seconds

    def _save(self, *, best):
        self._clock()
        state = {
            **dataclasses.asdict(self.counters),
            "config": self.config.to_dict(),
            "data": self.data,
        }
        get = self.device.get
        self.model.params = get(self.params)
        checkpoint.save_checkpoint(
            self.out,
            state,
            model=self.model,
            optimizer_state=get(self.optimizer_state),
            recurrent_state=get(join_states(self.recurrent)),
            best=best,
        )

    def _find_run(self, resume):
        """(folder, saved state) of the run to resume; (None, None) for a new one."""
        if not resume:
            if checkpoint.holds_a_run(self.out) and not checkpoint.never_saved_a_step(self.out):
                raise UserError(
                    f"{self.out} holds a run already: continue it with --resume, "
                    "or choose another folder"
                )
            return None, None
        folder = checkpoint.find_last(self.out)
        if folder is None:
            raise UserError(f"{self.out} holds no run to resume: start one without --resume")
        return folder, checkpoint.read_state(folder)

    def _restore(self, folder, saved):
        for name, here in self.data.items():
            if here != saved["data"][name]:
                raise UserError(
                    f"the {name} data is not that of the run to resume: "
                    f"{here}, but there it was {saved['data'][name]}"
                )
        state = checkpoint.load_arrays(
            folder, model=self.model, optimizer_state=self.optimizer_state
        )
        self.recurrent = split_state(state, self.config.threads)
        self.counters = Counters(**{f.name: saved[f.name] for f in dataclasses.fields(Counters)})
        # a kill between two of these steps of a save is made good here
        is_best = self.counters.best_step == self.counters.step or self.counters.step == 0
        checkpoint.link(self.out, folder.name, best=is_best and bool(self.validation))
        self.log.cut_back(self.counters.step)

    def _read_data(self, training_ids, validation_ids):
        config, model = self.config, self.model
        if model.block is not None and config.block > model.block:
            raise UserError(f"block must be at most the model's {model.block}, got {config.block}")
        options = {
            "config": config,
            "vocab_size": model.vocab_size,
            "stateful": self.module.STATEFUL,
        }
        self.batches = TrainingBatches(training_ids, **options)
        self.validation = None
        if validation_ids is not None and config.eval_every:
            self.validation = validation_batches(validation_ids, **options)
        self.data = {
            "training": fingerprint(training_ids),
            "validation": fingerprint(validation_ids),
        }

    def _advice(self):
        kept = checkpoint.find_last(self.out).name
        return f"{self.out / 'last'} keeps {kept}; try a lower lr than {self.config.lr}"


def _own(p):
    """A parameter that may be written in place, also where it came from a file's bytes."""
    return p if p.flags.writeable and p.flags.c_contiguous else np.array(p, order="C")
