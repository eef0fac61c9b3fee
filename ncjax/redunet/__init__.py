"""White-box networks from rate reduction: rates, operators, construction, estimators."""

from ncjax.redunet.estimators import ReduNet as ReduNet
from ncjax.redunet.lifting import lift as lift
from ncjax.redunet.lifting import random_filters as random_filters
from ncjax.redunet.mcr2 import Dictionary as Dictionary
from ncjax.redunet.mcr2 import latch as latch
from ncjax.redunet.mcr2 import mcr2_loss as mcr2_loss
from ncjax.redunet.mcr2 import variational_rate_reduction as variational_rate_reduction
from ncjax.redunet.module import ReduNetModule as ReduNetModule
from ncjax.redunet.polar import polar as polar
from ncjax.redunet.rates import class_coding_rate as class_coding_rate
from ncjax.redunet.rates import coding_rate as coding_rate
from ncjax.redunet.rates import rate_reduction as rate_reduction
from ncjax.redunet.shift_invariant import ShiftInvariantReduNet as ShiftInvariantReduNet
from ncjax.redunet.spectra import Spectra as Spectra
from ncjax.redunet.spectra import from_spectra as from_spectra
from ncjax.redunet.spectra import to_spectra as to_spectra
from ncjax.redunet.subspaces import NearestSubspace as NearestSubspace
