#!/bin/bash
# What `make install` brings for users who compile: all headers, each of which wants no file of the source, symm.pc, and
# the examples, which compile against these.
# shellcheck disable=SC2317 # functions that ok calls
. "${top_srcdir:=.}/t/tap/tap.sh"

: "${top_builddir:=.}"
read -ra cc <<<"${CC:-cc}"
strict=(-Wall -Wextra -pedantic -Werror -Wno-unused-function -fsyntax-only)
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-install.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

[ -f "$top_builddir/Makefile" ] || skip_all "no Makefile in $top_builddir"
cxx=
for name in g++ clang++; do
	[[ $cxx ]] || cxx=$(type -P "$name")
done

# Its own prefix, whatever configure was given. Neither programs nor libraries: they would be linked anew.
install_data() {
	env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -C "$top_builddir" DESTDIR="$dir" prefix=/p exec_prefix=/p \
		includedir=/p/include datarootdir=/p/share docdir=/p/doc libdir=/p/lib pkgconfigdir=/p/lib/pkgconfig \
		install-pkgincludeHEADERS install-kernelincludeHEADERS install-dist_examplesDATA \
		install-nodist_pkgconfigDATA
}

names() { # FOLDER
	(cd "$1" && find . -type f ! -name '.*' ! -name '*~' | sort)
}

# COMPILER STANDARD LANGUAGE FILE
compile() {
	(cd "$dir" && "$1" "-std=$2" -D_GNU_SOURCE "${strict[@]}" -I "$dir/p/include" -x "$3" "$4")
}

test_cxx() { # NAME FILE
	if [[ $cxx ]]; then
		ok "$1 as C++11" compile "$cxx" c++11 c++ "$2"
	else
		skip "$1 as C++11" "no C++ compiler"
	fi
}

# One line with the header's name, as users write it.
test_header() { # NAME
	echo "#include <$1>" >"$dir/user"
	[[ $1 == *.cuh ]] || ok "$1 as C11" compile "${cc[0]}" c11 c "$dir/user"
	test_cxx "$1" "$dir/user"
}

test_example() { # FILE
	case $1 in
	*.c) ok "${1##*/} as C11" compile "${cc[0]}" c11 c "$1" ;;
	*.cc) test_cxx "${1##*/}" "$1" ;;
	esac
}

ok "headers and data are installed" install_data || { done_testing; exit; }
is "all headers of the source" "$(names "$dir/p/include/symm")" "$(names "$top_srcdir/include/symm")"
is "all examples" "$(names "$dir/p/doc/examples")" "$(names "$top_srcdir/t/examples")"
ok "symm.pc" test -s "$dir/p/lib/pkgconfig/symm.pc"
for header in "$dir"/p/include/symm/*.{h,cuh} "$dir"/p/include/symm/kernel/*.h; do
	[[ $header == *_cuda.h ]] || test_header "${header#"$dir/p/include/"}" # these are for nvcc alone
done
for example in "$dir"/p/doc/examples/*; do
	test_example "$example"
done
done_testing
