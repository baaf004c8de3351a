#!/usr/bin/env bash
# A sweep on a Slurm cluster: Ray on all nodes of the job and the driver on the first; it resumes after the time limit.
#   sbatch cluster/slurm.sh search_spaces/cifar10.yaml /shared/sweeps cifar10-forget-0
# Storage must be a folder that all nodes mount. The environment with sfd-sweep must be active, or SFD_SWEEP_VENV name it.
# CHANGE what follows to your site's partition, account and machines.
#SBATCH --job-name=sfd-sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if [[ $# -ne 3 ]]; then
  echo "usage: sbatch cluster/slurm.sh FILE STORAGE NAME" >&2
  exit 2
fi
file=$1 storage=$2 name=$3
: "${SLURM_JOB_ID:?is missing: start this with sbatch}" "${SLURM_JOB_NODELIST:?is missing: start this with sbatch}"
here="${SFD_SWEEP_CLUSTER:-${SLURM_SUBMIT_DIR:-.}/cluster}" # Slurm runs a copy of this script from elsewhere
if [[ -n ${SFD_SWEEP_VENV:-} ]]; then
  export PATH="$SFD_SWEEP_VENV/bin:$PATH"
fi

# A token of this job's own, known to its processes alone: without it, anyone who reaches a node could run code through Ray.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN="$(python3 -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${nodes[0]}"
ip="$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')"
port=$((20000 + 3 * (SLURM_JOB_ID % 3000))) # and the two after it: jobs that share a node keep apart
common=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)

steps=()
finish() { # free the nodes for the next job
  kill "${steps[@]}" 2> /dev/null || true
  wait "${steps[@]}" 2> /dev/null || true
}
trap finish EXIT

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" \
  ray start --head --node-ip-address="$ip" --port="$port" --dashboard-host=127.0.0.1 \
  --dashboard-port=$((port + 1)) --ray-client-server-port=$((port + 2)) "${common[@]}" &
steps+=($!)
until ray health-check --address "$ip:$port" > /dev/null 2>&1; do
  kill -0 "${steps[0]}" # ends the job if the head has died
  sleep 2
done
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 --overlap --nodelist="$node" ray start --address="$ip:$port" "${common[@]}" &
  steps+=($!)
done
until [[ "$(python3 -c "import ray; ray.init('$ip:$port', logging_level=50); print(len(ray.nodes()))")" -ge ${#nodes[@]} ]]; do
  sleep 2
done

sfd-sweep doctor "$file" --set "storage=$storage" --address "$ip:$port"

# Five minutes before the time limit Slurm sends USR1: the sweep finishes its evaluations, but for three minutes at most
# (trials resume from the previous ones), and the job is queued again to resume the sweep.
"$here/resume.sh" "$file" "$storage" "$name" "$ip:$port" &
driver=$!
limit() {
  trap '' USR1
  kill -TERM "$driver" 2> /dev/null || true
  (sleep 180 && kill -TERM "$driver" 2> /dev/null) &
  local timer=$!
  wait "$driver" || true
  kill "$timer" 2> /dev/null || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap limit USR1
wait "$driver"
