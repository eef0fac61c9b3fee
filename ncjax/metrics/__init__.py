"""Neural-collapse metrics: accumulate class moments, then measure.

`ClassMoments` (from `class_moments`, batch by batch, merged, or summed over devices) holds all that
NC1 to NC3 and the bias metric need; `collapse` measures every variant by name. What needs the
samples once more (nearest class centre, cosine margins) is in `sample_geometry`. Where they are
seen twice anyway, `mean_span` spares the d x d scatter.

Beside them, scores of clusterings and of the affinities behind them (`clustering_scores`), and the
Fréchet distance of two sets of samples.
"""

from ncjax.metrics.clustering import ClusteringScores as ClusteringScores
from ncjax.metrics.clustering import clustering_accuracy as clustering_accuracy
from ncjax.metrics.clustering import clustering_scores as clustering_scores
from ncjax.metrics.clustering import connectivity as connectivity
from ncjax.metrics.clustering import subspace_preserving_error as subspace_preserving_error
from ncjax.metrics.collapse import Collapse as Collapse
from ncjax.metrics.collapse import centred_means as centred_means
from ncjax.metrics.collapse import collapse as collapse
from ncjax.metrics.frechet import frechet_distance as frechet_distance
from ncjax.metrics.moments import ClassMoments as ClassMoments
from ncjax.metrics.moments import class_moments as class_moments
from ncjax.metrics.samples import SampleGeometry as SampleGeometry
from ncjax.metrics.samples import sample_geometry as sample_geometry
from ncjax.metrics.span import MeanSpan as MeanSpan
from ncjax.metrics.span import mean_span as mean_span
