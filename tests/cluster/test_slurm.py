"""The Slurm script, with Slurm's and Ray's commands replaced by ones that write down what they were told."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.test_files import CLUSTER

STUBS = {
    "scontrol": '[ "$1" = show ] && printf "n1\\nn2\\n" || true',
    "srun": 'case "$*" in *hostname*) echo "10.0.0.1 10.1.0.1" ;; esac',
    "ray": "true",
    # Waits, as the real one does, until every node was started: the job's end must not overtake one's start.
    "python": 'cat > /dev/null; until [ "$(grep -c "^srun.*ray start" "$SAID")" -ge "$3" ]; do sleep 0.05; done',
    "raydistill": 'exit "$CODE"',
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a Slurm job on two nodes."""
    (tmp_path / "bin").mkdir()
    for name, body in STUBS.items():
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$SAID"\n{body}\n', encoding="utf-8")
        path.chmod(0o755)
    (tmp_path / "token").write_text("t" * 64, encoding="utf-8")
    return {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "SAID": str(tmp_path / "said"),
        "CODE": "0",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "4",
    }


def run(environment: dict[str, str], *args: str) -> tuple[int, str, list[str]]:
    """Exit code, what it complained of, and the commands that it gave."""
    done = subprocess.run(
        ["bash", str(CLUSTER / "slurm.sh"), *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = Path(environment["SAID"])
    return done.returncode, done.stderr, said.read_text(encoding="utf-8").splitlines() if said.exists() else []


@pytest.mark.parametrize("code", [0, 1, 2])
def test_it_starts_ray_on_every_node_and_ends_as_the_run(slurm: dict[str, str], code: int) -> None:
    ended, _, said = run(slurm | {"CODE": str(code)}, "searches/mine.py", "--set", "budget.trials=4")
    assert ended == code
    assert "raydistill run searches/mine.py --address 10.0.0.1:23456 --resume --set budget.trials=4" in said
    [head] = [line for line in said if "--head --block" in line]
    assert "--nodelist=n1 " in head
    assert "--num-cpus=16 --num-gpus=4" in head
    assert "--node-ip-address=10.0.0.1 --port=23456" in head
    [workers] = [line for line in said if "--address=10.0.0.1:23456" in line]
    assert workers.startswith("srun --overlap --nodes=1 --ntasks=1 --exclude=n1 ray start --block")
    assert not any("requeue" in line for line in said)
    assert "t" * 64 not in "".join(said)


def test_one_node_has_no_workers(slurm: dict[str, str]) -> None:
    ended, _, said = run(slurm | {"SLURM_JOB_NUM_NODES": "1"}, "searches/mine.py")
    assert ended == 0
    assert not any("--exclude" in line for line in said)


def test_an_interrupted_run_is_queued_again(slurm: dict[str, str]) -> None:
    ended, _, said = run(slurm | {"CODE": "130"}, "searches/mine.py")
    assert ended == 130
    assert said[-1] == "scontrol requeue 123456"


def test_the_signal_before_the_end_reaches_the_run_and_queues_it_again(slurm: dict[str, str], tmp_path: Path) -> None:
    waits = 'trap \'echo told >> "$SAID"; exit 130\' TERM\necho waiting >> "$SAID"\nwhile :; do sleep 0.05; done\n'
    (tmp_path / "bin" / "raydistill").write_text(f"#!/bin/sh\n{waits}", encoding="utf-8")
    process = subprocess.Popen(["bash", str(CLUSTER / "slurm.sh"), "searches/mine.py"], env=slurm)
    said, until = Path(slurm["SAID"]), time.monotonic() + 60
    while time.monotonic() < until and not (said.exists() and "waiting" in said.read_text(encoding="utf-8")):
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 130
    assert said.read_text(encoding="utf-8").splitlines()[-2:] == ["told", "scontrol requeue 123456"]


def test_without_a_token_or_a_search_nothing_is_started(slurm: dict[str, str]) -> None:
    ended, err, said = run(slurm | {"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "searches/mine.py")
    assert (ended, said) == (2, [])
    assert "no token in /nonexistent; make one:" in err
    ended, err, said = run(slurm)
    assert ended != 0
    assert "usage: sbatch cluster/slurm.sh SEARCH" in err
