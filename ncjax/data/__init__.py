"""Data sets as arrays in memory, from scikit-learn or from files."""

from ncjax.data.sources import Dataset as Dataset
from ncjax.data.sources import count_classes as count_classes
from ncjax.data.sources import load as load
from ncjax.data.sources import read_npz as read_npz
