#!/bin/bash
# What `make install` brings: programs, pages, the library and symm.pc, with which programs are made, the package for
# Python, which works with that library, all headers, each of which wants no file of the source, and the examples, which
# compile against these.
# shellcheck disable=SC2317,SC2016,SC2153 # functions that ok calls; text for make and Python; PYTHON is from outside
. "${top_srcdir:=.}/t/tap/tap.sh"

: "${top_builddir:=.}"
read -ra cc <<<"${CC:-cc}"
read -ra cflags <<<"${SYMM_TEST_CFLAGS:-}"
unset SYMM_URL SYMM_JOB SYMM_DEVICE SYMM_LIBRARY
strict=(-Wall -Wextra -pedantic -Werror -Wno-unused-function -fsyntax-only)
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-install.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

[ -f "$top_builddir/Makefile" ] || skip_all "no Makefile in $top_builddir"
cxx=
for name in g++ clang++; do
	[[ $cxx ]] || cxx=$(type -P "$name")
done

# With the prefix that configure was given: for another one libtool would link all anew.
install_all() {
	make_alone DESTDIR="$dir" install >"$dir/log" 2>&1 || { cat "$dir/log" && false; }
}

make_alone() {
	env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -C "$top_builddir" --no-print-directory "$@"
}

value_of() { # VARIABLE
	make_alone --eval='print-%: ; @echo "$($*)"' "print-$1"
}

names() { # FOLDER
	(cd "$1" && find . -type f ! -name '.*' ! -name '*~' ! -name '*.pyc' | LC_ALL=C sort)
}

# COMPILER STANDARD LANGUAGE FILE
compile() {
	(cd "$dir" && "$1" "-std=$2" -D_GNU_SOURCE "${strict[@]}" -I "$include" -x "$3" "$4")
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

# As a user who has no .pc file of the libraries behind.
config() { # OPTION...
	PKG_CONFIG_LIBDIR=$dir$libdir/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dir PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 \
		PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 pkg-config "$@" symm | sed 's/ *$//'
}

# Without the shared library: with all that the library is made of as libsymm.a.
link_static() {
	local libs
	read -ra libs <<<"$(config --static --libs)"
	mkdir "$dir/static" && cp "$top_builddir/.libs/libsymm-internal.a" "$dir/static/libsymm.a" &&
		"${cc[@]}" "${cflags[@]}" -I "$include" -o "$dir/static/hello" "$top_srcdir/t/examples/hello.c" -L"$dir/static" \
			"${libs[@]}" && ! ldd "$dir/static/hello" | grep libsymm
}

link_shared() {
	local flags
	read -ra flags <<<"$(config --cflags --libs)"
	"${cc[@]}" "${cflags[@]}" -o "$dir/hello" "$top_srcdir/t/examples/hello.c" "${flags[@]}"
}

hello() {
	LD_LIBRARY_PATH=$dir$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$bin/symmrun" -n 1 --timeout 60 "$dir/hello"
}

python_opens() {
	PYTHONPATH=$dir$python SYMM_LIBRARY=$dir$libdir/libsymm.so.0 PYTHONDONTWRITEBYTECODE=1 \
		"$bin/symmrun" -n 1 --timeout 60 "$PYTHON" -c 'import symm
with symm.Context(device="host") as context, context.join("world") as group:
    print(symm.__file__, group.alloc(64).nbytes)'
}

ok "all is installed" install_all || { done_testing; exit; }
libdir=$(value_of libdir) bin=$dir$(value_of bindir) include=$dir$(value_of includedir)
python=$(value_of pythondir) doc=$dir$(value_of docdir)
is "programs" "$(names "$bin")" "./symm
./symmrun"
is "the program's version" "$("$bin/symm" --version | head -n 1)" "symm $SYMM_TEST_VERSION"
is "all pages" "$(cd "$dir$(value_of mandir)" && names . | sed 's,.*/,,' | LC_ALL=C sort)" \
	"$(cd "$top_srcdir/man" && printf '%s\n' *.[137] | LC_ALL=C sort)"
is "all headers of the source" "$(names "$include/symm")" "$(names "$top_srcdir/include/symm")"
is "all examples" "$(names "$doc/examples")" "$({ names "$top_srcdir/t/examples"; ! [[ $python ]] ||
	names "$top_srcdir/python/examples"; } | LC_ALL=C sort)"

is "symm.pc: flags for the compiler" "$(config --cflags)" "-I$include"
is "... and for the linker" "$(config --libs)" "-L$dir$libdir -lsymm"
ok "a program is made with the library" link_shared
ok "... and with a static one" link_static

if [[ $python ]]; then
	is "all of the package for Python" "$(names "$dir$python/symm" | grep -v /_config.py)" \
		"$(names "$top_srcdir/python/symm" | grep -v /_config.py)"
	is "... which is told where the library is" "$(cat "$dir$python/symm/_config.py")" "LIBRARY = \"$libdir/libsymm.so.0\""
else
	skip "the package for Python" "no Python"
fi
if [[ ${cflags[*]} ]] || ! type -P redis-server >/dev/null; then
	skip "what is installed runs" "a build with sanitizers, or no redis-server"
else
	is "the program runs" "$(hello)" "rank 0 of 1: my left neighbour is 0"
	[[ ! $python ]] || is "the package opens a context" "$(python_opens)" "$dir$python/symm/__init__.py 64"
fi

for header in "$include"/symm/*.{h,cuh} "$include"/symm/kernel/*.h; do
	[[ $header == *_cuda.h ]] || test_header "${header#"$include/"}" # these are for nvcc alone
done
for example in "$doc"/examples/*; do
	test_example "$example"
done
done_testing
