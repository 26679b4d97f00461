#!/bin/bash
# man2html.sh MANDOC FOLDER: renders the pages of man/ into that folder, with an index by man/topics and links between
# them. A name of a .so alias leads to the page that has it; a page that is not ours is no link.
set -u
shopt -s nullglob

mandoc=$1 folder=$2
declare -A href=() summary=() listed=()

fail() {
	echo "man2html: $1" >&2
	exit 1
}

escape() {
	sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g' <<<"$1"
}

read_pages() {
	local page target
	for page in *.[1-9]; do
		target=$(sed -n '1s/^\.so man[1-9]\///p' "$page")
		href[$page]=${target:-$page}.html
		[[ ! $target ]] || ! grep -Eq "^\.F[no] ${page%.*}( |$)" "$target" || href[$page]+=#of-${page%.*}
		[[ $target ]] || summary[$page]=$(escape "$(sed -n '/^\.Nd /{s///;s/\\&//g;p;q;}' "$page")")
	done
}

# The names of a page: all .Nm of its first section.
names() {
	sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([^ ]*\).*/\1/p' "$1"
}

begin() { # TITLE
	cat <<-END
		<!DOCTYPE html>
		<html lang="en">
		<head>
		<meta charset="utf-8"/>
		<meta name="viewport" content="width=device-width, initial-scale=1"/>
		<title>$1</title>
		<link rel="stylesheet" href="symm.css"/>
		</head>
		<body>
	END
}

end() {
	printf '</main>\n</body>\n</html>\n'
}

# What mandoc wrote, tag by tag, as it breaks lines anywhere: without its own head and foot, with the links as in $links,
# and with an id where a function stands first, which is its declaration.
mend() {
	awk -v links="$links" '
		BEGIN {
			RS = "\n"
			while ((getline <links) > 0)
				to[$1] = $2
			RS = "<"
		}
		/^table class="(head|foot)"/ { skip = 1 }
		skip { skip = $0 !~ /^\/table>/; next }
		NR > 1 && /^a class="Xr"/ {
			page = substr($0, index($0, "href=\"") + 6)
			text = substr(page, index(page, ">"))
			page = substr(page, 1, index(page, ".html\"") - 1)
			tag = page in to ? "a" : "span"
			printf "<%s class=\"Xr\"%s%s", tag, page in to ? " href=\"" to[page] "\"" : "", text
			next
		}
		/^code class="Fn">/ && !($0 in seen) {
			seen[$0]
			sub(/>/, " id=\"of-" substr($0, index($0, ">") + 1) "\">")
		}
		tag && /^\/a>/ { sub(/a/, tag); tag = "" }
		NR > 1 { printf "<%s", $0 }'
}

# Links to the subsections of what stands on standard input.
contents() {
	awk 'BEGIN { RS = "<" }
		/^h2 class="Ss" id="/ { split($0, part, "\""); id = part[4] }
		id && /^a class="permalink"/ {
			printf "<li><a href=\"#%s\">%s</a></li>\n", id, substr($0, index($0, ">") + 1)
			id = ""
		}'
}

render() { # PAGE
	local title="${1%.*}(${1##*.})" body list
	body=$("$mandoc" -T html -O 'fragment,man=%N.%S.html' "$1" | mend)
	[[ $body ]] || fail "cannot render $1"
	list=$(contents <<<"$body")
	begin "$title - ${summary[$1]}"
	printf '<header><a href="index.html">symm</a> <span>%s</span></header>\n' "$title"
	[[ $1 == *.3 || ! $list ]] || printf '<nav>\n<ul>\n%s\n</ul>\n</nav>\n' "$list"
	printf '<main>\n%s\n' "$body"
	end
}

entry() { # PAGE
	local name links=''
	[[ ${summary[$1]-} ]] || fail "man/topics: there is no page $1"
	for name in $(names "$1"); do
		links+="${links:+, }<a href=\"${href[$name.${1##*.}]-$1.html}\">$name</a>(${1##*.})"
	done
	printf '<dt>%s</dt>\n<dd>%s</dd>\n' "$links" "${summary[$1]}"
}

# man/topics: a line "# TITLE" begins a topic; its pages follow, one a line.
topics() {
	local line open=''
	while IFS= read -r line; do
		if [[ $line == '# '* ]]; then
			printf '%s<section>\n<h2>%s</h2>\n<dl>\n' "$open" "$(escape "${line#??}")"
			open=$'</dl>\n</section>\n'
		elif [[ $line ]]; then
			listed[$line]=yes
			entry "$line"
		fi
	done <topics
	printf '%s' "$open"
}

index() {
	local page
	begin "symm: symmetric memory for C"
	cat <<-END
		<header><span>symm: symmetric memory between the ranks of a group</span></header>
		<main class="index">
		<p>New here? <a href="symm.7.html">symm(7)</a> is the tutorial.</p>
	END
	topics
	end
	for page in "${!summary[@]}"; do
		[[ ${listed[$page]-} ]] || fail "man/topics does not list $page"
	done
}

main() {
	local page links
	mkdir -p "$folder" && folder=$(cd "$folder" && pwd) && cd "$(dirname "$0")/../man" || exit 1
	links=$folder/.links
	read_pages
	for page in "${!href[@]}"; do
		echo "$page ${href[$page]}"
	done >"$links"
	for page in "${!summary[@]}"; do
		render "$page" >"$folder/$page.html" || exit 1
	done
	index >"$folder/index.html" && cp symm.css "$folder" || exit 1
	rm -f "$links"
}

main
