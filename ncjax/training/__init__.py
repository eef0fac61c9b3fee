"""Training networks far past zero error, with collapse measured on the way."""

from ncjax.training.config import TrainConfig as TrainConfig
from ncjax.training.engine import Engine as Engine
from ncjax.training.loop import train as train
from ncjax.training.restore import Trained as Trained
from ncjax.training.restore import load_run as load_run
from ncjax.training.steps import State as State
