#!/bin/bash
# The host device's targets on this machine, Open MPI's barrier in the same run: medians of 5 runs, interleaved.
# Run in the build folder, with nothing else on the machine: bash SOURCE/t/bench/compare.sh. Needs Open MPI (Debian:
# libopenmpi-dev) and jq.
set -u

source_dir=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
runs=${RUNS:-5} failed=0
PATH=$PWD:$source_dir/scripts:$PATH
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for tool in mpicc mpirun jq symm symmrun; do
	command -v "$tool" >/dev/null || { echo "compare: $tool is missing" >&2; exit 2; }
done
mpicc -O2 -o "$work/mpi_barrier" "$source_dir/t/bench/mpi_barrier.c" || exit 1
${CC:-cc} -O2 -o "$work/pingpong" "$source_dir/t/bench/pingpong.c" || exit 1

mpi() {
	mpirun --allow-run-as-root --oversubscribe -np "$1" "$work/mpi_barrier" 2>/dev/null
}

# bench RANKS OPTIONS...: the objects of one run
bench() {
	symmrun -n "$1" symm bench --json "${@:2}"
}

median() {
	sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# Adds to the file of each figure what this run gave.
one_run() {
	local ranks
	for ranks in 2 4; do
		mpi $ranks >>"$work/mpi$ranks"
		bench $ranks --op barrier >"$work/out" || exit 1
		jq -r 'select(.op == "barrier").p50_us' "$work/out" >>"$work/barrier$ranks"
	done
	"$work/pingpong" >>"$work/raw"
	bench 2 --op signal,memcpy,put,get --bytes 64K,64M >"$work/out" || exit 1
	jq -r 'select(.op == "signal").p50_us' "$work/out" >>"$work/signal"
	local bytes op
	for bytes in 65536 67108864; do
		for op in put get; do
			jq -rs --arg op $op --argjson bytes $bytes '
				map(select(.bytes == $bytes)) | (map(select(.op == $op))[0].gbps / map(select(.op == "memcpy"))[0].gbps)
				' "$work/out" >>"$work/$op$bytes"
		done
	done
	bench 4 --op rendezvous,rendezvous_cached >"$work/out" || exit 1
	jq -r 'select(.op == "rendezvous").p50_us' "$work/out" >>"$work/rendezvous"
	jq -r 'select(.op == "rendezvous_cached").p50_us' "$work/out" >>"$work/cached"
}

# judge NAME FILE OPERATOR LIMIT
judge() {
	local value verdict
	value=$(median "$work/$2")
	verdict=$(awk -v v="$value" -v l="$4" "BEGIN { print (v $3 l) ? \"met\" : \"MISSED\" }")
	[ "$verdict" = met ] || failed=1
	printf '%-42s %10s   wanted %s %-8s %s   (%s)\n' "$1" "$value" "$3" "$4" "$verdict" "$(sort -n "$work/$2" | tr '\n' ' ')"
}

for ((run = 1; run <= runs; run++)); do
	[ -t 2 ] && printf 'run %d of %d\r' "$run" "$runs" >&2
	one_run
done
echo "$(date -u +%F), $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), medians of $runs runs"
judge "barrier, 2 ranks, us (Open MPI)" barrier2 '<=' "$(median "$work/mpi2")"
judge "barrier, 4 ranks, us (Open MPI)" barrier4 '<=' "$(median "$work/mpi4")"
echo "raw ping-pong of plain stores, us: $(median "$work/raw")"
judge "signal round trip, us" signal '<' 0.3
judge "put 64 KiB, of memcpy" put65536 '>=' 0.95
judge "get 64 KiB, of memcpy" get65536 '>=' 0.95
judge "put 64 MiB, of memcpy" put67108864 '>=' 0.95
judge "get 64 MiB, of memcpy" get67108864 '>=' 0.95
judge "rendezvous 1 MiB, 4 ranks, us" rendezvous '<' 3000
judge "cached rendezvous, us" cached '<' 1
exit $failed
