"""Training: shards over threads, the loop, checkpoints, and the log of what was measured."""

from minillm.training.config import OPTIMIZERS, TrainConfig
from minillm.training.divergence import TrainingDiverged
from minillm.training.keep import keep, train_or_load
from minillm.training.parallel import WorkerPool, reduce_gradients
from minillm.training.progress import track
from minillm.training.trainer import Trainer, TrainResult

__all__ = [
    "OPTIMIZERS",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingDiverged",
    "WorkerPool",
    "keep",
    "reduce_gradients",
    "track",
    "train_or_load",
]
