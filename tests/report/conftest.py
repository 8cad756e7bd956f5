from pathlib import Path

import pytest

from raydistill.report.page import write_report
from tests.report.fake import fake_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    return fake_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def written(finished: Path) -> Path:
    """The report folder of the finished run."""
    return write_report([finished], finished.parent / "report").parent
