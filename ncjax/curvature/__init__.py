"""Second derivatives of any scalar function of a pytree, and what they allow one to conclude."""

from ncjax.curvature.dense import DenseEigenpairs as DenseEigenpairs
from ncjax.curvature.dense import Signs as Signs
from ncjax.curvature.dense import dense_eigenpairs as dense_eigenpairs
from ncjax.curvature.dense import hessian_matrix as hessian_matrix
from ncjax.curvature.dense import signs as signs
from ncjax.curvature.products import global_norm as global_norm
from ncjax.curvature.products import hvp as hvp
from ncjax.curvature.products import inner as inner
from ncjax.curvature.verdict import Verdict as Verdict
