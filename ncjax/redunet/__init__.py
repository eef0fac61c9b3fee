"""White-box networks from rate reduction: rates, operators, construction, estimators."""

from ncjax.redunet.estimators import ReduNet as ReduNet
from ncjax.redunet.estimators import ShiftInvariantReduNet as ShiftInvariantReduNet
from ncjax.redunet.rates import class_coding_rate as class_coding_rate
from ncjax.redunet.rates import coding_rate as coding_rate
from ncjax.redunet.rates import rate_reduction as rate_reduction
from ncjax.redunet.spectra import Spectra as Spectra
from ncjax.redunet.spectra import from_spectra as from_spectra
from ncjax.redunet.spectra import to_spectra as to_spectra
from ncjax.redunet.subspaces import NearestSubspace as NearestSubspace
