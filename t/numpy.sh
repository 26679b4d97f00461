#!/bin/bash
# NumPy takes tensors of ours over on two ranks, and writes and reads through them: numpy.py.
# shellcheck disable=SC2317 # functions that ok calls
. "${top_srcdir:=.}/t/tap/tap.sh"

: "${top_builddir:=.}"
library=$top_builddir/.libs/libsymm.so
unset SYMM_URL SYMM_JOB SYMM_DEVICE

[ -e "$library" ] || skip_all "no shared library was built"
[[ ${SYMM_TEST_CFLAGS:-} != *sanitize* ]] || skip_all "Python is not built with the sanitizers"
type -P redis-server >/dev/null || skip_all "no redis-server"
for python in python3 /usr/bin/python3 ''; do
	"$python" -c 'import numpy; numpy.from_dlpack' 2>/dev/null && break
done
[ "$python" ] || skip_all "no python3 with NumPy 1.22 or later"

dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-numpy.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

run() {
	"${SYMMRUN:-$top_srcdir/scripts/symmrun}" -n 2 --timeout 60 "$python" -B "$top_srcdir/t/numpy.py" "$library" \
		>"$dir/out"
}

ok "two ranks run" run
is "both have got to the end" "$(sort "$dir/out")" $'ok rank 0\nok rank 1'
done_testing
