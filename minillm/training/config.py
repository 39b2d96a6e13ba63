"""The settings of a training run, checked when they are made and kept in every checkpoint."""

import dataclasses
import math

from minillm.errors import UserError
from minillm.optim import SCHEDULES, SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = ["OPTIMIZERS", "TrainConfig"]

OPTIMIZERS = {
    "sgd": lambda c: SGD(c.lr, weight_decay=c.weight_decay),
    "momentum": lambda c: SGD(c.lr, momentum=c.momentum, weight_decay=c.weight_decay),
    "nesterov": lambda c: SGD(
        c.lr, momentum=c.momentum, nesterov=True, weight_decay=c.weight_decay
    ),
    "adagrad": lambda c: Adagrad(c.lr, weight_decay=c.weight_decay),
    "rmsprop": lambda c: RMSprop(c.lr, weight_decay=c.weight_decay),
    "adam": lambda c: Adam(c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay),
    "adamw": lambda c: AdamW(c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay),
}

# What decides only when a run stops or saves, and so may change when it is resumed.
FREE = ("steps", "max_seconds", "checkpoint_every")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are nanoGPT's for a small GPT on a CPU.

    steps : updates of the parameters
    batch, block : B blocks (or streams) of T tokens for each micro-step
    accumulation : micro-steps whose gradients make one update, of the mean over all their tokens
    optimizer : a key of OPTIMIZERS; beta1, beta2 (Adam, AdamW), momentum (momentum, nesterov)
    lr, schedule, warmup, final_lr : the rate rises to lr over `warmup` updates (None: a tenth of
        the steps, at most 100) and follows the schedule to final_lr (None: lr / 10) at `steps`
    weight_decay : AdamW decays matrices only
    clip : the largest global norm of a gradient, 0 for no clipping
    eval_every, eval_batches : every so many steps, the loss on as many fixed validation batches;
        0 for never
    patience : stop after so many evaluations without a better loss; 0 for never
    max_seconds : stop when the run has lasted so long, or None
    log_every, checkpoint_every : in steps (None: a checkpoint with each evaluation); the first and
        the last step, and the best evaluation, always have a checkpoint
    threads : shards of a batch that run at the same time, None for all cores
    seed : decides the data's order and the dropout
    """

    steps: int = 2000
    batch: int = 12
    block: int = 64
    accumulation: int = 1
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: int | None = None
    final_lr: float | None = None
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    momentum: float = 0.9
    clip: float = 1.0
    eval_every: int = 250
    eval_batches: int = 20
    patience: int = 0
    max_seconds: float | None = None
    log_every: int = 10
    checkpoint_every: int | None = None
    threads: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name, least in (
            ("steps", 0),
            ("batch", 1),
            ("block", 1),
            ("accumulation", 1),
            ("warmup", 0),
            ("eval_every", 0),
            ("eval_batches", 1),
            ("patience", 0),
            ("log_every", 1),
            ("checkpoint_every", 1),
            ("threads", 1),
            ("seed", 0),
        ):
            _check_number(name, getattr(self, name), int, least, self._may_be_none(name))
        for name in ("lr", "final_lr", "weight_decay", "clip", "max_seconds"):
            _check_number(name, getattr(self, name), float, 0, self._may_be_none(name))
        for name in ("beta1", "beta2", "momentum"):
            _check_number(name, getattr(self, name), float, 0)
            if getattr(self, name) >= 1:
                raise UserError(f"{name} must be below 1, got {getattr(self, name)}")
        for name, table in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in table:
                raise UserError(
                    f"{name} must be one of {', '.join(table)}, got {getattr(self, name)!r}"
                )
        if self.warmup is not None and self.warmup > self.steps:
            raise UserError(f"warmup must be at most steps, {self.steps}, got {self.warmup}")

    @classmethod
    def _may_be_none(cls, name):
        return cls.__dataclass_fields__[name].default is None

    def make_optimizer(self):
        return OPTIMIZERS[self.optimizer](self)

    def make_schedule(self):
        """The learning rate as a function of the step, from 0."""
        warmup = min(100, self.steps // 10) if self.warmup is None else self.warmup
        final = self.lr / 10 if self.final_lr is None else self.final_lr
        return SCHEDULES[self.schedule](self.lr, self.steps, warmup=warmup, final=final)

    def to_dict(self):
        return dataclasses.asdict(self)

    def continued_from(self, saved):
        """These settings for a run that was started with the dict `saved`.

        Raises
        ------
        UserError
            naming the first setting that differs. Only those in FREE may, and of `steps` a run may
            only be given more.
        """
        here = self.to_dict()
        if self.threads is None:
            here["threads"] = saved["threads"]
        for name, value in here.items():
            if name not in FREE and value != saved.get(name):
                raise UserError(
                    f"{name}: the run to resume has {saved.get(name)}, not {value}; "
                    "a run continues with its own settings, others need a new run"
                )
        if self.steps < saved["steps"]:
            raise UserError(
                f"steps: the run to resume has {saved['steps']}, which may be raised, "
                f"not lowered to {self.steps}"
            )
        return TrainConfig(**here)


def _check_number(name, value, kind, least, may_be_none=False):
    if value is None and may_be_none:
        return
    allowed = (int,) if kind is int else (int, float)
    if not isinstance(value, allowed) or isinstance(value, bool):
        wanted = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} must be {wanted}, got {value!r}")
    if not (value >= least and math.isfinite(value)):
        raise UserError(f"{name} must be at least {least}, got {value}")
