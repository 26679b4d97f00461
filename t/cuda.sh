#!/bin/bash
# Nothing of CUDA is linked: the library and the tool run where there is no driver. What kernels they bring.
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

# The image's parts, as its headers tell them: kind (1: PTX, 2: machine code) and architecture.
parts() {
	awk -F, '/^[0-9]/ { for (i = 1; i < NF; i++) byte[n++] = $i }
		function number(at) { return byte[at] + 256 * (byte[at + 1] + 256 * (byte[at + 2] + 256 * byte[at + 3])) }
		END {
			for (at = byte[6]; at < n; at += number(at + 4) + number(at + 8))
				print (byte[at] == 1 ? "compute_" : "sm_") number(at + 28)
		}' "$1" | sort | tr '\n' ' '
}

# An nvcc of CUDA 12 may not know the newest.
known() {
	local nvcc
	nvcc=$(sed -n "s/^NVCC='\(.*\)'/\1/p" "$top_builddir/config.log")
	[ ! -x "$nvcc" ] || "$nvcc" --list-gpu-code | grep -qx "$1"
}

image=$top_builddir/kernels/fatbin.c
[ -e "$image" ] || image=$top_srcdir/kernels/fatbin.c
if [ -e "$image" ]; then
	wanted="compute_80 "
	for arch in sm_100 sm_120 sm_80 sm_90; do
		! known "$arch" || wanted+="$arch "
	done
	is "kernels for all GPUs" "$(parts "$image")" "$wanted"
else
	skip "kernels for all GPUs" "built without nvcc"
fi

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
