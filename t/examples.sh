#!/bin/bash
# The programs in the man pages compile without a warning when pasted, and run as two ranks.
# shellcheck disable=SC2317 # functions that ok calls
. "${top_srcdir:=.}/t/tap/tap.sh"

: "${top_builddir:=.}"
symmrun=${SYMMRUN:-$top_srcdir/scripts/symmrun}
read -ra cc <<<"${CC:-cc}"
read -ra cflags <<<"${SYMM_TEST_CFLAGS:-}"
library=$top_builddir/.libs
unset SYMM_URL SYMM_JOB SYMM_DEVICE

type -P redis-server >/dev/null || skip_all "no redis-server"
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-examples.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

# extract PAGE: each display of the page that is a whole program, to $dir/PAGE-N.c
extract() {
	sed 's/\\e/\\/g; s/^\\&//' "$1" | awk -v stem="$dir/$(basename "$1")" '
		/^\.Bd -literal/ { inside = 1; text = ""; next }
		/^\.Ed/ {
			if (inside && text ~ /int main\(/)
				printf "%s", text > (stem "-" ++n ".c")
			inside = 0
		}
		inside { text = text $0 "\n" }'
}

compile() {
	"${cc[@]}" "${cflags[@]}" -std=c99 -Wall -Wextra -Werror -I"$top_srcdir/include" -o "$2" "$1" \
		-L"$library" -Wl,-rpath,"$library" -lsymm >&2
}

run() {
	"$symmrun" -n 2 --timeout 60 "$1" >&2
}

for page in "$top_srcdir"/man/symm*.[37]; do
	extract "$page"
done
for source in "$dir"/*.c; do
	program=${source%.c}
	ok "${program##*/} compiles" compile "$source" "$program" && ok "${program##*/} runs" run "$program"
done
done_testing
