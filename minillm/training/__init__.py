"""Training: shards over threads, the loop, checkpoints, and the log of what was measured."""

from minillm.training.config import OPTIMIZERS, TrainConfig
from minillm.training.divergence import TrainingDiverged
from minillm.training.parallel import WorkerPool, reduce_gradients
from minillm.training.trainer import Trainer, TrainResult

__all__ = [
    "OPTIMIZERS",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingDiverged",
    "WorkerPool",
    "reduce_gradients",
]
