"""Training networks far past zero error, with collapse measured on the way."""

from ncjax.training.config import TrainConfig as TrainConfig
from ncjax.training.engine import Engine as Engine
from ncjax.training.loop import train as train
from ncjax.training.steps import State as State
