"""Training networks far past zero error, with collapse measured on the way."""

from ncjax.training.config import TrainConfig as TrainConfig
from ncjax.training.engine import Engine as Engine
from ncjax.training.evaluators import EVALUATORS as EVALUATORS
from ncjax.training.evaluators import register_evaluator as register_evaluator
from ncjax.training.guides import generator_of as generator_of
from ncjax.training.guides import labeler_of as labeler_of
from ncjax.training.guides import register_generator as register_generator
from ncjax.training.loop import ISSUES as ISSUES
from ncjax.training.loop import Diverged as Diverged
from ncjax.training.loop import measure as measure
from ncjax.training.loop import train as train
from ncjax.training.loop import train_ensemble as train_ensemble
from ncjax.training.restore import Trained as Trained
from ncjax.training.restore import load_run as load_run
from ncjax.training.steps import State as State
