#!/bin/bash
# symm-errors(7) has every code of enum symm_error with its number, and sentences that the library can say; and digests
# of a rendezvous are in the pages as the library makes them.
. "${top_srcdir:=.}/t/tap/tap.sh"
cd "$top_srcdir" || exit 1
page=man/symm-errors.7

codes() {
	sed -n '/^enum symm_error {/,/^}/s/^\t\(SYMM_[A-Z]*\) = \(-\?[0-9]*\).*/\2: \1/p' include/symm/symm.h
}

# shellcheck disable=SC2016 # expressions of sed
# Each whole literal of the sources, joined where it is in several parts, as an expression for what it may print.
# Those with little text of their own would fit anything.
sentences() {
	{
		cat src/*.c src/device/*.c store/*.c | grep -zoP '"([^"\\]|\\.)*"(\s*"([^"\\]|\\.)*")*' |
			tr '\n\t' '  ' | tr '\0' '\n' | sed 's/" *"//g'
		grep -hoE "'[^']{30,}'" store/lua/*.lua
	} | sed -E 's/^.(.*).$/\1/; s/\\"/"/g; s/%[-+ 0-9.*]*(l|ll|z|h)?[diouxXgfcspm]/\x01/g
		s/[][\\.*^$(){}?+|]/\\&/g' | awk '{ own = $0; gsub(/\001/, "", own) } length(own) >= 15' | sed 's/\x01/.*/g' | sort -u
}

# The displays of the page before its EXAMPLES, one a line; a sentence of the server's own follows the URL.
samples() {
	sed '/^\.Sh EXAMPLES/q' "$page" | awk '/^\.Bd -filled/ { inside = 1; text = ""; next }
		/^\.Ed/ && inside { print substr(text, 2); inside = 0 } inside { text = text " " $0 }' |
		grep -v ' \(NOAUTH\|WRONGPASS\) '
}

sections_of_codes() {
	sed -n 's/^\.Ss \(-\?[0-9]*: SYMM_[A-Z]*\)$/\1/p' "$page"
}

samples_of_nothing() {
	samples | grep -Evf <(sentences)
}

# The line that ranks compare in a rendezvous, as an expression.
digest() {
	local abi
	abi=$(sed -n 's/^#define SYMM_ABI \([0-9]*\).*/\1/p' src/wire.h)
	sed -n '/^static void write_digest/,/^}/s/.*"\(size=[^"]*abi=\)%d".*/\1/p' src/rendezvous.c |
		sed "s/\$/$abi/; s/%zu/[0-9]+/g; s/%s/[0-9a-z]+/g"
}

# Whole ones stand in quotes, broken into lines anywhere.
digests() {
	cat man/*.[1-9] | tr '\n' ' ' | grep -oE '"size=[^"]*"' | tr -d '"'
}

digests_of_nothing() {
	digests | grep -vxE "$(digest)"
}

is "each code, in order, with its number" "$(sections_of_codes)" "$(codes)"
ok "the page has samples" test "$(samples | wc -l)" -ge 25
is_empty "the library can say each of them" "$(samples_of_nothing)"
ok "the library makes a digest: $(digest)" test -n "$(digest)"
ok "the pages have some" test "$(digests | wc -l)" -ge 4
is_empty "the library makes digests like each" "$(digests_of_nothing)"
done_testing
