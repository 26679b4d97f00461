#!/bin/bash
# Nothing of CUDA is linked: the library and the tool run where there is no driver.
. "${top_srcdir:=.}/t/tap/tap.sh"

library=${top_builddir:=.}/.libs/libsymm.so
tool=$top_builddir/.libs/symm
[ -e "$tool" ] || tool=$top_builddir/symm
[ -e "$library" ] || skip_all "no shared library was built"
command -v readelf >/dev/null || skip_all "no readelf"

needed() {
	readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}

undefined() {
	${NM:-nm} -D --undefined-only "$1" | awk '{ print $NF }'
}

for file in "$library" "$tool"; do
	has "${file##*/} needs the C library" "$(needed "$file")" libc.so
	is "${file##*/} needs no library of CUDA" "$(needed "$file" | grep -E 'cuda|nv')" ""
	is "${file##*/} takes no function of CUDA's" "$(undefined "$file" | grep -E '^cu(da)?[A-Z]')" ""
done

# t/cuda_context.c makes every call but those that touch no device at all.
missing=
while read -r name; do
	case $name in
	symm_strerror | symm_last_error | symm_version | symm_is_finalizing | symm_allocator_error | symm_tensor_capsule_end) ;;
	*) grep -q "\<$name(" "$top_srcdir/t/cuda_context.c" || missing+=" $name" ;;
	esac
done <"$top_srcdir/t/exports.expected"
is "t/cuda_context.c makes every call of symm.h" "$missing" ""
done_testing
