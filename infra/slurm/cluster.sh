#!/usr/bin/env bash
# A real Slurm cluster of one node, this machine, in one folder. For trying things out and for tests/slow/test_slurm.py.
#
#   apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
#   infra/slurm/cluster.sh start            # a second or two
#   eval "$(infra/slurm/cluster.sh env)"    # sbatch, squeue, srun now mean this cluster
#   infra/slurm/cluster.sh status
#   infra/slurm/cluster.sh stop             # its jobs end, too; `start` goes on from where it was
#
# Settings, by variables of the environment:
#   CLUSTER_DIR           folder for all it needs (/tmp/miras-slurm-<user>; short: a socket's path has 107 characters)
#   CLUSTER_PORT          of slurmctld; the next one is slurmd's (17817)
#   CLUSTER_CPUS          that it says to have, whatever the machine has (4)
#   CLUSTER_GPUS          that it says to have (2); they are names without device
# Works as root and as an ordinary user, who then can run only jobs of their own.
# Partitions: `main`, and `spot`, whose jobs give way to those of `main` and start again later.
set -euo pipefail

dir=${CLUSTER_DIR:-/tmp/miras-slurm-$(id -un)}
port=${CLUSTER_PORT:-17817}
cpus=${CLUSTER_CPUS:-4}
gpus=${CLUSTER_GPUS:-2}
node=$(hostname -s)
export SLURM_CONF=$dir/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "cluster.sh: $*" >&2; }

is_alive() { # FILE: whether the process whose number it holds is there
  local number
  number=$(cat "$1" 2>/dev/null) && [ -n "$number" ] && kill -0 "$number" 2>/dev/null
}

write_settings() {
  local memory_mb user number device
  memory_mb=$(($(awk '/^MemTotal:/ {print $2}' /proc/meminfo) / 1024 * 9 / 10))
  user=$(id -un)
  mkdir -p "$dir"/{munge,state,spool,log,gpus}
  chmod 755 "$dir" "$dir/munge" # munged refuses a socket that nobody could reach
  if [ ! -s "$dir/munge/key" ]; then
    (umask 077 && head -c 1024 /dev/urandom >"$dir/munge/key")
  fi
  cat >"$SLURM_CONF" <<CONF
ClusterName=miras
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=$user
SlurmdUser=$user
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
# How long a key of munge is good is also how long a requeued job waits before it may start again.
AuthInfo=socket=$dir/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=5
CompleteWait=0
MinJobAge=${CLUSTER_MIN_JOB_AGE:-300}
ReturnToService=2
MessageTimeout=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory_mb Gres=gpu:$gpus State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF DefMemPerCPU=512
PartitionName=spot Nodes=$node MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 DefMemPerCPU=512
CONF
  # Opened although nothing here uses cgroups; v1 is the plugin that needs none to be mounted.
  echo "CgroupPlugin=cgroup/v1" >"$dir/cgroup.conf"
  : >"$dir/gres.conf"
  for ((number = 0; number < gpus; number++)); do
    # Slurm wants character devices, whose last digits become CUDA_VISIBLE_DEVICES. Only root can make some (like null).
    device=$dir/gpus/nvidia$number
    [ -c "$device" ] || mknod "$device" c 1 3 2>/dev/null || device=/dev/tty$number
    echo "NodeName=$node Name=gpu File=$device Flags=nvidia_gpu_env" >>"$dir/gres.conf"
  done
}

start() {
  local command
  for command in munged slurmctld slurmd sinfo; do
    if ! command -v "$command" >/dev/null; then
      say "$command is missing: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"
      exit 2
    fi
  done
  write_settings
  is_alive "$dir/munge/pid" || munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
    --pid-file="$dir/munge/pid" --seed-file="$dir/munge/seed" --log-file="$dir/log/munged.log" 2>>"$dir/log/munged.log"
  is_alive "$dir/slurmctld.pid" || slurmctld
  is_alive "$dir/slurmd.pid" || slurmd
  if ! wait_until_ready; then
    say "Slurm did not come up; the ends of its logs:"
    tail -n 15 "$dir"/log/*.log >&2
    stop
    exit 1
  fi
  say "Slurm is up in $dir"
}

wait_until_ready() {
  local _
  for _ in {1..100}; do
    # sinfo alone would try for minutes
    case $(timeout 2 sinfo --noheader --format=%T --nodes="$node" 2>/dev/null | head -n 1) in
      idle | mixed | allocated | completing) return 0 ;;
    esac
    sleep 0.1
  done
  return 1
}

stop() {
  local file _
  if is_alive "$dir/slurmctld.pid"; then
    timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
    for _ in {1..100}; do # until slurmd has ended their processes
      [ -z "$(timeout 2 squeue --noheader 2>/dev/null)" ] && break
      sleep 0.1
    done
  fi
  for file in "$dir/slurmd.pid" "$dir/slurmctld.pid" "$dir/munge/pid"; do
    is_alive "$file" || continue
    kill "$(cat "$file")"
    for _ in {1..100}; do
      is_alive "$file" || break
      sleep 0.1
    done
  done
  say "stopped"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  status) timeout 10 sinfo && timeout 10 squeue --all ;;
  env) printf 'export SLURM_CONF=%q\n' "$SLURM_CONF" ;;
  *)
    say "usage: $0 start|stop|status|env"
    exit 2
    ;;
esac
