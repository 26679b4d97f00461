#!/bin/bash
# Whatever is public is told in a man page: functions, macros, structs with their fields, enumerators, environment
# variables, and what stands in Redis. Each check prints what it misses, so without any page each prints something:
# tested too.
# shellcheck disable=SC2317 # functions that the checks call
. "${top_srcdir:=.}/t/tap/tap.sh"
cd "$top_srcdir" || exit 1

shopt -s nullglob
pages=$PWD/man
headers=(include/symm/*.h include/symm/*.cuh)
# Installed because device.cuh needs them, for nobody else: their names begin so.
inner=(include/symm/kernel/*.h)
inner_names='^SYMM_(ATOMIC|FENCE|FN|GLOBAL|GONE|KERNEL|STATE|SYNC|WAIT|WARP)'

# Without comments, and with lines that end in a backslash joined.
code_of() {
	sed -z 's@/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/@@g; s@//[^\n]*@@g; s@\\\n@@g' "$1"
}

# missing LISTER MACROS [PAGE]: those words of the lister that no page (of this name, if given) has after such a macro.
missing() {
	local word files=("$pages"/*.[1-9] /dev/null)
	[[ ! ${3-} ]] || files=("$pages/$3")
	"$1" | sort -u | while read -r word; do
		grep -Eqs -- "(^|[. ])($2) (.*[^A-Za-z0-9_-])?$word([^A-Za-z0-9_-]|$)" "${files[@]}" || echo "$word"
	done
}

functions() {
	local header
	for header in "${headers[@]}"; do
		code_of "$header" | grep -E '^[A-Za-z_].*\(' | grep -oE '\bsymm_[a-z0-9_]+\(' | tr -d '('
	done | sort -u
}

# What namespace symm has, but for its details, when all bodies are left out.
device_names() {
	[ -f include/symm/device.cuh ] || return
	sed '/^namespace detail/,/^} \/\/ namespace detail/d; /^#/d' include/symm/device.cuh | code_of - |
		sed -z 's/\n/ /g; s/namespace symm *{//; :again; s/{[^{}]*}/;/g; t again; s/;/;\n/g' |
		sed -nE 's/.*\b([A-Za-z0-9_]+)\(.*/\1/p; s/.*\b(struct|class|enum|union|using) ([A-Za-z0-9_]+).*/\2/p
			s/.*\b([A-Za-z0-9_]+) =[^()]*;/\1/p; s/.*\btypedef .* ([A-Za-z0-9_]+);/\1/p'
}

# But for guards, what only declarations need, and what is DLPack's.
macros() {
	local header
	for header in "${headers[@]}"; do
		code_of "$header" | sed -nE 's/^[[:space:]]*#[[:space:]]*define[[:space:]]+([A-Za-z0-9_]+).*/\1/p'
	done | grep -Ev '(_H_?|_CUH|_API)$|^DLPACK_'
	for header in "${inner[@]}"; do
		code_of "$header" | sed -nE 's/^[[:space:]]*#[[:space:]]*define[[:space:]]+([A-Za-z0-9_]+).*/\1/p'
	done | grep -Ev "$inner_names"
}

# Of all enumerations, also of those without a name; DLPack's are its own.
constants_of() {
	code_of "$1" | grep -zoE '\benum( [A-Za-z0-9_]+)?[[:space:]]*\{[^}]*\}' | tr '\0\n' '  ' | sed 's/[^{}]*{//g; s/}/,/g' |
		tr ',' '\n' | sed -nE 's/^[[:space:]]*([A-Za-z0-9_]+).*/\1/p'
}

enumerators() {
	local header
	for header in "${headers[@]}"; do
		[[ $header == */dlpack.h ]] || constants_of "$header"
	done
	for header in "${inner[@]}"; do
		constants_of "$header"
	done | grep -Ev "$inner_names"
}

# Those that are shown, and those of which a function of the library's takes or gives an address.
types() {
	local header
	for header in "${headers[@]}"; do
		code_of "$header" | grep -oE '^struct symm_[a-z0-9_]+ \{|^SYMM_API .*' | grep -oE 'struct symm_[a-z0-9_]+'
	done | sort -u
}

