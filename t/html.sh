#!/bin/bash
# The pages for a browser: all are there and in the index, every link leads somewhere, and each is well formed.
# shellcheck disable=SC2317 # functions that passes calls
. "${top_srcdir:=.}/t/tap/tap.sh"
top_srcdir=$(cd "$top_srcdir" && pwd) || exit 1

mandoc=${MANDOC:-mandoc}
command -v "$mandoc" >/dev/null || skip_all "mandoc is not installed"
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-html.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

ok "all pages are rendered" bash "$top_srcdir/scripts/man2html.sh" "$mandoc" "$dir/html"
cd "$dir/html" || exit 1

not_in_index() {
	local page name
	for page in "$top_srcdir"/man/*.[1-9]; do
		name=${page##*/}
		if [ "$(head -c 4 "$page")" = ".so " ]; then
			grep -q ">${name%.*}</a>" index.html || echo "$name"
		else
			grep -q "href=\"$name.html" index.html && [ -s "$name.html" ] || echo "$name"
		fi
	done
}

links_broken() {
	local page link file anchor
	for page in *.html; do
		grep -oE '(href|src)="[^"]*"' "$page" | cut -d '"' -f 2 | sort -u | while read -r link; do
			file=${link%%#*} anchor=${link#"${link%%#*}"}
			[ -f "${file:-$page}" ] || { echo "$page: $link"; continue; }
			[ -z "$anchor" ] || grep -qF "id=\"${anchor#\#}\"" "${file:-$page}" || echo "$page: $link"
		done
	done
}

# Page, or "what is referred to" as mandoc has it: a reference to a page of ours that is no link.
references_lost() {
	local page name
	grep -oE '<span class="Xr">symm[^<]*' -- *.html | sed 's/:<[^>]*>/ /' | while read -r page name; do
		echo "$page: $name"
	done
}

tidy_says() {
	local page
	for page in *.html; do
		tidy -quiet -errors --show-warnings no "$page" 2>&1 | sed "s/^/$page: /"
	done
}

# With the tool, if it is there: every page passes.
passes() { # TOOL NAME COMMAND...
	if command -v "$1" >/dev/null; then
		is_empty "$2" "$("${@:3}" 2>&1)"
	else
		skip "$2" "$1 is not installed"
	fi
}

is_empty "every page is in the index" "$(not_in_index)"
is_empty "no link is broken" "$(links_broken)"
is_empty "every page of ours that is referred to is linked" "$(references_lost)"
ok "there are links to look at" test "$(grep -o 'href="symm[^"]*html' -- *.html | wc -l)" -gt 100
is_empty "nothing is taken from elsewhere" "$(grep -lE '(href|src)="(https?:|//|/)' -- *.html)"
passes xmllint "xmllint has no complaint" xmllint --noout ./*.html
passes tidy "tidy has no complaint" tidy_says

cp -r "$top_srcdir/man" "$dir/man" && mkdir "$dir/scripts" && cp "$top_srcdir/scripts/man2html.sh" "$dir/scripts" || exit 1
chmod -R u+w "$dir"
sed -i '/^symm_put\.3$/d' "$dir/man/topics"
has "a page that no topic has is told" "$(bash "$dir/scripts/man2html.sh" "$mandoc" "$dir/other" 2>&1 >/dev/null)" \
	"man/topics does not list symm_put.3"
rm "$dir/man/symm_alloc.3"
has "a topic's page that is not there is told" \
	"$(bash "$dir/scripts/man2html.sh" "$mandoc" "$dir/other" 2>&1 >/dev/null)" "there is no page symm_alloc.3"
done_testing
