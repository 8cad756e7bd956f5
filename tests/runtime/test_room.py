"""Clusters whose machines are still to come; what real ones have room for is shown in ``tests/cluster``."""

import logging
import time
from typing import Any

import pytest

from raydistill.runtime import room

HEAD: dict[str, Any] = {"NodeID": "head", "Resources": {"memory": 1.0}}
WORKER: dict[str, Any] = {"NodeID": "worker", "Resources": {"CPU": 2.0}}


def test_a_cluster_without_cores_is_given_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [[HEAD], [HEAD], [HEAD, WORKER]]
    monkeypatch.setattr(room, "alive", lambda: answers.pop(0))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with caplog.at_level(logging.WARNING):
        room.await_cores(60)
    assert not answers
    assert caplog.messages == ["this cluster has no cores; waiting 60 s for a machine to join"]


def test_the_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "alive", lambda: [HEAD])
    began = time.monotonic()
    room.await_cores(0.3)
    assert 0.3 <= time.monotonic() - began < 30


def test_one_with_cores_is_not_made_to_wait(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(room, "alive", lambda: [WORKER])
    room.await_cores(60)
    assert not caplog.messages
