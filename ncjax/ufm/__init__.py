"""The unconstrained feature model: its landscape solved, certified and swept.

    f(W, H, b) = mean loss of (H W' + b)
                 + lambda_w/2 ||W||^2 + lambda_h/2 ||H||^2 + lambda_b/2 ||b||^2

with the features H as free as the classifier (2105.02375, section 3). The papers write H as d x N;
here samples are rows, so `Params.H` is its transpose, `[N, d]`.
"""

from ncjax.ufm.bounds import has_lower_bound as has_lower_bound
from ncjax.ufm.bounds import lower_bound as lower_bound
from ncjax.ufm.certificate import Certificate as Certificate
from ncjax.ufm.certificate import certify as certify
from ncjax.ufm.conditioning import Conditioning as Conditioning
from ncjax.ufm.conditioning import conditioning as conditioning
from ncjax.ufm.contrastive import Contrastive as Contrastive
from ncjax.ufm.contrastive import check_contrastive as check_contrastive
from ncjax.ufm.exact_spectrum import ExactSpectrum as ExactSpectrum
from ncjax.ufm.exact_spectrum import spectrum_at_minimizer as spectrum_at_minimizer
from ncjax.ufm.grid import Grid as Grid
from ncjax.ufm.imbalance import Seli as Seli
from ncjax.ufm.imbalance import collapse_ratio as collapse_ratio
from ncjax.ufm.imbalance import merging_size as merging_size
from ncjax.ufm.imbalance import seli as seli
from ncjax.ufm.imbalance import seli_distance as seli_distance
from ncjax.ufm.inertia import count_below as count_below
from ncjax.ufm.inertia import inertia as inertia
from ncjax.ufm.landscape import landscape as landscape
from ncjax.ufm.landscape import read_landscape as read_landscape
from ncjax.ufm.minimizer import Minimizer as Minimizer
from ncjax.ufm.minimizer import minimizer as minimizer
from ncjax.ufm.newton import Solution as Solution
from ncjax.ufm.newton import solve as solve
from ncjax.ufm.problem import Params as Params
from ncjax.ufm.problem import Problem as Problem
from ncjax.ufm.problem import expand as expand
from ncjax.ufm.problem import gradient as gradient
from ncjax.ufm.problem import init as init
from ncjax.ufm.problem import logits as logits
from ncjax.ufm.problem import objective as objective
from ncjax.ufm.slicing import Eigenpair as Eigenpair
from ncjax.ufm.slicing import eigenpair as eigenpair
from ncjax.ufm.slicing import eigenvalue as eigenvalue
from ncjax.ufm.solver import critical_point as critical_point
from ncjax.ufm.summary import summarize as summarize
