#!/bin/bash
# Every exported function and every program has a man page; the pages are whole, in order and installed.
. "${top_srcdir:=.}/t/tap/tap.sh"
cd "$top_srcdir" || exit 1

shopt -s nullglob
pages=(man/*.[1-9])

is_alias() { [ "$(head -c 4 "$1")" = ".so " ]; }

pages_missing() {
	local symbol
	while read -r symbol; do
		[ -f "man/$symbol.3" ] || echo "$symbol"
	done <t/exports.expected
	[ -f man/symm.1 ] || echo "symm(1)"
	[ -f man/symmrun.1 ] || echo "symmrun(1)"
}

pages_of_nothing() {
	local page name
	for page in man/*.3; do
		name=${page#man/}
		grep -qx "${name%.3}" t/exports.expected || echo "$page"
	done
}

aliases_broken() {
	local page target name
	for page in "${pages[@]}"; do
		is_alias "$page" || continue
		target=$(sed -n '1s/^\.so man[1-9]\///p' "$page")
		name=$(basename "$page" .3)
		[ -f "man/$target" ] && grep -Eq "^\.Nm $name( ,)?$" "man/$target" || echo "$page -> $target"
	done
}

sections_missing() {
	local page section
	for page in man/*.3; do
		is_alias "$page" && continue
		for section in NAME SYNOPSIS DESCRIPTION "RETURN VALUES?" ERRORS EXAMPLES "SEE ALSO"; do
			grep -Eq "^\.S[hH] \"?$section\"?$" "$page" || echo "$page: $section"
		done
	done
}

not_in_local_mk() {
	local page
	for page in "${pages[@]}"; do
		grep -q "[[:space:]]$page\([[:space:]]\|$\)" man/local.mk || echo "$page"
	done
}

lint() {
	local page
	for page in "${pages[@]}"; do
		is_alias "$page" || "${MANDOC:-mandoc}" -T lint -W warning "$page"
	done
}

is_empty "every exported function and program has a page" "$(pages_missing)"
is_empty "every page of section 3 is of an exported function" "$(pages_of_nothing)"
is_empty "every alias leads to a page that names it" "$(aliases_broken)"
is_empty "every page of section 3 has all sections" "$(sections_missing)"
is_empty "every page is listed in man/local.mk" "$(not_in_local_mk)"
if command -v "${MANDOC:-mandoc}" >/dev/null; then
	is_empty "mandoc has no complaint" "$(lint 2>&1)"
else
	skip "mandoc has no complaint" "mandoc is not installed"
fi
done_testing
