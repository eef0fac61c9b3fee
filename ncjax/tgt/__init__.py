"""Teacher-guided training: inputs that a generator makes and a labeler labels (2208.06825).

The paper's authors published no code; this is our reading of its description.
"""

from ncjax.tgt.explorers import Explored as Explored
from ncjax.tgt.explorers import gradient as gradient
from ncjax.tgt.explorers import input_noise as input_noise
from ncjax.tgt.explorers import mixup as mixup
from ncjax.tgt.explorers import prior as prior
from ncjax.tgt.explorers import random as random
from ncjax.tgt.objective import confidence as confidence
from ncjax.tgt.objective import disagreement as disagreement
from ncjax.tgt.objective import distillation as distillation
from ncjax.tgt.pca import Principal as Principal
from ncjax.tgt.pca import principal as principal
from ncjax.tgt.protocols import Generator as Generator
from ncjax.tgt.protocols import Guide as Guide
from ncjax.tgt.protocols import Labeler as Labeler
from ncjax.tgt.protocols import check_guide as check_guide
from ncjax.tgt.protocols import from_probabilities as from_probabilities
from ncjax.tgt.retrieval import contrastive as contrastive
from ncjax.tgt.retrieval import ranks as ranks
from ncjax.tgt.retrieval import retrieval_metrics as retrieval_metrics
