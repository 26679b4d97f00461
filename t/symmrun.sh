#!/usr/bin/env bash
# What symmrun promises, with small shell programs as ranks: they need no library.
# shellcheck disable=SC2016 # the ranks expand these
# shellcheck disable=SC2317 # ok and eventually call some functions

shopt -s extglob
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=t/tap/tap.sh
. "$here/tap/tap.sh"

for tool in redis-server redis-cli setsid setpriv getopt; do
	type -P "$tool" >/dev/null || skip_all "no $tool"
done
unset SYMM_URL SYMM_JOB SYMM_DEVICE CUDA_DEVICE_MAX_CONNECTIONS
symmrun=$(cd "$here/.." && pwd)/scripts/symmrun
work=$(mktemp -d "${TMPDIR:-/tmp}/t.XXXXXX") || exit 1
# a subshell that is told to end while it is being forked still has this trap
trap '((BASHPID != $$)) || rm -rf "$work"' EXIT
mkdir "$work/tmp"
export TMPDIR=$work/tmp
url=redis://nowhere.invalid # for tests that need no server
cd "$work" || exit 1

# run ARGUMENT...: sets $out, $err and $status
run() {
	"$symmrun" "$@" >out 2>err
	status=$?
	out=$(<out) err=$(<err)
}

# start ARGUMENT...: in the background, as a terminal would start it; sets $job
start() {
	rm -f ready.* log
	env --default-signal=INT,QUIT "$symmrun" "$@" >out 2>err &
	job=$!
}

# finish: waits for $job; sets $out, $err and $status
finish() {
	wait "$job" 2>/dev/null
	status=$?
	out=$(<out) err=$(<err)
}

