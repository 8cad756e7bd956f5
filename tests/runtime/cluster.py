"""One private Ray cluster for the tests of a session: starting one takes longer than all that they do with it."""

from functools import cache

from raydistill.runtime.on_ray import OnRay, connect

MARK = "RAYDISTILL_TEST_MARK"


def end() -> None:
    """For tests that change the token of this process, with which a cluster that runs could not be talked to any more."""
    if cluster.cache_info().currsize:
        cluster().close()
        cluster.cache_clear()


@cache
def cluster() -> OnRay:
    """The cluster, of two cores; it ends with the process."""
    return connect("local", environment={MARK: "set before the start"}, imports=("raydistill.search.tune",), cpus=2)
