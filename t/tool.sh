#!/bin/bash
# symm(1): its commands against a real redis-server, with real ranks.
# shellcheck disable=SC2317 # functions that ok calls
. "${top_srcdir:=.}/t/tap/tap.sh"

type redis-server redis-cli > /dev/null 2>&1 || skip_all "no redis-server and redis-cli"
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-tool.XXXXXX") || exit 1
pids=()
end() {
	{ kill -9 "${pids[@]}" && wait; } 2> /dev/null
	rm -rf "$dir"
}
trap end EXIT
# The device that is measured; all else is asked of the host, of the fake driver, or without any driver.
device=${SYMM_DEVICE:-host} driver=${SYMM_LIBCUDA:-libcuda.so.1}
fake=${top_builddir:=.}/t/fake/libcuda.so.1
unset SYMM_URL SYMM_JOB SYMM_RANK SYMM_WORLD_SIZE SYMM_LOCAL_RANK SYMM_DEVICE SYMM_LINK_DIR SYMM_MULTICAST
unset SYMM_SHARE_DEVICE CUDA_VISIBLE_DEVICES CUDA_MODULE_LOADING CUDA_DEVICE_MAX_CONNECTIONS
export SYMM_LIBCUDA=/nowhere/libcuda.so.1
cd "$dir" || exit 1

redis-server --port 0 --unixsocket "$dir/redis" --save "" --appendonly no --daemonize no --logfile "$dir/log" \
	--requirepass "se%cret" > /dev/null &
pids+=($!)
url="unix://:se%25cret@$dir/redis"
cli() { REDISCLI_AUTH="se%cret" redis-cli -s "$dir/redis" "$@"; }
for _ in {1..100}; do
	[ "$(cli ping 2> /dev/null)" = PONG ] && break
	sleep 0.1
done

# Runs a command; what it says stands in out and err, how it ended in status.
run() {
	"$@" > "$dir/out" 2> "$dir/err" < /dev/null
	status=$?
	out=$(cat "$dir/out") err=$(cat "$dir/err")
}
# ends NAME STATUS: what run ran last has ended so.
ends() {
	ok "$1" verify_status "$2"
}
verify_status() {
	[ "$status" = "$1" ] || { echo "status $status, not $1"; echo "$out"; echo "$err"; false; }
}
# has NAME TEXT PATTERN...: the text matches all extended regular expressions.
has() {
	local name=$1 text=$2
	shift 2
	ok "$name" match "$text" "$@"
}
match() {
	local text=$1 pattern
	shift
	for pattern; do
		[[ $text =~ $pattern ]] || { echo "no '$pattern' in:"; echo "$text"; return 1; }
	done
}
# lacks NAME TEXT PART
lacks() {
	ok "$1" absent "$2" "$3"
}
absent() {
	[[ $1 != *"$2"* ]] || { echo "'$2' in:"; echo "$1"; false; }
}
# is_json NAME FILE: one JSON value a line.
is_json() {
	if type python3 > /dev/null 2>&1; then
		ok "$1" python3 -c 'import json, sys
for line in open(sys.argv[1]): json.loads(line)' "$2"
	else
		skip "no python3 to read JSON"
	fi
}
# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
	local until=$((SECONDS + $1))
	shift
	until "$@" > /dev/null 2>&1; do
		[ $SECONDS -lt $until ] || return 1
		sleep 0.1
	done
}

# ---- usage ----

run symm --help
ends "--help" 0
has "--help shows the commands" "$out" info doctor bench group
run symm --version
ends "--version" 0
has "--version tells the version" "$out" "^symm ${SYMM_TEST_VERSION:-[0-9]+\.[0-9]+}"
for command in info doctor bench group; do
	run symm "$command" --help
	ends "$command --help" 0
	has "$command --help tells usage" "$out" "^usage: .*symm $command"
done

while read -r line; do
	read -ra words <<< "$line"
	run symm "${words[@]}"
	ends "usage error: symm $line" 2
	has "usage error: symm $line: says so" "$err" "symm: .*--help"
done <<- 'END'

	frobnicate
	--frobnicate
	info --frobnicate
	info more
	info --device dance
	info --device cuda:
	doctor --frobnicate
	doctor more
	doctor --device cuda:x
	bench --op
	bench --op barrier,dance
	bench --bytes 0
	bench --bytes 12Q
	bench --bytes -1
	bench --bytes 17179869184G
	bench --iters 0
	bench --runs many
	bench --block none
	bench --device host --op barrier_graph
	bench --channel 32
	bench more
	group
	group dance
	group list more
	group show
	group rm
	group rm one two
	group list --url nonsense
	group show --url redis://:hidden@host:port world
