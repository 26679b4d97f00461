#!/bin/bash
# Every header compiles alone; the public one as C99, C11 and C++ with all warnings; and it tells configure's version.
. "${top_srcdir:=.}/t/tap/tap.sh"
cd "$top_srcdir" || exit 1

read -ra cc <<<"${CC:-cc}"
read -ra cppflags <<<"${SYMM_TEST_CPPFLAGS:-}"
strict=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only)
public=include/symm/symm.h

for standard in c99 c11 gnu17; do
	ok "$public as $standard" "${cc[@]}" "-std=$standard" "${strict[@]}" -x c "$public"
done
for standard in c++11 c++20; do
	if echo | "${cc[@]}" "-std=$standard" -fsyntax-only -x c++ - 2>/dev/null; then
		ok "$public as $standard" "${cc[@]}" "-std=$standard" "${strict[@]}" -x c++ "$public"
	else
		skip "$public as $standard" "no such compiler"
	fi
done

for header in src/*.h src/tool/*.h store/*.h include/symm/kernel/*.h kernels/*.h t/tap/*.h; do
	[[ $header != *_cuda.h ]] || continue # for nvcc alone
	ok "$header alone" "${cc[@]}" -std=gnu11 -D_GNU_SOURCE "${cppflags[@]}" -Iinclude \
		-iquote . -iquote src -iquote store -iquote kernels -iquote t/tap -Wall -Wextra -Wno-unused-function -Werror \
		-fsyntax-only -x c "$header"
done
# What GPU and CPU have in common asks for no more than C11.
for header in include/symm/kernel/{types,layout,sync}.h kernels/entry.h; do
	ok "$header as c11" "${cc[@]}" -std=c11 -D_GNU_SOURCE -Iinclude -iquote . -Wno-unused-function "${strict[@]}" -x c "$header"
done

version=$(sed -n 's/^#define SYMM_VERSION_[A-Z]* \([0-9]*\)$/\1/p' "$public" | paste -sd .)
ok "version $version is configure's" test "$version" = "${SYMM_TEST_VERSION:-$version}"
ok "NEWS begins with it" grep -q "^symm $version" <(head -n 1 NEWS)
done_testing
