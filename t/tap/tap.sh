# shellcheck shell=bash
# tap.sh: TAP for shell tests, in bash: source it, call these, end with done_testing. One result a line on stdout.

tap_run=0 tap_failed=0

# ok NAME COMMAND...: passes if the command succeeds; what it prints is shown when it fails.
ok() {
	local name=$1 output
	shift
	tap_run=$((tap_run + 1))
	if output=$("$@" 2>&1); then
		printf 'ok %d - %s\n' "$tap_run" "$name"
		return 0
	fi
	tap_failed=$((tap_failed + 1))
	printf 'not ok %d - %s\n' "$tap_run" "$name"
	printf '%s\n' "${output:-"$* failed"}" | sed 's/^/# /'
	return 1
}

# is NAME GOT EXPECTED: the same text.
is() {
	ok "$1" tap_is "$2" "$3"
}

tap_is() {
	[[ $1 == "$2" ]] || { printf 'got:      %s\nexpected: %s\n' "$1" "$2" && false; }
}

# has NAME TEXT PART: the text holds the part.
has() {
	ok "$1" tap_has "$2" "$3"
}

tap_has() {
	[[ $1 == *"$2"* ]] || { printf 'text: %s\npart: %s\n' "$1" "$2" && false; }
}

# is_empty NAME TEXT: for lists of what is wrong.
is_empty() {
	ok "$1" tap_is_empty "$2"
}

tap_is_empty() {
	[[ ! $1 ]] || { printf '%s\n' "$1" && false; }
}

# eventually SECONDS COMMAND...: the command succeeds within that time.
eventually() {
	local until=$((SECONDS + $1 * ${TAP_TIMEOUT_FACTOR:-1}))
	shift
	until "$@"; do
		((SECONDS <= until)) || return
		sleep 0.02
	done
}

# skip NAME [WHY]: one test.
skip() {
	tap_run=$((tap_run + 1))
	printf 'ok %d - %s # SKIP %s\n' "$tap_run" "$1" "${2-}"
}

# skip_all WHY: the whole file; call it first.
skip_all() {
	printf '1..0 # SKIP %s\n' "$*"
	exit 0
}

done_testing() {
	printf '1..%d\n' "$tap_run"
	exit $((tap_failed > 0))
}
