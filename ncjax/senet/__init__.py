"""Subspace clustering by a self-expressive network (2110.04318), and by exact solvers."""

from ncjax.senet.elastic_net import ElasticNet as ElasticNet
from ncjax.senet.elastic_net import Optimality as Optimality
from ncjax.senet.elastic_net import exact_coefficients as exact_coefficients
from ncjax.senet.elastic_net import optimality as optimality
from ncjax.senet.estimators import SENet as SENet
from ncjax.senet.estimators import SubspaceClustering as SubspaceClustering
from ncjax.senet.exact import ElasticNetClustering as ElasticNetClustering
from ncjax.senet.exact import OMPClustering as OMPClustering
from ncjax.senet.features import ScatteringFeatures as ScatteringFeatures
from ncjax.senet.features import scattering_features as scattering_features
from ncjax.senet.model import SelfExpressiveNet as SelfExpressiveNet
from ncjax.senet.training import TrainConfig as TrainConfig
from ncjax.senet.training import Trained as Trained
from ncjax.senet.training import train as train
