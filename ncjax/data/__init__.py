"""Data sets as arrays in memory, from scikit-learn, tensorflow-datasets or files; corruptions."""

from ncjax.data.corruptions import Corruption as Corruption
from ncjax.data.prepared import available as available
from ncjax.data.prepared import data_folder as data_folder
from ncjax.data.prepared import prepare as prepare
from ncjax.data.sources import Dataset as Dataset
from ncjax.data.sources import count_classes as count_classes
from ncjax.data.sources import load as load
from ncjax.data.sources import read_npz as read_npz
from ncjax.data.wordnet import VOCABULARY as VOCABULARY