# ready N: N ranks have written their pids
ready() {
	local files=(ready.*)
	[[ -s ${files[0]} ]] && ((${#files[@]} == $1))
}

nothing_left() {
	local files=("$TMPDIR"/*)
	[[ ! -e ${files[0]} ]]
}

gone() { # PID...: they have ended, reaped or not
	local pid state
	for pid; do
		state=$(sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat" 2>/dev/null)
		[[ ! $state || $state == Z ]] || return
	done
}

without_pid() {
	printf '%s(pid P)%s' "${1%%(pid*}" "${1#*"(pid "+([0-9])")"}"
}

test_environment() {
	local show='echo $SYMM_RANK/$SYMM_WORLD_SIZE $SYMM_LOCAL_RANK/$SYMM_LOCAL_SIZE \
		${SYMM_DEVICE-none} $SYMM_JOB $SYMM_URL'
	run -n 3 --url "$url" --job a.b sh -c "$show \$CUDA_DEVICE_MAX_CONNECTIONS"
	is 'the environment of three ranks' "$status $(sort out)" "0 0/3 0/3 none a.b $url 32
1/3 1/3 none a.b $url 32
2/3 2/3 none a.b $url 32"
	is 'a job that succeeds says nothing' "$err" ''
	run --np=2 --url="$url" --job=j --nnodes=3 --node-rank=2 --device cuda:1 -- sh -c "$show"
	is 'the last of three hosts' "$(sort out)" "4/6 0/2 cuda:1 j $url
5/6 1/2 cuda:1 j $url"
	run -n 1 --url "$url" --device cuda --share-device sh -c 'echo $SYMM_DEVICE $SYMM_SHARE_DEVICE'
	is 'a device to share' "$out" 'cuda 1'
	SYMM_URL=$url SYMM_JOB=env CUDA_DEVICE_MAX_CONNECTIONS=8 run -n 1 sh -c "$show \$CUDA_DEVICE_MAX_CONNECTIONS"
	is 'URL, job and connections from the environment' "$out" "0/1 0/1 none env $url 8"
	run -n 1 --url "$url" sh -c 'echo $SYMM_JOB' && local first=$out
	run -n 1 --url "$url" sh -c 'echo $SYMM_JOB'
	ok 'a random name for each job' test "$first" != "$out"
	run -n 2 --url "$url" printf '<%s>' 'a  b' '' '$HOME' "it's" -n
	is 'arguments arrive as they are' "$out" "<a  b><><\$HOME><it's><-n><a  b><><\$HOME><it's><-n>"
	is 'rank 0 alone reads standard input' "$(echo typed | "$symmrun" -n 3 --url "$url" cat)" typed
	show='grep SigIgn /proc/self/status; cd /proc/$$/fd; echo *'
	run -n 2 --url "$url" --tag sh -c "$show"
	is 'ranks ignore no signal and inherit no descriptor' "$(sed 's/^\[.\] //' out | sort -u)" \
		"$(env --default-signal=INT,QUIT sh -c "$show" | sort)"
	run -n 33 --url "$url" sh -c 'echo $SYMM_RANK'
	is '33 ranks' "$status $(sort -n out | tr '\n' ' ')" "0 $(seq 0 32 | tr '\n' ' ')"
}

test_tag() {
	run -n 2 --url "$url" --tag sh -c 'echo one; echo two >&2; printf end'
	is 'tags on standard output, and an end to the last line' "$(sort out)" $'[0] end\n[0] one\n[1] end\n[1] one'
	is 'tags on standard error' "$(sort err)" $'[0] two\n[1] two'
	"$symmrun" -n 4 --url "$url" --tag sh -c '
		line=$(printf "%20000s" | tr " " "$SYMM_RANK")
		for i in 1 2 3 4 5; do echo "$line"; echo "$line" >&2; done' 2>&1 | cat >all
	is 'long lines stay whole in a pipe' "$(wc -c <all) $(tr -s 0-3 <all | sort | uniq -c | tr -s ' \n' ' ')" \
		"$((40 * 20005))  10 [0] 0 10 [1] 1 10 [2] 2 10 [3] 3 "
	"$symmrun" -n 1 --url "$url" --tag echo lost >/dev/full 2>err
	is 'what cannot be written is told' "$? $(<err)" '1 symmrun: what rank 0 wrote could not be written'
	"$symmrun" -n 1 --url "$url" --tag yes >/dev/full 2>err
	is 'nor is a rank blamed alone that dies of it' "$? $(without_pid "$(<err)")" \
		'141 symmrun: rank 0 (pid P) was killed by signal 13 (PIPE); what rank 0 wrote could not be written'
	"$symmrun" -n 2 --url "$url" --tag sh -c 'echo lost >&2' 2>/dev/full
	is 'nor on standard error is all well then' $? 1
	ok 'a reader that goes away hangs nothing' eval \
		'timeout 10 "$symmrun" -n 3 --url "$url" --tag yes 2>/dev/null | head -n 1 | grep -q "^\[[0-2]\] y$"'
}

test_failure() {
	run -n 4 --url "$url" sh -c '[ $SYMM_RANK = 2 ] && exit 3; exec sleep 30'
	is 'a rank that fails' "$status $(without_pid "$err")" \
		'3 symmrun: rank 2 (pid P) exited with status 3; ended 3 others'
	run -n 2 --url "$url" sh -c '[ $SYMM_RANK = 0 ] && kill -9 $$; exec sleep 30'
	is 'a rank that is killed' "$status $(without_pid "$err")" \
		'137 symmrun: rank 0 (pid P) was killed by signal 9 (KILL) (out of memory? see dmesg); ended 1 other'
	test_culprit
	run -n 1 --url "$url" false
	is 'the only rank fails' "$status $(without_pid "$err")" '1 symmrun: rank 0 (pid P) exited with status 1'
	run -n 3 --url "$url" --grace 0.3 sh -c 'cd "$0"
		until [ $SYMM_RANK != 1 ]; do [ -e deaf.0 ] && [ -e deaf.2 ] && exit 5; sleep 0.05; done
		trap "" TERM; : >deaf.$SYMM_RANK; sleep 30; :' "$work"
	is 'ranks that ignore TERM are killed' "$status $(without_pid "$err")" \
		'5 symmrun: rank 1 (pid P) exited with status 5; ended 2 others
symmrun: killed after the grace time: rank 0 2'
	run -n 1 --url "$url" --grace 0.2 sh -c 'sleep 30 & echo $!'
	ok 'what a rank leaves in its process group is ended' gone "$out"
	is '... which is no failure' "$status" 0
}

# Both have ended while symmrun was stopped; it asks for them in the order of their pids.
test_culprit() {
	local killed
	for killed in 0 2; do
		start -n 3 --url "$url" sh -c 'echo $$ >ready.$SYMM_RANK; [ $SYMM_RANK = 1 ] || exec sleep 30
			while [ ! -e fail ]; do sleep 0.02; done; exit 1'
		eventually 10 ready 3
		kill -s STOP "$job"
		touch fail
		eventually 10 gone "$(<ready.1)"
		kill -s KILL "$(<ready.$killed)"
		eventually 10 gone "$(<ready.$killed)"
		kill -s CONT "$job"
		finish
		rm fail
		is "rank $killed was killed, rank 1 failed of it" "$status $(without_pid "$err")" "137 symmrun: rank $killed \
(pid P) was killed by signal 9 (KILL) (out of memory? see dmesg); ended 1 other"
	done
}

test_signals() {
	local name number
	for name in INT:2 TERM:15 QUIT:3; do
		number=${name#*:} name=${name%:*}
		start -n 3 --url "$url" sh -c "trap 'echo $name >>log; exit 0' $name"'
			exec 2>/dev/null
			echo $$ >ready.$SYMM_RANK; while :; do sleep 0.05; done'
		eventually 10 ready 3
		kill -s "$name" "$job"
		finish
		is "SIG$name reaches each rank once" "$status $(tr '\n' ' ' <log)" \
		"$((128 + number)) $name $name $name "
		is '... and ends the job' "$err" "symmrun: got signal $number ($name); ended 3 ranks"
	done
	start -n 2 --url "$url" sh -c 'trap "echo 1 >>log" USR1; trap "echo 2 >>log" USR2; trap "exit 0" HUP
		exec 2>/dev/null
		echo $$ >ready.$SYMM_RANK; while :; do sleep 0.05; done'
	eventually 10 ready 2
	kill -s USR1 "$job"
	eventually 10 grep -qs '1' log
	kill -s USR2 "$job"
	eventually 10 grep -qs '2' log
	sleep 0.2
	kill -s HUP "$job"
	finish
	is 'USR1, USR2 and HUP are forwarded and end nothing' "$status $(sort log | tr '\n' ' ')$err" '0 1 1 2 2 '
	start -n 2 --url "$url" --grace 0.3 sh -c 'trap "" INT; echo $$ >ready.$SYMM_RANK; sleep 30; :'
	eventually 10 ready 2
	kill -s INT "$job"
	finish
	is 'ranks that ignore INT are killed' "$status $err" '130 symmrun: got signal 2 (INT); ended 2 ranks
symmrun: killed after the grace time: rank 0 1'
	start -n 40 --url "$url" sh -c 'echo $$ >ready.$SYMM_RANK; exec sleep 30'
	eventually 10 test -e ready.0
	kill -s TERM "$job"
	finish
	ok 'a signal during the start is not lost' test "$status" = 143
	test_terminal
}

test_terminal() {
	type -P script >/dev/null || { skip 'Ctrl-C at a terminal' 'no script' && return; }
	rm -f ready.* log
	cat >ctrl-c <<-END
		exec env --default-signal=INT "$symmrun" -n 2 --url "$url" sh -c 'trap "echo got >>log; sleep 0.2; exit 0" INT
			echo \$\$ >ready.\$SYMM_RANK; while :; do sleep 0.05; done'
	END
	{ eventually 10 ready 2 && printf '\003' && sleep 1; } | script -qec 'bash ctrl-c' /dev/null >/dev/null
	is 'Ctrl-C at a terminal reaches each rank once' "$? $(tr '\n' ' ' <log)" '130 got got '
}

test_timeout() {
	run -n 2 --url "$url" --timeout .3 sleep 30
	is 'the timeout' "$status $err" '124 symmrun: the job was not done in time; ended 2 ranks'
	run -n 2 --url "$url" --timeout 1 --grace 0.2 sh -c 'trap "" TERM; sleep 30; :'
	is 'the timeout, ignored' "$status $err" '124 symmrun: the job was not done in time; ended 2 ranks
symmrun: killed after the grace time: rank 0 1'
	run -n 2 --url "$url" --timeout 20 true
	is 'a job that is done in time' "$status" 0
}

test_server() {
	local ask='redis-cli -s "${SYMM_URL#unix://}"'
	run -n 3 sh -c "$ask incr n >/dev/null; $ask config get port | tail -n 1
		stat -c %a \"\$(dirname \"\${SYMM_URL#unix://}\")\""
	is 'a private server, in a folder of mode 700, without a port' "$status $(sort out | tr '\n' ' ')$err" \
		'0 0 0 0 700 700 700 '
	ok '... is removed after success' nothing_left
	run -n 2 sh -c "$ask info server | tr -d '\r' | sed -n 's/^process_id://p'; exit 4"
	ok '... is removed after a failure' eval "nothing_left && gone $(head -n 1 out)"
	start -n 2 sh -c 'echo $$ >ready.$SYMM_RANK; exec sleep 30'
	eventually 10 ready 2
	kill -s INT "$job"
	finish
	ok '... is removed after INT' eval "test $status = 130 && nothing_left"
	mkdir "$work/a %é"
	TMPDIR="$work/a %é" run -n 1 sh -c 'echo "${SYMM_URL#"unix://$PWD/"}"'
	has 'its path is escaped in the URL' "$out" 'a%20%25%C3%A9/symmrun.'
	mkdir "$work/near"
	TMPDIR=near run -n 1 sh -c 'echo "${SYMM_URL#"unix://$PWD/"}"'
	has 'its path is absolute' "$out" near/symmrun.
	out=$(ulimit -n 64 && "$symmrun" -n 33 true 2>&1)
	is 'ranks for whom its limit of files is too low are too many' "$? $out" "1 symmrun: ulimit -Hn 64: a private \
redis-server would take 32 ranks, not 33: raise the limit, or name a server by --url or SYMM_URL"
	local show='echo ${SYMM_REDIS_PASSWORD-none} ${SYMM_REDIS_PASSWORD_FILE-none}'
	SYMM_REDIS_PASSWORD=p SYMM_REDIS_PASSWORD_FILE=f run -n 1 sh -c "$show"
	is 'its ranks are given no password' "$out" 'none none'
	SYMM_REDIS_PASSWORD=p SYMM_REDIS_PASSWORD_FILE=f run -n 1 --url "$url" sh -c "$show"
	is '... those of another server are' "$out" 'p f'
	run -n 2 sh -c "[ \$SYMM_RANK = 0 ] || exec sleep 0.5; $ask shutdown nosave; exit 0"
	is 'its death is told' "$status $err" '0 symmrun: the private redis-server has ended; what needs it will fail'
	mkdir "$work/bin"
	for tool in bash getopt env setsid setpriv readlink sh; do
		ln -s "$(type -P "$tool")" "$work/bin/$tool"
	done
	PATH=$work/bin run -n 1 sh -c true
	is 'no redis-server in PATH' "$status" 1
	has '... names the package' "$err" 'install the package redis-server'
}

test_kill() {
	start -n 3 --timeout 100 --tag sh -c 'redis-cli -s "${SYMM_URL#unix://}" info server |
		tr -d "\r" | sed -n "s/^process_id://p" >ready.$SYMM_RANK; echo $$ >>ready.$SYMM_RANK; exec sleep 30'
	eventually 10 eval 'ready 3 && [[ $(wc -l <ready.0) == 2 && $(wc -l <ready.1) == 2 && $(wc -l <ready.2) == 2 ]]'
	kill -s KILL "$job"
	finish
	# shellcheck disable=SC2046
	ok 'SIGKILL of symmrun takes ranks and server with it' eventually 5 gone $(cat ready.*)
	ok '... and leaves a folder' eval '! nothing_left'
	run -n 1 --verbose --url "$url" true
	has '... that the next run sweeps' "$err" 'left by an earlier run'
	ok '... and no other' nothing_left
	run -n 2 --verbose --job j --nnodes 2 --node-rank 1 --url 'redis://ann:p@ss@h:1/0?key=k' true
	is '--verbose keeps the password to itself' "${err%%$'\n'*}" \
		'symmrun: job j, ranks 2 to 3 of 4, store redis://h:1/0'
	start -n 1 sh -c 'echo $$ >ready.$SYMM_RANK; exec sleep 30'
	eventually 10 ready 1
	run -n 1 true
	ok 'the folder of a living symmrun stays' eval '! nothing_left'
	kill -s TERM "$job"
	finish
}

# Usage errors: what is told; the arguments.
test_usage() {
	local row
	while IFS='|' read -r row arguments; do
		# shellcheck disable=SC2086
		run $arguments
		is "usage: $arguments" "$status ${err%%$'\n'*}" "2 symmrun: $row"
	done <<-END
		how many ranks? -n N is missing|true
		which program? PROGRAM is missing|-n 2
		-n wants a number from 1 to 1024, not '0'|-n 0 true
		--np wants a number from 1 to 1024, not '1025'|--np 1025 true
		-n wants a number from 1 to 1024, not 'x'|-n x true
		unrecognized option '--what'|--what -n 2 true
		option '--url' requires an argument|-n 2 --url
		--nnodes 2 needs --node-rank|-n 2 --nnodes 2 true
		--nnodes 2 needs a Redis that every host reaches: --url or SYMM_URL|-n 2 --nnodes 2 --node-rank 0 true
		--nnodes 2 needs a name that every host gives: --job or SYMM_JOB|-n 2 --nnodes 2 --node-rank 0 --url $url true
		--node-rank 2 is not below --nnodes 2|-n 2 --nnodes 2 --node-rank 2 --url $url --job j true
		--device wants host, cuda or cuda:INDEX, not 'gpu'|-n 2 --device gpu true
		--timeout wants seconds, not '5m'|-n 2 --timeout 5m true
		--timeout wants seconds, not '.'|-n 2 --timeout . true
		--timeout wants more than 0 seconds|-n 2 --timeout 0 true
		a job's name has 1 to 64 of A-Z a-z 0-9 . _ : -, not 'a}b'|-n 2 --job a}b true
		the URL must begin with redis://, rediss:// or unix://|-n 2 --url http://x true
	END
	has 'where to look for more' "$err" "Try 'symmrun --help'"
	for row in -h --help; do
		run $row
		has "$row" "$status $out" '0 Usage: symmrun -n N'
	done
	for row in -V --version; do
		run $row
		has "$row" "$status $out" "0 symmrun (symm) ${SYMM_TEST_VERSION-}"
	done
}

test_program() {
	run -n 2 no-such-program
	is 'no such program' "$status $err" '127 symmrun: there is no program no-such-program'
	run -n 2 ./no-such-program
	is 'no such path' "$status $err" '127 symmrun: there is no program ./no-such-program'
	printf '#!/bin/sh\necho ran\n' >here-only
	run -n 1 ./here-only
	is 'not executable' "$status $err" '126 symmrun: ./here-only is not executable'
	chmod +x here-only
	run -n 1 here-only
	is 'not in PATH' "$status $err" \
		'127 symmrun: there is no program here-only in PATH; did you mean ./here-only?'
	run -n 1 --url "$url" ./here-only
	is 'a script by its path' "$out" ran
	ok 'nothing was started or left' nothing_left
}

test_environment
test_tag
test_failure
test_signals
test_timeout
test_server
test_kill
test_usage
test_program
done_testing
