#!/bin/bash
# The package for Python, on SYMM_DEVICE: two ranks, each a Python, run the tests of t/python and the examples.
# shellcheck disable=SC2317 # functions that ok calls
. "${top_srcdir:=.}/t/tap/tap.sh"

: "${top_builddir:=.}"
symmrun=${SYMMRUN:-$top_srcdir/scripts/symmrun}
export top_srcdir PYTHONPATH=$top_srcdir/python${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
export SYMM_SHARE_DEVICE=1 SYMM_LOG=error
unset SYMM_URL SYMM_JOB SYMM_MULTICAST PYTHONUNBUFFERED

# Sets $python: of those that are new enough one with NumPy, if there is any.
find_python() {
	local each
	for each in "${PYTHON:-no}" python3 /usr/bin/python3; do
		"$each" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || continue
		: "${python:=$each}"
		! "$each" -c 'import numpy' 2>/dev/null || { python=$each && return; }
	done
	[ "${python-}" ]
}

# What a Python that is not built with the library's sanitizers has to load first.
find_sanitizers() {
	local each path
	for each in libasan.so libubsan.so; do
		path=$(${CC:-cc} -print-file-name="$each")
		[ "$path" != "$each" ] || return
		preload+=${preload:+:}$path
	done
}

find_python || skip_all "no Python 3.9 or later"
type -P redis-server >/dev/null || skip_all "no redis-server"
preload=
case ${SYMM_TEST_CFLAGS-} in
*thread*) skip_all "Python is not built with ThreadSanitizer" ;;
*address*) find_sanitizers || skip_all "no libasan for a Python without it" ;;
esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-python.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

strict=(-X dev -W error)

# run PROGRAM...: two ranks of Python
run() {
	"$symmrun" -n 2 --timeout "$((60 * ${TAP_TIMEOUT_FACTOR:-1}))" env \
		SYMM_LIBRARY="$top_builddir/.libs/libsymm.so.0" ${preload:+LD_PRELOAD="$preload"} \
		ASAN_OPTIONS=detect_leaks=0 "$python" "${strict[@]}" "$@"
}

program() {
	run "$1" >"$dir/out" 2>&1 || { cat "$dir/out" && false; }
}

can_import() {
	"$python" -c "import $1" 2>/dev/null
}

is_silent() {
	"$@" 2>&1 | tee "$dir/all"
	[ "${PIPESTATUS[0]} $(wc -c <"$dir/all")" = "0 0" ]
}

# A test's name, and what went wrong in it, on one line.
passed() {
	[ "$1" = ok ] || { printf '%b\n' "$2" && false; }
}

run "$top_srcdir/t/python/run.py" >"$dir/out" 2>"$dir/err"
while IFS=$'\t' read -r word name why; do
	case $word in
	ok | bad) ok "$name" passed "$word" "$why" ;;
	skip) skip "$name" "$why" ;;
	esac
done <"$dir/out"
is "both ranks came to their end, of as many tests" "$(grep -c '^end' "$dir/out") $(grep '^end' "$dir/out" | uniq | wc -l)" "2 1"
is_empty "and nothing else was said" "$(cat "$dir/err")"
ok "an interpreter exits, in silence, with all in use" is_silent run "$top_srcdir/t/python/exit.py"

# The program of the man page.
sed -n '/^\.Sh EXAMPLES/,$ { /^import numpy/,/^\.Ed/ { /^\.Ed/!p } }' "$top_srcdir/man/symm-python.7" >"$dir/page.py"

if [ "${SYMM_DEVICE:-host}" != host ]; then
	skip "example ring, and that of the page" "the host cannot reach memory of this device"
elif ! can_import numpy; then
	skip "example ring, and that of the page" "no NumPy for this Python"
else
	ok "the page's example" program "$dir/page.py"
	is "... and what it writes" "$(sort "$dir/out")" "rank 0 got [1 1 1 1]
rank 1 got [0 0 0 0]"
	ok "example ring" program "$top_srcdir/python/examples/ring.py"
	is "... and its sums" "$(sort "$dir/out")" "rank 0 of 2: the sum is 3, 100000 times
rank 1 of 2: the sum is 3, 100000 times"
fi
if [ "${SYMM_DEVICE:-host}" = host ] || [ "${SYMM_LIBCUDA-}" ] || ! can_import torch; then
	skip "example torch_stream" "no torch, or no GPU for it"
else
	strict=() # torch has warnings of its own
	ok "example torch_stream" program "$top_srcdir/python/examples/torch_stream.py"
	is "... and what it counts" "$(sort "$dir/out")" "rank 0 of 2: 100 rounds, 0 numbers wrong
rank 1 of 2: 100 rounds, 0 numbers wrong"
fi

done_testing
