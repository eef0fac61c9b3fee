import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.metrics import clustering_accuracy, subspace_preserving_error
from ncjax.senet import ElasticNetClustering, OMPClustering


def test_exact_solvers_behind_the_same_call(planes):
    points, labels = planes
    errors = {}
    for net in (ElasticNetClustering(4, gamma=50.0), OMPClustering(4, n_nonzero=2)):
        net.fit(points)
        errors[type(net)] = subspace_preserving_error(net.coefficients_, labels)
        assert np.all(net.coefficients_.diagonal() == 0)
        if isinstance(net, ElasticNetClustering):
            assert clustering_accuracy(labels, net.labels_) > 0.95
    assert max(errors.values()) < 0.1  # pursuit's graph falls into pieces all the same


def test_what_is_refused(planes):
    points, _ = planes
    with pytest.raises(InputError, match="`X`: got points that take no.*Raise `gamma`"):
        ElasticNetClustering(4, gamma=0.1).fit(points)
    with pytest.raises(InputError, match="`lam`"):
        ElasticNetClustering(4, lam=1.0).fit(points)
    with pytest.raises(InputError, match="`n_nonzero`"):
        OMPClustering(4, n_nonzero=0).fit(points)
