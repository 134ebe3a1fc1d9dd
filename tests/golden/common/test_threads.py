"""One thread where matrices are small, as many as there were elsewhere, and as many as before afterwards."""

import numpy as np
import pytest
import threadpoolctl

from golden.common import threads
from golden.diffusion import zoo
from golden.diffusion.networks import dense

pytestmark = pytest.mark.golden


def count():
    (pool,) = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return pool["num_threads"]


@pytest.mark.parametrize("small", [True, False])
def test_a_small_network_takes_one_thread(monkeypatch, small):
    network, seen = zoo.load("dit"), []
    if not small:
        monkeypatch.setattr(threads, "SMALL", 2 * max(network.macs().values()))

    def executor(layer, values):
        seen.append(count())
        return dense(layer, values)

    with threadpoolctl.threadpool_limits(2):
        network(np.zeros((2, 1, 16, 16), np.float32), np.array([10, 10]), np.array([3, 3]), executor=executor)
        assert set(seen) == {1 if small else 2} and count() == 2


def test_threads_come_back_after_an_error():
    with threadpoolctl.threadpool_limits(2):
        with pytest.raises(ValueError, match="damaged"), threads.limited(1):
            raise ValueError("damaged")
        assert count() == 2
