"""Networks in Flax Linen; each returns `(logits, features)`, the features as the head sees them."""

from ncjax.models.autoencoder import Autoencoder as Autoencoder
from ncjax.models.cnn import CNN as CNN
from ncjax.models.convnorm import ConvNorm as ConvNorm
from ncjax.models.convolutions import convolve as convolve
from ncjax.models.convolutions import fastest as fastest
from ncjax.models.convolutions import max_pool as max_pool
from ncjax.models.heads import HEADS as HEADS
from ncjax.models.heads import Head as Head
from ncjax.models.heads import classifier as classifier
from ncjax.models.layers import NORMS as NORMS
from ncjax.models.layers import Norm as Norm
from ncjax.models.lipschitz import layer_norms as layer_norms
from ncjax.models.mlp import MLP as MLP
from ncjax.models.orthogonal import newton_orthogonal as newton_orthogonal
from ncjax.models.orthogonal import orthogonality as orthogonality
from ncjax.models.resnet import STEMS as STEMS
from ncjax.models.resnet import ResNet as ResNet
from ncjax.models.retrieval import CrossEncoder as CrossEncoder
from ncjax.models.retrieval import DualEncoder as DualEncoder
from ncjax.models.text import TextAutoencoder as TextAutoencoder
from ncjax.models.text import TextClassifier as TextClassifier
