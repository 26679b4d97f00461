#!/bin/bash
# The shared library exports the functions of the public headers and nothing else.
. "${top_srcdir:=.}/t/tap/tap.sh"

library=${top_builddir:=.}/.libs/libsymm.so
[ -e "$library" ] || skip_all "no shared library was built"

exported=$(${NM:-nm} -D --defined-only "$library" | awk '$2 ~ /^[A-Za-z]$/ && $2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	LC_ALL=C sort)
# A declaration begins at the left edge with SYMM_API; its name is the last word before the first parenthesis.
declared=$(sed -n 's/^SYMM_API [^(]*[ *]\(symm_[a-z0-9_]*\)(.*/\1/p' "$top_srcdir"/include/symm/*.h | LC_ALL=C sort)
expected=$(LC_ALL=C sort "$top_srcdir/t/exports.expected")

ok "exports are those of t/exports.expected" diff <(echo "$expected") <(echo "$exported")
ok "the headers declare those of t/exports.expected" diff <(echo "$expected") <(echo "$declared")
done_testing