# "STRUCT FIELD", one a line: the last word of a declarator, or the name in a pointer to a function.
fields() {
	local header
	for header in "${headers[@]}"; do
		code_of "$header" | awk '
			/^struct symm_[a-z0-9_]+ \{/ { name = $2; next }
			/^\}/ { name = "" }
			!name { next }
			{ line = line " " $0 }
			/;[[:space:]]*$/ {
				if (match(line, /\(\*[a-z0-9_]+\)/))
					print name, substr(line, RSTART + 2, RLENGTH - 3)
				else {
					n = split(line, part, ",")
					for (i = 1; i <= n; i++) {
						sub(/[:\[;].*/, "", part[i])
						if (match(part[i], /[A-Za-z0-9_]+[[:space:]]*$/))
							print name, substr(part[i], RSTART, RLENGTH)
					}
				}
				line = ""
			}'
	done
}

# The synopsis of its page shows them as C++ does.
device_names_missing() {
	local name
	device_names | sort -u | while read -r name; do
		grep -Eqs "(^|[ *])${name}[(;]" "$pages/symm-device.7" || echo "$name"
	done
}

# What a page has an item for; the fields that are the same in all structs need none.
items() {
	sed -nE 's/^\.It (Fa|Li|Va) (.*)/\2/p; s/^\.(Fa|Va) (size|arg)( .*)?$/\2/p' "$1" | tr ' ' '\n'
	echo unused
}

# The fields of a struct are told together, in a page that names it: those that its best page misses.
fields_missing() {
	local all struct page missing least
	all=$(fields)
	while read -r struct; do
		least=$(sed -n "s/^$struct //p" <<<"$all")
		while read -r page; do
			missing=$(sed -n "s/^$struct //p" <<<"$all" | grep -Fvx -f <(items "$page"))
			(($(wc -w <<<"$missing") >= $(wc -w <<<"$least"))) || least=$missing
		done < <(grep -lws "struct $struct" "$pages"/*.[37])
		[[ ! $least ]] || printf '%s\n' "$struct.${least//$'\n'/$'\n'$struct.}"
	done < <(cut -d ' ' -f 1 <<<"$all" | sort -u)
}

# What a program or a script takes from its environment: by name, or from a table of names, which have a _ then, but for
# a few.
variables() {
	grep -rhoE --include='*.[ch]' '"[A-Z]+_[A-Z0-9_]+"' src store | tr -d '"'
	grep -rhoE --include='*.[ch]' 'getenv\("[^"]+"' src store include | cut -d '"' -f 2
	grep -hoE '\b(SYMM|CUDA)_[A-Z0-9_]+|\bTMPDIR\b' scripts/symmrun scripts/quickstart scripts/check
	[ ! -d python ] || grep -rhE --include='*.py' '\b(environ|getenv)\b' python |
		sed -nE "s/.*(environ(\[|\.[a-z]+\()|getenv\()[\"']([A-Za-z0-9_]+).*/\3/p; s/.*[\"']([A-Za-z0-9_]+)[\"'] (not )?in .*/\1/p"
	printf '%s\n' RANK WORLD_SIZE LOCAL_RANK
}

keys() {
	grep -zoE '(names|kinds)\[\] = \{[^}]*\}' store/keyspace.c | tr -d '\0' | grep -oE '"[a-z-]+"' | tr -d '"'
	grep -hoE 'symm_call_[a-z]+_?key\([^"%]*"[a-z-]+"' store/*.c | grep -oE '"[a-z-]+"' | tr -d '"'
}

# The fields of the group, the parts of a member's line, and the events.
key_parts() {
	grep -hoE "'H[A-Z]+', group,[^)]*" store/lua/*.lua | grep -oE "'[a-z]+'" | tr -d "'"
	sed -n '/^} fields\[\] = {/,/^};/s/^\t{ "\([a-z]*\)".*/\1/p' src/wire.c
	grep -hoE "\bnote\('[a-z]+'" store/lua/*.lua | grep -oE "'[a-z]+'" | tr -d "'"
}

checks=("function:missing functions Nm|Fn|Fo" "name of device.cuh:device_names_missing"
	"macro:missing macros Dv|Er|Fn|Nm|Fo"
	"enumerator:missing enumerators Dv|Er" "struct:missing types Vt|Fn|Fa|Ft" "field:fields_missing"
	"variable:missing variables Ev symm-environment.7" "Redis key:missing keys Li symm-keyspace.7"
	"part of a Redis key:missing key_parts Li symm-keyspace.7")
for check in "${checks[@]}"; do
	is_empty "each ${check%%:*} is in a page" "$(${check#*:})"
done
pages=$(mktemp -d "${TMPDIR:-/tmp}/symm-documented.XXXXXX") || exit 1
trap 'rm -rf "$pages"' EXIT
for check in "${checks[@]}"; do
	ok "without pages each ${check%%:*} is missed" test "$(${check#*:} | wc -l)" -ge 2
done
done_testing
