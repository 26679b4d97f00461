#!/bin/bash
# Every header compiles alone; the public ones as C99 to C++20, by gcc and clang, alone and together, with all warnings;
# and symm.h tells configure's version.
# shellcheck disable=SC2317 # functions that ok calls
. "${top_srcdir:=.}/t/tap/tap.sh"
cd "$top_srcdir" || exit 1

read -ra cc <<<"${CC:-cc}"
read -ra cppflags <<<"${SYMM_TEST_CPPFLAGS:-}"
strict=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only)
public=include/symm/symm.h

# Users include them by their names; the order must not matter.
installed() { # TAC-OR-CAT
	printf '#include <%s>\n' include/symm/*.h | sed 's@<include/@<@' | "$1"
}

can() { # STANDARD LANGUAGE
	type -P "${compiler[0]}" >/dev/null && echo | "${compiler[@]}" "-std=$1" -fsyntax-only -x "$2" - 2>/dev/null
}

test_standard() { # STANDARD LANGUAGE
	local header compile=("${compiler[@]}" "-std=$1" "${strict[@]}" -Iinclude -x "$2")
	for header in include/symm/*.h; do
		ok "$header as $1 by ${compiler[0]}" "${compile[@]}" "$header"
	done
	ok "all together as $1 by ${compiler[0]}" "${compile[@]}" <(installed cat)
	ok "and the other way round" "${compile[@]}" <(installed tac)
}

# What the library is built with, and the two that users have.
compilers=("${cc[*]}")
for name in gcc clang; do
	[[ ${cc[0]##*/} == "$name"* || (${cc[0]##*/} == cc && $name == gcc) ]] || compilers+=("$name")
done
for name in "${compilers[@]}"; do
	read -ra compiler <<<"$name"
	for standard in c99 c11 gnu17 c++11 c++20; do
		language=${standard//[0-9]/}
		language=${language/gnu/c}
		if can "$standard" "$language"; then
			test_standard "$standard" "$language"
		else
			skip "headers as $standard by ${compiler[0]}" "no such compiler"
		fi
	done
done

for header in src/*.h src/tool/*.h store/*.h include/symm/kernel/*.h kernels/*.h t/tap/*.h; do
	[[ $header != *_cuda.h ]] || continue # for nvcc alone
	ok "$header alone" "${cc[@]}" -std=gnu11 -D_GNU_SOURCE "${cppflags[@]}" -Iinclude \
		-iquote . -iquote src -iquote store -iquote kernels -iquote t/tap -Wall -Wextra -Wno-unused-function -Werror \
		-fsyntax-only -x c "$header"
done
# A program may have another dlpack.h: Debian's is older than ours.
dlpack() {
	printf '#include <%s>\n#include <%s>\nvoid f(DLManagedTensorVersioned *);\n' "$2" "$3" |
		cat - <(echo 'void f(DLManagedTensorVersioned *t) { t->dl_tensor.device.device_type = kDLCUDA; symm_tensor_free(t); }') |
		"${cc[@]}" -Iinclude "${strict[@]}" -x "$1" -
}
for language in c c++; do
	if echo '#include <dlpack/dlpack.h>' | "${cc[@]}" -fsyntax-only -x "$language" - 2>/dev/null; then
		ok "$language: dlpack.h, then ours" dlpack "$language" dlpack/dlpack.h symm/tensor.h
		ok "$language: ours, then dlpack.h" dlpack "$language" symm/tensor.h dlpack/dlpack.h
	else
		skip "$language: dlpack.h and ours" "no dlpack/dlpack.h"
	fi
done
# What GPU and CPU have in common asks for no more than C11.
for header in include/symm/kernel/{types,layout,sync}.h kernels/{entry,payload}.h; do
	ok "$header as c11" "${cc[@]}" -std=c11 -D_GNU_SOURCE -Iinclude -iquote . -Wno-unused-function "${strict[@]}" -x c "$header"
done

version=$(sed -n 's/^#define SYMM_VERSION_[A-Z]* \([0-9]*\)$/\1/p' "$public" | paste -sd .)
ok "version $version is configure's" test "$version" = "${SYMM_TEST_VERSION:-$version}"
ok "NEWS begins with it" grep -q "^symm $version" <(head -n 1 NEWS)
done_testing
