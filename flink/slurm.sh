#!/bin/bash
#SBATCH --job-name=alignset --output=alignset-%j.log --open-mode=append
#SBATCH --ntasks-per-node=1 --cpus-per-task=2 --mem=12G --time=24:00:00
#SBATCH --requeue --signal=B:USR1@120
# `alignset curate` on the nodes of a Slurm job, as a Flink cluster of their own:
#
#   sbatch --nodes=4 flink/slurm.sh --input=/shared/pairs.parquet --output=/shared/OUT
#
# Run it with the environment that has alignset active: Slurm passes that on, credentials too.
# Options of sbatch before the script win over those above. A worker has a slot for each CPU of its
# task, and a node needs 2 GB and 3.5 GB a slot.
#
# - The time runs out, a node is lost, or `scontrol requeue`: the job is queued again, and goes on
#   where it was. Two minutes before --time ends the command is stopped for that.
# - sbatch --no-kill: if a node is lost, the others do its work at once. But if the first is lost,
#   Slurm 22.05 leaves the job running, idle.
# - `scancel` stops it; the same sbatch command resumes it.
#
# What a site must allow: this environment, Java 17 and the jars (`alignset cluster install`, once;
# ALIGNSET_FLINK names a folder that all nodes see) at one path on all nodes; a shared file system
# with locks or an object store for input and output; TCP between the nodes of a job, ports 20000 to
# 29999 and 6125 to 6224; names of nodes that resolve; requeue; and, for images, outgoing HTTP and
# DNS from compute nodes. Where only a proxy leads out: export http_proxy and https_proxy, and add
# --proxies_from_environment. Where nothing does: --text_only here, and the images elsewhere.
set -u
slots=${SLURM_CPUS_PER_TASK:-1}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
p=$((20000 + SLURM_JOB_ID % 1000 * 10)) # two jobs may share a node
folder=${SLURM_TMPDIR:-/tmp}/alignset-$SLURM_JOB_ID
worker=(--slots="$slots" --folder="$folder" --task_rpc=$((p + 1)) --data=$((p + 2)) --pool=$((p + 3)))
command='' stopped='' again=''

say() { echo "$(date '+%F %T') slurm.sh: $*"; }
stop() { # stop WHY: the command
	say "$1: the command is stopped"
	stopped=1
	[ -z "$command" ] || kill -TERM "$command"
}
trap 'again=1; stop "the time runs out"' USR1
trap 'stop "the job is ended"' TERM

say "${#nodes[@]} nodes; logs on each: $folder/*.log; page: http://$head:$p"
# What is killed, by the kernel for its memory say, is started again on its node.
keep='trap "kill \$!; wait; exit" TERM
while "$@" & wait $!; s=$?; [ $s -gt 128 ]; do
	echo "$(date "+%F %T") slurm.sh: killed on $SLURMD_NODENAME (status $s), and started again: $*"
	sleep 5
done
exit $s'
bash -c "$keep" keep alignset cluster head --host="$head" --ui="$p" --rpc=$((p + 4)) \
	--blobs=$((p + 5)) --jobs=$((p + 6)) --artifacts=$((p + 7)) "${worker[@]}" &
cluster=($!)
if [ ${#nodes[@]} -gt 1 ]; then
	srun --overlap --no-kill --kill-on-bad-exit=0 --nodelist="$(IFS=,; echo "${nodes[*]:1}")" \
		--nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --ntasks-per-node=1 \
		bash -c "$keep" keep alignset cluster worker --head="$head:$p" "${worker[@]}" &
	cluster+=($!)
fi

# Slots or a JobManager that are lost: the same command again on what is there.
status=1 before='' tries=0 wait=(--wait_slots=$((${#nodes[@]} * slots)))
while [ $status = 1 ] && [ -z "$stopped" ]; do
	flags=$(alignset cluster flags --head="$head:$p" --pool=$((p + 3)) "${wait[@]}") ||
		flags=$(alignset cluster flags --head="$head:$p" --pool=$((p + 3)) --wait_slots=1) || break
	[ -z "$stopped" ] || break # a trap waits for $(…)
	[ "$flags" = "$before" ] || tries=0
	[ $((tries += 1)) -le 3 ] || break
	[ -z "$before" ] || say "the same command again on what is there"
	before=$flags wait+=(--wait_s=60)
	# shellcheck disable=SC2086
	alignset curate "$@" $flags &
	command=$!
	while wait $command; status=$?; kill -0 $command 2>/dev/null; do :; done # a trap ends a wait
	command=''
done

kill "${cluster[@]}"
for _ in {1..15}; do kill -0 "${cluster[@]}" 2>/dev/null && sleep 1; done
if [ -n "$again" ] && [ $status != 0 ]; then
	say "queued again, to go on"
	scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
