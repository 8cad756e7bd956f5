#!/usr/bin/env bash
# One search on the nodes that Slurm lends, from the folder of your searches:
#
#   sbatch cluster/slurm.sh searches/datadam_mnist.py [OPTION OF raydistill run …]
#
# The folder you submit from must hold .venv (or have raydistill on the PATH) and be seen by all nodes, and so must
# --out, which is `runs` here. A second submission goes on where the first stopped; so does one that ran out of time.
#SBATCH --job-name=raydistill
#SBATCH --output=raydistill-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=08:00:00
# For GPUs: #SBATCH --gpus-per-node=1
# Three minutes before the end this script is told, tells the run, and asks Slurm for another turn.
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

search=${1:?usage: sbatch cluster/slurm.sh SEARCH [OPTION …]}
shift
export PATH="$SLURM_SUBMIT_DIR/.venv/bin:$PATH"

# Other people have accounts on these machines: only who can read this file may use your cluster.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
if [[ ! -s $RAY_AUTH_TOKEN_PATH ]]; then
    echo "no token in $RAY_AUTH_TOKEN_PATH; make one: (umask 077; mkdir -p ~/.ray; openssl rand -hex 32 > ~/.ray/auth_token)" >&2
    exit 2
fi

# Ports of this job's own, for another one of yours may run on the same node.
port=$((20000 + SLURM_JOB_ID % 10000))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
read -r ip _ <<<"$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)"
address="$ip:$port"
resources=("--num-cpus=$SLURM_CPUS_PER_TASK" "--num-gpus=${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats)

# In a group of their own, so that the signal at the end reaches the run first.
trap 'kill "${nodes[@]}" 2>/dev/null || true' EXIT
nodes=()
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --block "${resources[@]}" \
    --node-ip-address="$ip" --port="$port" --include-dashboard=false --ray-client-server-port=$((port + 10000)) &
nodes+=($!)
until ray health-check --address "$address" 2>/dev/null; do
    kill -0 "${nodes[0]}" || exit 1
    sleep 2
done
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        ray start --block "${resources[@]}" --address="$address" &
    nodes+=($!)
fi

# A run uses nodes that join it too, but refuses what none has when it begins, so wait for all of them.
python - "$address" "$SLURM_JOB_NUM_NODES" <<'PYTHON'
import sys
import time

import ray

ray.init(address=sys.argv[1], log_to_driver=False)
until = time.monotonic() + 300
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    if time.monotonic() > until:
        sys.exit(f"only {sum(node['Alive'] for node in ray.nodes())} of {sys.argv[2]} nodes came up")
    time.sleep(1)
PYTHON

raydistill run "$search" --address "$address" --resume "$@" &
run=$!
trap 'kill -TERM "$run"' TERM
code=0
wait "$run" || code=$?
if kill -0 "$run" 2>/dev/null; then # it was the signal that ended the wait
    code=0
    wait "$run" || code=$?
fi
if ((code == 130)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
