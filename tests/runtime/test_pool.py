"""What is put into the object store, without a cluster."""

import pytest

from raydistill.runtime.pool import Pool


def test_the_same_is_put_once_and_given_back_with_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    put = list[dict[str, object]]()
    monkeypatch.setattr("ray.put", lambda value: put.append(value) or len(put))
    pool, images, others = Pool(set()), [1, 2], [1, 2]
    first = pool.common({"images": images, "seed": 3})
    assert pool.common({"images": images, "seed": int("3")}) == first
    for other in ({"images": others, "seed": 3}, {"images": others, "seed": 4}, {"images": others}):
        assert pool.common(other) == len(put)
        assert put[-1] == other
    assert len(put) == 4
    pool.release()
    pool.common({"images": others})
    assert len(put) == 5