END
run symm bench --op put,nope
has "bench names the wrong operation and those that there are" "$err" "--op wants .* barrier, .*memcpy, put, get, .*not 'nope'"
run symm bench --bytes 64K,0,1M
has "bench names the wrong size and what is right" "$err" "--bytes wants .* 64K or 2M.*, not '0'"
run symmrun -n 3 symm bench --op nope
ends "bench of 3 ranks with a wrong operation" 2
ok "and one of them says so" test "$(grep -c "not 'nope'" "$dir/err")" = 1
run env SYMM_RANK=1 SYMM_WORLD_SIZE=2 symm bench --frobnicate
ends "bench: rank 1 ends alike" 2
is_empty "and says nothing" "$out$err"
ok "a full disk is a failure" bash -c '! symm --help > /dev/full'

# ---- symm info ----

run symm info
ends "info without a store" 0
has "info tells what is here" "$out" "ABI [0-9]" "host +[0-9]+ cpus" "pages of [0-9]+" memfd "open files" "SYMM_URL is not set" \
	"nobody says"
limits='ulimit -n 300; ulimit -S -n 200; ulimit -l 32; ulimit -S -l 16; exec "$@"'
run bash -c "$limits" limited symm info
has "info tells the limits" "$out" "open files +soft 200, hard 300" "locked bytes +soft 16384, hard 32768"
run bash -c "$limits" limited symm info --json
has "info --json tells the limits" "$out" '"nofile":\{"soft":200,"hard":300\},"memlock":\{"soft":16384,"hard":32768\}'
run env SYMM_URL="$url" SYMM_JOB=j SLURM_PROCID=2 SLURM_NTASKS=4 symm info
ends "info with a store" 0
has "info tells of the store and the rank" "$out" "unix://.*redis [0-9]" "2 of 4 \(from Slurm\); job j"
lacks "info keeps the password" "$out$err" "cret"
run env SYMM_URL="$url" SYMM_RANK=0 SYMM_WORLD_SIZE=1 symm info --json
ends "info --json" 0
is_json "info --json is JSON" "$dir/out"
has "info --json has its parts" "$out" '"version":"' '"abi":[0-9]' '"software":"(redis|valkey) ' '"source":"SYMM_\*"'
lacks "info --json keeps the password" "$out$err" "cret"
run env SYMM_URL="unix://:other@$dir/redis" SYMM_TIMEOUT_MS=2000 symm info
ends "info with a wrong password" 1
lacks "info keeps the wrong password" "$out$err" "other"
run env SYMM_URL="redis://127.0.0.1:1" SYMM_TIMEOUT_MS=200 symm info --json
ends "info with a store that is not there" 1
is_json "info --json is JSON then too" "$dir/out"
run env SYMM_RANK=x SYMM_WORLD_SIZE=2 symm info
ends "info with a wrong rank" 1
has "info names the wrong variable" "$out" SYMM_RANK
run env SYMM_RANK=5 SYMM_WORLD_SIZE=2 symm info
ends "info with a rank beyond the world" 1
has "info tells the rank and the size" "$out" "rank +wrong: rank 5 .* size 2"
for setting in SYMM_DEVICE=nonsense SYMM_TIMEOUT_MS=abc SYMM_LEASE_MS=abc SYMM_JOB=a/b SYMM_LOG=loud; do
	run env "$setting" symm info
	ends "info with $setting" 1
	has "info tells of $setting" "$out" "wrong: .*${setting#*=}"
done
run env SYMM_DEVICE=nonsense SYMM_TIMEOUT_MS=abc SYMM_LEASE_MS=abc symm info --json
is_json "info --json of wrong settings is JSON" "$dir/out"
has "info --json tells all wrong settings" "$out" '"wrong":\["SYMM_DEVICE: [^]]*SYMM_TIMEOUT_MS=abc[^]]*SYMM_LEASE_MS=abc'
run env SYMM_DEVICE=host symm info
ends "info with a right device" 0
run symm info --device cuda
ends "info of a GPU without a driver" 1
has "info says that there is no driver" "$out" "device cuda +.*no CUDA driver.*/nowhere/libcuda.so.1"
run symm info --device cuda --json
is_json "info --json without a driver is JSON" "$dir/out"
has "info --json says that there is no driver" "$out" '"devices":\[\],"cuda":\{"error":"[^"]*/nowhere'

# ---- symm doctor ----

# findings NAME PATTERN...: the findings that are not ok, and how they are mended, match; and there is no other.
# On a machine with GPUs doctor finds that SYMM_LIBCUDA hides the driver.
driver_hidden='/^warn  *cuda  *[/]dev[/]nvidiactl is there/,+1d'
findings() {
	local name=$1 text
	shift
	text=$(sed "$driver_hidden" "$dir/out" | grep -v -e '^ok ' -e '^$' -e ' bad$')
	ok "$name" match_lines "$text" "$@"
}
match_lines() {
	match "$@" || return
	[ "$(grep -c . <<< "$1")" = $((2 * ($# - 1))) ] || { echo "not $(($# - 1)) findings, with how to mend each:"; echo "$1"; false; }
}

# doctor COMMAND...: runs symm doctor with --json, then for people; in the end all that is not ok is compared.
doctor() {
	local ended
	run "$@" --json
	ended=$status
	cat "$dir/out" >> "$dir/doctor.json"
	run "$@"
	cat "$dir/out" >> "$dir/doctor.text"
	[ "$status" = "$ended" ] || echo "$*: $status, with --json $ended" >> "$dir/doctor.ended"
}
# "HEALTH CHECK: MEND" a line. That a server is slow may be so for one of the two only.
not_ok_in_text() {
	awk 'function tell() { if (what != "") print what ": " mend; what = mend = "" }
		/^(ok|warn|bad) / { tell() }
		/^(warn|bad) / { split($0, part, "  +"); what = part[1] " " part[2] }
		sub(/^ +to mend it: */, "") { mend = $0 }
		END { tell() }' "$dir/doctor.text" | grep -v '^warn store latency'
}
not_ok_in_json() {
	grep -oE '"check":"[^"]*","health":"(warn|bad)","text":"([^"\\]|\\.)*","mend":("([^"\\]|\\.)*"|null)' "$dir/doctor.json" |
		sed -E 's/^"check":"([^"]*)","health":"([^"]*)","text":"([^"\\]|\\.)*","mend":(null|"(.*)")$/\2 \1: \5/' |
		grep -v '^warn store latency'
}

doctor symm doctor
ends "doctor" 0
has "doctor looks at the host" "$out" "ok +memfd" "ok +links" "ok +pidfd" "open files" "cpus" "no SYMM_URL"
if [ -e /dev/nvidiactl ]; then
	has "doctor: a driver that is hidden" "$out" "warn +cuda +/dev/nvidiactl is there, but: no CUDA driver"
else
	has "doctor: no driver is no fault" "$out" "ok +cuda +.*no CUDA driver.*the host device works"
fi
doctor symm doctor --device cuda
ends "doctor, asked for a GPU" 1
findings "doctor: no driver is bad then" "bad +cuda .*no CUDA driver"
run symm doctor --url "$url"
ends "doctor with a store" 0
has "doctor looks at the store" "$out" "ok +store +unix://.*(Redis|Valkey) [0-9]" "ms a round trip" "ok +store rights" \
	"ok +store clients" "ok +store memory" "ok +store clock"
lacks "doctor keeps the password" "$out$err" "cret"
is_empty "doctor leaves no key" "$(cli --scan)"
run env SYMM_URL="$url" symm doctor --json
ends "doctor --json" 0
is_json "doctor --json is JSON" "$dir/out"
has "doctor --json has its parts" "$out" '"findings":\[\{"check":"memfd","health":"ok","text":"[^"]+","mend":null\}' '"bad":0'
doctor bash -c 'ulimit -n 80; exec env SYMM_LOCAL_SIZE=9 symm doctor "$@"' limited --url "$url"
ends "doctor with too few open files" 1
has "doctor tells how many are needed" "$out" "bad +open files +80 .* 9 ranks" "to mend it: +ulimit -n 88"
run bash -c 'ulimit -l 32; ulimit -S -l 16; exec symm doctor'
has "doctor tells how much memory may be locked" "$out" "ok +locked memory +16384 bytes"
if [ "$(ulimit -H -l)" = unlimited ]; then
	run bash -c 'ulimit -S -l unlimited; exec symm doctor'
	has "doctor tells that memory may be locked without a limit" "$out" "ok +locked memory +unlimited"
else
	skip "doctor tells that memory may be locked without a limit" "there is a limit"
fi
doctor env SYMM_LOCAL_SIZE=9999 symm doctor
has "doctor with more ranks than CPUs" "$out" "warn +cpus +[0-9]+ for 9999 ranks"
doctor env SYMM_RANK=x SYMM_WORLD_SIZE=2 symm doctor
findings "doctor with a wrong rank" "bad +rank .*SYMM_RANK"
doctor env SYMM_LINK_DIR=/nowhere symm doctor
findings "doctor with no folder for links" "bad +SYMM_LINK_DIR +/nowhere: No such"
doctor env SYMM_TIMEOUT_MS=200 symm doctor --url redis://:hidden@127.0.0.1:1
ends "doctor with a store that is not there" 1
findings "doctor tells that it does not answer" "bad +store .*cannot reach"
lacks "doctor keeps its password" "$out$err" "hidden"
doctor symm doctor --url "unix://:other@$dir/redis"
findings "doctor with a wrong password" "bad +store "
doctor symm doctor --url nonsense
findings "doctor with a wrong URL" "bad +store .*none of redis://"
cli config set maxmemory 100mb maxmemory-policy allkeys-lru > /dev/null
doctor symm doctor --url "$url"
ends "doctor: a warning is no failure" 0
findings "doctor with a store that evicts" "warn +store memory +policy allkeys-lru"
cli config set maxmemory 1 maxmemory-policy noeviction > /dev/null
doctor symm doctor --url "$url"
has "doctor with a store that is full" "$out" "warn +store memory +[0-9]+ of 0 KiB used" "bad +store rights +.*OOM.*for OOM: CONFIG SET maxmemory"
cli config set maxmemory 0 > /dev/null
cli replicaof 127.0.0.1 1 > /dev/null
doctor symm doctor --url "$url"
findings "doctor with a replica" "bad +store role"
cli replicaof no one > /dev/null
cli config set maxclients 50 > /dev/null
doctor symm doctor --url "$url"
ends "doctor with few clients" 0
findings "doctor with few clients tells how many" "warn +store clients +[0-9]+ of at most 50"
doctor env SYMM_LOCAL_SIZE=51 symm doctor --url "$url"
ends "doctor with fewer clients than ranks" 1
has "doctor with fewer clients than ranks says so" "$out" "bad +store clients +[0-9]+ of at most 50"
cli config set maxclients 10000 > /dev/null

# A server that answers INFO with what is set: the name of its only key.
if redis-server --port 0 --unixsocket "$dir/told" --save "" --daemonize yes --pidfile "$dir/told.pid" --logfile "$dir/log" \
	--rename-command INFO "" --rename-command RANDOMKEY INFO > /dev/null 2>&1; then
	wait_for 10 redis-cli -s "$dir/told" ping
	pids+=("$(cat "$dir/told.pid")")
	told() {
		redis-cli -s "$dir/told" flushall > /dev/null
		printf '%s\r\n' "$@" | redis-cli -s "$dir/told" -x eval "return redis.call('SET', ARGV[1], '')" 0 > /dev/null
		doctor symm doctor --url "unix://$dir/told"
	}
	told redis_version:4.0.14 role:master
	ends "doctor with Redis 4" 1
	findings "doctor tells what Redis 4 lacks" "bad +store +.*is Redis 4.0.14, which has no streams"
	told redis_version:5.0.0 role:master
	ends "doctor with Redis 5" 0
	has "doctor tells what it is" "$out" "ok +store +.*, Redis 5.0.0" "ok +store clients +0 of at most 10000"
	told redis_version:7.2.4 valkey_version:8.1.0 redis_mode:cluster role:master
	findings "doctor with a node of a cluster" "warn +store role +it is a node of a cluster"
	has "doctor tells that it is Valkey" "$out" "ok +store +.*, Valkey 8.1.0"
else
	skip "doctor with other servers" "this one cannot rename commands"
fi

# Every command that the scripts use is tried: without the right to it, doctor names it.
scripts=$(grep -oh "redis.call *( *'[A-Z]*'" "$top_srcdir"/store/lua/*.lua | grep -o "'[A-Z]*'" | tr -d "'" | sort -u)
if cli acl setuser low on '>pw' '~symm:*' +@all > /dev/null 2>&1; then
	for name in $scripts SCAN UNLINK EVAL EVALSHA; do
		cli acl setuser low "-$name" > /dev/null
		run symm doctor --url "unix://low:pw@$dir/redis"
		findings "doctor without the right to $name" "bad +store rights .* $name"
		cli acl setuser low "+$name" > /dev/null
	done
	cli acl setuser low resetkeys '~other:*' > /dev/null
	doctor symm doctor --url "unix://low:pw@$dir/redis"
	findings "doctor without the right to the keys" "bad +store rights .*NOPERM.*to mend it: +ACL SETUSER"
	cli acl setuser low resetkeys '~symm:*' -info > /dev/null
	doctor symm doctor --url "unix://low:pw@$dir/redis"
	findings "doctor without the right to INFO" "warn +store .*does not say what it is"
	is_empty "doctor leaves no key then either" "$(cli --scan)"
else
	skip "doctor names rights that are missing" "this server has no ACLs"
fi

# ---- symm info and doctor on GPUs: the fake driver's ----

gpu() {
	run env SYMM_LIBCUDA="$fake" CUDA_MODULE_LOADING=EAGER "$@"
}
gpu_doctor() {
	doctor env SYMM_LIBCUDA="$fake" CUDA_MODULE_LOADING=EAGER "$@"
}
uuid=GPU-face0000-0000-4000-8000-00000000000 # and the index
if [ -e "$fake" ]; then
	gpu symm info
	ends "info with a driver" 0
	has "info tells of the driver" "$out" "device host" "driver cuda +CUDA [0-9]+\.[0-9].*, 2 devices"
	lacks "info tells no more of it" "$out" "cuda:0"
	gpu SYMM_FAKE_FABRIC=lies symm info --device cuda
	ends "info of GPUs" 0
	has "info tells of each" "$out" "device cuda:0 .*sm_90" "device cuda:1" "[0-9]+ MiB free" "fd +claimed, works" \
		"identity +${uuid}0, at 0000:10:00.0, compute mode default, ECC on" \
		"fabric +claimed, does not work: cuMemCreate: .*NOT_PERMITTED" "multicast +.*off: SYMM_MULTICAST" \
		"peer +cuda:1 NVLink, native atomics, performance rank 0"
	lacks "info of GPUs tells nothing of the host" "$out" "device host"
	gpu SYMM_MULTICAST=1 SYMM_FAKE_MULTICAST=1 SYMM_FAKE_FABRIC=1 NVSHMEM_DISABLE_NVLS=1 symm info --device cuda:1 --json
	ends "info of a GPU, --json" 0
	is_json "info --device --json is JSON" "$dir/out"
	has "info of a GPU, --json, has its parts" "$out" '"devices":\[\{"device":"cuda:1"' '"fabric":\{"claimed":true,"works":true' \
		'"multicast":\{"claimed":true,"off":"(NCCL_NVLS_ENABLE=0|NVSHMEM_DISABLE_NVLS=1)"' '"uuid":"'$uuid'1","pci":"0000:11:00.0"' \
		'"peers":\[\{"device":"cuda:0","error":null,"access":true,"link":"NVLink","native_atomics":true,"performance_rank":0\}\]'
	gpu symm info --device cuda:2
	ends "info of a GPU that is not there" 1
	has "info tells how many there are" "$out" "no cuda:2: this host has 2 devices"
	gpu SYMM_FAKE_FAIL='cuDevicePrimaryCtxRetain:2=46' symm info --device cuda
	has "info of a GPU in exclusive use tells what it can" "$out" "device cuda:1 " "context +cuDevicePrimaryCtxRetain: .*exclusive"
	gpu SYMM_FAKE_FAIL='cuDeviceGetP2PAttribute:*=1' symm info --device cuda:0
	has "info of GPUs that PCIe joins" "$out" "peer +cuda:1 PCIe, no native atomics"
	gpu SYMM_FAKE_FAIL='cuDeviceGetP2PAttribute:*=1' symm info --device cuda:0 --json
	has "info of GPUs that PCIe joins, --json" "$out" '"link":"PCIe","native_atomics":false'
	gpu SYMM_FAKE_NO_PEER=0-1 symm info --device cuda:0
	has "info of GPUs that nothing joins" "$out" "peer +cuda:1 no access"
	gpu SYMM_FAKE_NO_PEER=0-1 symm info --device cuda:0 --json
	has "info of GPUs that nothing joins, --json" "$out" '"access":false,"link":"none","native_atomics":false'
	gpu SYMM_FAKE_FAIL='cuDeviceCanAccessPeer:*=999' symm info --device cuda:0
	has "info tells that a path cannot be asked for" "$out" "peer +cuda:1 the path from device 0 to 1: .*UNKNOWN"
	gpu SYMM_FAKE_FAIL='cuDeviceCanAccessPeer:*=999' symm info --device cuda:0 --json
	has "info --json too" "$out" '"peers":\[\{"device":"cuda:1","error":"the path from device 0 to 1: [^"]*UNKNOWN[^"]*"\}\]'

	gpu_doctor symm doctor
	ends "doctor on GPUs" 0
	has "doctor looks at GPUs" "$out" "ok +cuda +driver for CUDA .* 2 devices" \
		"ok +cuda:0 +Fake GPU, sm_90, 8192 MiB, ${uuid}0, at 0000:10:00.0"$'\n' "ok +cuda:1 .*${uuid}1, at 0000:11:00.0"$'\n' \
		"ok +cuda:1 +memory is shared by file descriptor"$'\n' "ok +cuda:1 +no fabric handles, which only groups of several hosts" \
		"ok +peers +1 pair over NVLink \(native atomics\), 0 over PCIe" "ok +multicast +off: SYMM_MULTICAST" "ok +hardware queues"
	gpu_doctor CUDA_MODULE_LOADING=LAZY CUDA_DEVICE_MAX_CONNECTIONS=8 symm doctor
	has "doctor tells of settings" "$out" "warn +module loading +CUDA_MODULE_LOADING is LAZY" \
		"warn +hardware queues +CUDA_DEVICE_MAX_CONNECTIONS=8:"
	gpu_doctor SYMM_FAKE_DEVICES=3 SYMM_FAKE_NO_PEER=0-1 symm doctor
	ends "doctor on GPUs that do not reach each other" 0
	has "doctor names the pair" "$out" "warn +cuda:0, cuda:1 +no peer path" "2 pairs over NVLink \(native atomics\), 0 over PCIe"
	gpu_doctor SYMM_FAKE_DEVICES=3 SYMM_FAKE_FAIL='cuDeviceGetP2PAttribute:1=1' symm doctor
	has "doctor counts pairs by what joins them" "$out" "ok +peers +2 pairs over NVLink \(native atomics\), 1 over PCIe"

	# What is wrong with a GPU is bad if it is asked for.
	while read -r setting asked wanted finding; do
		gpu_doctor "$setting" SYMM_DEVICE="$asked" symm doctor
		ends "doctor with $setting, asked for $asked" "$wanted"
		has "doctor with $setting, asked for $asked, tells it" "$out" "$finding"
	done <<- 'END'
		SYMM_FAKE_FAIL=cuMemExportToShareableHandle:*=801 cuda 1 bad +cuda:0 +memory cannot be shared .*cuMemExportToShareableHandle
		SYMM_FAKE_FAIL=cuMemExportToShareableHandle:2=801 cuda:0 0 warn +cuda:1 +memory cannot be shared
		SYMM_FAKE_FAIL=cuDevicePrimaryCtxRetain:2=46 host 0 warn +cuda:1 +cuDevicePrimaryCtxRetain: .*exclusive
		SYMM_FAKE_FAIL=cuDevicePrimaryCtxRetain:2=46 cuda 1 bad +cuda:1 +cuDevicePrimaryCtxRetain:
		SYMM_FAKE_FAIL=cuDevicePrimaryCtxRetain:2=46 cuda:0 0 warn +cuda:1 +cuDevicePrimaryCtxRetain:
		SYMM_FAKE_FAIL=cuDevicePrimaryCtxRetain:2=46 cuda:1 1 bad +cuda:1 +cuDevicePrimaryCtxRetain:
		SYMM_FAKE_FAIL=cuDeviceGetUuid:2=999 cuda:0 0 warn +cuda:1 +cuDeviceGetUuid of device 1
		SYMM_FAKE_FAIL=cuDeviceGetUuid:2=999 cuda 1 bad +cuda:1 +cuDeviceGetUuid of device 1
		SYMM_FAKE_FAIL=cuDeviceCanAccessPeer:*=999 cuda:0 0 warn +cuda:0, cuda:1 +the path from device 0 to 1
		SYMM_FAKE_FAIL=cuDeviceCanAccessPeer:*=999 cuda 1 bad +cuda:0, cuda:1 +the path from device 0 to 1
		SYMM_FAKE_CC=7.5 host 0 warn +cuda:1 .*no kernels for compute capability 7.5
		SYMM_FAKE_CC=7.5 cuda:1 1 warn +cuda:0 .*no kernels.*bad +cuda:1 .*no kernels for compute capability 7.5
		SYMM_FAKE_ATTRIBUTES=20=2 cuda:1 1 warn +cuda:0 +its compute mode is PROHIBITED.*bad +cuda:1 +its compute mode is PROHIBITED
		SYMM_FAKE_ATTRIBUTES=20=3 cuda 0 warn +cuda:1 +its compute mode is EXCLUSIVE_PROCESS
		SYMM_FAKE_ATTRIBUTES=102=0 cuda:1 1 warn +cuda:0 +it has no virtual memory.*bad +cuda:1 +it has no virtual memory
		SYMM_FAKE_ATTRIBUTES=32=0 cuda 0 ok +cuda:0 .*, ECC off
	END
	gpu_doctor SYMM_LOCAL_SIZE=2 SYMM_RANK=0 SYMM_WORLD_SIZE=4 symm doctor --device cuda
	ends "doctor of ranks on several hosts" 0
	has "doctor tells how hosts share memory" "$out" "warn +cuda:0 +no fabric handles, .*other hosts" "to mend it: .*NVLink domain.*nvidia-imex"
	gpu_doctor SYMM_LOCAL_SIZE=4 SYMM_RANK=0 SYMM_WORLD_SIZE=4 SYMM_SHARE_DEVICE=1 symm doctor --device cuda
	has "doctor of ranks on one host" "$out" "ok +cuda:0 +no fabric handles, which only groups of several hosts need"
	gpu_doctor SYMM_LOCAL_SIZE=2 SYMM_RANK=0 SYMM_WORLD_SIZE=4 SYMM_FAKE_FABRIC=1 symm doctor --device cuda
	has "doctor of ranks on several hosts with a fabric" "$out" "ok +cuda:1 +memory is shared by fabric handle"

	# As built without nvcc: the kernels begin otherwise.
	symm=$(command -v symm)
	LC_ALL=C sed 's/\x50\xed\x55\xba\x01\x00\x10\x00/NOKERNEL/' "$symm" > "$dir/bare" && chmod +x "$dir/bare"
	if cmp -s "$symm" "$dir/bare"; then
		skip "doctor tells that there are kernels" "this build has none"
	else
		gpu_doctor symm doctor --device cuda
		has "doctor tells that there are kernels" "$out" "ok +kernels +in this build"
	fi
	gpu_doctor "$dir/bare" doctor
	ends "doctor without kernels that nobody asks for" 0
	gpu_doctor "$dir/bare" doctor --device cuda:0
	ends "doctor without kernels" 1
	has "doctor tells that there are none" "$out" "bad +kernels +this build of symm has none"
	gpu_doctor SYMM_LOCAL_SIZE=4 symm doctor --device cuda
	ends "doctor of more ranks than GPUs" 1
	has "doctor tells how they may share" "$out" "bad +ranks +4 on this host, and 2 devices" "to mend it: .*--share-device"
	gpu_doctor SYMM_LOCAL_SIZE=4 SYMM_SHARE_DEVICE=1 symm doctor --device cuda
	ends "doctor of ranks that share GPUs" 0
	has "doctor tells that they take turns" "$out" "warn +ranks +4 share 2 devices"
	gpu_doctor SYMM_SHARE_DEVICE=yes symm doctor --device cuda
	ends "doctor with SYMM_SHARE_DEVICE=yes" 1
	gpu_doctor symm doctor --device cuda:2
	ends "doctor, asked for a GPU that is not there" 1
	has "doctor tells how many there are" "$out" "bad +device +there is no cuda:2 among 2"
	for setting in SYMM_FAKE_DEVICES=0 SYMM_FAKE_STUB=1 SYMM_FAKE_DRIVER_VERSION=11000; do
		gpu_doctor "$setting" symm doctor
		ends "doctor with $setting" 0
		has "doctor with $setting: the host works" "$out" "cuda .*the host device works|warn +cuda"
		gpu_doctor "$setting" symm doctor --device cuda
		ends "doctor with $setting, asked for a GPU" 1
	done
else
	skip "info and doctor on GPUs" "no fake driver in $fake"
fi

is "doctor --json says of all that was not ok the same" "$(not_ok_in_json)" "$(not_ok_in_text)"
is_empty "doctor says of each how to mend it" "$(not_ok_in_text | grep ': $')"
is_empty "doctor --json ends alike" "$(cat "$dir/doctor.ended" 2> /dev/null)"
ok "there was enough to mend" test "$(not_ok_in_text | sort -u | wc -l)" -ge 10

# ---- symm bench ----

ops=(barrier barrier_stream signal signal_stream alloc rendezvous rendezvous_cached pool pool_full pool_check
	memcpy put get put_stream get_stream put_with_signal)
[ "$device" = host ] || ops+=(barrier_graph signal_graph access)
export SYMM_LIBCUDA=$driver SYMM_DEVICE=$device SYMM_SHARE_DEVICE=1

run symm bench
ends "bench without a store" 1
has "bench without a store says what to do" "$err" "symm: bench: .*SYMM_URL"
run symmrun -n 4 symm bench --json --iters 3 --bytes 64K,12345,3
ends "bench, 4 ranks" 0
is_json "bench --json is JSON" "$dir/out"
for op in "${ops[@]}"; do
	has "bench measures $op" "$out" \
		"\"op\":\"$op\",\"device\":\"$device\",\"ranks\":4,\"bytes\":[0-9]+,\"p50_us\":[0-9.e+-]+,\"p99_us\":[0-9.e+-]+,\"gbps\":[0-9.e+-]+,\"errors\":0,"
done
is_empty "bench says nothing else" "$err"
ok "bench: a line for each operation and size" test "$(wc -l < "$dir/out")" = $((${#ops[@]} + 2 * 6))
run env SYMM_URL="$url" symm bench --iters 3 --runs 3 --bytes 1M
ends "bench, alone" 0
has "bench prints a table" "$out" "1 rank" "operation" "signal round trip" "put +1 MiB" "errors 0"
run symmrun -n 2 symm bench --iters 3 --op rendezvous,alloc --block 3M --json
has "bench: the size of the block" "$out" '"op":"alloc",[^}]*"bytes":3145728,' '"op":"rendezvous",[^}]*"bytes":3145728,'
run symmrun -n 3 symm bench --iters 3 --op signal,barrier --channel 31 --json
ends "bench, 3 ranks, the last channel" 0
ok "bench: the asked operations only" test "$(wc -l < "$dir/out")" = 2
run symmrun -n 2 symm bench --device nonsense
ends "bench on a device that is none" 1
has "bench names the device" "$err" nonsense
export SYMM_DEVICE=host
run symmrun -n 2 symm bench --bytes 64K,1000000G --op put
ends "bench of more than there is memory" 1
has "bench tells how much it would take and how much there is" "$err" "2 ranks here, 6000000\.0 GiB in all, and [0-9.]+ GiB are"
run env SYMM_URL="$url" SYMM_LOCAL_SIZE=3 SYMM_RANK=0 SYMM_WORLD_SIZE=9 symm bench --bytes 17179869183G --op get
ends "bench of more than can be counted" 1
has "bench counts the ranks of this host" "$err" "the 3 ranks here"
run symmrun -n 2 symm bench --bytes 1000000G --op signal --iters 3
ends "bench without copies needs no memory for them" 0

cat > wrong.c <<- 'END'
	#include <stdlib.h>
	#include <string.h>
	void *memmove(void *to, const void *from, size_t n)
	{
		const char *rank = getenv("SYMM_RANK");
		memcpy(to, from, n);
		if (n == 65536 && rank != NULL && *rank == '1')
			((char *)to)[40000] ^= 1;
		return to;
	}
END
if ${CC:-cc} -shared -fPIC -fno-builtin -O1 -o wrong.so wrong.c 2> /dev/null && ! grep -q '__[at]san_init' "$(command -v symm)"; then
	run symmrun -n 2 env LD_PRELOAD="$dir/wrong.so" symm bench --json --iters 3 --op put,get --bytes 64K
	ends "bench: one bit that rank 1 copies wrong is a failure" 1
	has "bench: rank 0 is told of it" "$out" '"op":"put"[^}]*"errors":[1-9]' '"op":"get"[^}]*"errors":[1-9]'
else
	skip "bench: cannot put a wrong memmove in its place"
	skip "bench: nor see what rank 0 says of it"
fi

# ---- symm group ----

export SYMM_URL="$url" SYMM_LEASE_MS=2000
run symm group list
ends "list of an empty store" 0
run symm group show world
ends "show of no group" 1
has "show of no group says so" "$err" "no group 'world'"
lacks "show keeps the password" "$out$err" "cret"

# One of two ranks: the group stays in forming. Another job has a whole one of the same name.
SYMM_JOB=half SYMM_RANK=0 SYMM_WORLD_SIZE=2 symm bench > /dev/null 2>&1 &
half=$!
pids+=("$half")
for rank in 0 1; do
	SYMM_JOB=whole SYMM_RANK=$rank SYMM_WORLD_SIZE=2 symm bench --op barrier --iters 1000000 > /dev/null 2>&1 &
	pids+=($!)
done
wait_for 10 eval 'symm group list | grep whole.*sealed && symm group list | grep half'
run symm group list
ends "list" 0
has "list shows both" "$out" "members +alive" "half +bench +1 +forming +1/2 +1/2" "whole +bench +1 +sealed +2/2 +2/2"
run symm group list --json --job whole
ends "list --json --job" 0
is_json "list --json is JSON" "$dir/out"
ok "list --job shows that job only" test "$(wc -l < "$dir/out")" = 1
has "list --json counts who is alive" "$out" '"members":2,"alive":2,"world":2'
cli set 'symm:{garbage/world}:group' x > /dev/null
run symm group list
ends "list with a damaged group" 1
has "list shows the others all the same" "$out" "half +bench" "whole +bench"
has "list tells how to be rid of it" "$err" "rm --force --job garbage world" "1 of 3 groups"
run symm group show world
ends "show of a damaged group" 1
has "show tells how to be rid of it" "$err" "rm --force --job garbage world"
run symm group rm world
ends "rm of a damaged group" 1
run symm group rm --force --job garbage world
ends "rm --force of a damaged group" 0
run symm group list
ends "list without it" 0
run symm group show bench
ends "show of two groups" 1
has "show of two groups asks which" "$err" "half" "whole" "--job"
run symm group show --job half bench
ends "show" 0
has "show tells who is there and who is not" "$out" "forming" "0 .* $half .* left +join of group bench" "not here: rank 1"
# An arrival as a rank would write it, at a rendezvous that the other rank has not come to.
nonce=$(cli hget 'symm:{half/bench}:group' nonce)
cli hset "symm:{half/bench}:$nonce:arrived:3" 0 "0123 size=1" > /dev/null
run symm group show --job half bench
has "show tells who has come to a rendezvous and who has not" "$out" "rendezvous 3: 1 of 2 arrived, not rank 1; 0 voted; verdict none"
run symm group show --job half bench --json
has "show --json too" "$out" '"seq":3,"arrived":\[0\],"not_arrived":\[1\],"voted":\[\],"verdict":"none"'
# In a complete group, which that rank is not to see.
kill -STOP "$half"
cli hset 'symm:{half/bench}:group' state sealed > /dev/null
run symm group show --job half bench
has "show tells of a rank that is in no call" "$out" "0 .* $half .* left +in no call of symm"
cli hset 'symm:{half/bench}:group' state forming > /dev/null
kill -CONT "$half"
run symm group show --job whole bench --json
ends "show --json" 0
is_json "show --json is JSON" "$dir/out"
has "show --json has its parts" "$out" '"state":"sealed"' '"world":2' '"members":\[\{"rank":0' '"pid":[0-9]+' '"lease_ms":[0-9]+' \
	'"rendezvous":\['
run symm group rm --job half bench
ends "rm of a group in use" 1
has "rm of a group in use says by whom" "$err" "rank 0" "pid $half" "--force"
kill -9 "$half"
wait "$half" 2> /dev/null
ok "list tells that none is alive" wait_for 10 eval 'symm group list | grep -E "half .* 1/2 +0/2"'
wait_for 10 symm group rm --job half bench
is_empty "rm once the lease has ended leaves nothing" "$(cli --scan --pattern '*half*')"
run symm group rm --json --force --job whole bench
ends "rm --force" 0
has "rm --json counts the keys" "$out" '"deleted":[1-9]'
run env SYMM_TIMEOUT_MS=200 symm group list --url "redis://:hidden@127.0.0.1:1"
ends "list of a store that is not there" 1
lacks "list keeps the password" "$out$err" "hidden"

done_testing
