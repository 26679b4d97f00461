#!/bin/bash
# symm/device.cuh: every compiler takes it, no kernel gets a stack or spills by it; and t/device_header.cc, which runs it
# on the host device.
# shellcheck disable=SC2317 # functions that ok calls
. "${top_srcdir:=.}/t/tap/tap.sh"

: "${top_builddir:=.}"
read -ra cc <<<"${CC:-cc}"
read -ra cflags <<<"${SYMM_TEST_CFLAGS:-}"
user=$top_srcdir/t/device_user.cu
include=-I$top_srcdir/include
strict=(-Wall -Wextra -Wshadow -Wconversion -pedantic -Werror)
library=$top_builddir/.libs
PATH=$PATH:/usr/local/cuda/bin
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-device.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

# ---- C++ ----

cxx() { # COMPILER STANDARD
	"$1" -x c++ "-std=c++$2" "${strict[@]}" "$include" -fsyntax-only "$user"
}

found=
for compiler in g++ clang++; do
	for standard in 11 14 17 20; do
		if type -P "$compiler" >/dev/null; then
			ok "$compiler, C++$standard" cxx "$compiler" "$standard"
		else
			skip "$compiler, C++$standard" "no $compiler"
		fi
	done
	# the sanitizers' runtime is that of the C compiler
	[[ $found ]] || ! type -P "$compiler" >/dev/null || found=$compiler
done
[[ ${cc[0]} != *clang* ]] || found=clang++

build() {
	"$found" -std=c++11 -O2 -Wall -Wextra -Werror "${cflags[@]}" "$include" -iquote "$top_srcdir" -o "$dir/program" \
		"$top_srcdir/t/device_header.cc" "$top_builddir/t/libtap.a" -L"$library" -Wl,-rpath,"$library" -lsymm -pthread
}

if type -P "${found:-none}" >/dev/null; then
	ok "a program for the host device" build && ok "runs" "$dir/program"
else
	skip "a program for the host device" "no C++ compiler"
fi

# ---- nvcc ----

# All architectures by one call; ptxas tells of each kernel. The PTX stays legible.
nvcc_all() {
	local arch options=(-gencode "arch=compute_90,code=compute_90")
	for arch in 75 80 90 100; do
		nvcc --list-gpu-code | grep -qx "sm_$arch" && options+=(-gencode "arch=compute_$arch,code=sm_$arch")
	done
	nvcc -std=c++11 "$include" "${options[@]}" -fatbin --no-compress -Xcompiler -Wall,-Wextra -Werror all-warnings -Xptxas -v \
		-o "$dir/user.fatbin" "$user" >"$dir/ptxas" 2>&1 || { cat "$dir/ptxas"; return 1; }
}

# Every kernel was reported, and none has a stack or spills.
is_lean() {
	awk '/Compiling entry function/ { kernels++ }
		/bytes stack frame/ { reported++; lean += /^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/ }
		END { print kernels + 0, "kernels,", reported + 0, "reported,", lean + 0, "lean"
			exit kernels == 0 || lean != kernels }' "$dir/ptxas"
}

# Of our kernels alone is it known that the next may begin early.
leaves_next_alone() {
	grep -q ld.acquire.sys "$dir/user.fatbin" && ! grep -q griddepcontrol "$dir/user.fatbin"
}

# ---- instructions ----

words() {
	nvcc -std=c++11 "$include" -I"$top_srcdir" -arch=compute_90 -Werror all-warnings -ptx -o "$dir/words.ptx" \
		"$top_srcdir/t/device_words.cu"
}

# instructions KERNEL: those of the kernel by which threads meet or memory is ordered. A full fence stands for either.
instructions() {
	awk -v entry=".entry $1(" '
		/\.entry / { inside = index($0, entry) }
		inside && match($0, /[ \t]((ld|st|atom|red)\.(relaxed|acquire|release|acq_rel|volatile)|(fence|membar|bar|barrier|shfl)\.)[a-z0-9_.]*/) {
			print substr($0, RSTART + 1, RLENGTH - 1)
		}' "$dir/words.ptx"
}

# Each kernel of a word or two has these and no others.
ordered() {
	local kernel expected got
	while read -r kernel expected; do
		got=$(instructions "$kernel" | paste -sd ' ')
		[[ ${got//fence.acq_rel/fence.release} == "$expected" ]] || echo "$kernel: $got, not $expected"
	done <<-'END'
		word_load ld.relaxed.sys.global.u64
		word_acquire ld.acquire.sys.global.u64
		word_publish st.relaxed.sys.global.u64
		counter_load ld.relaxed.gpu.global.u64
		counter_set st.relaxed.gpu.global.u64
		counter_take atom.relaxed.gpu.global.add.u64
		counter_bump red.relaxed.sys.global.add.u64
		flag_load ld.relaxed.sys.global.u32
		flag_acquire ld.acquire.sys.global.u32
		flag_publish st.relaxed.sys.global.u32
		flags_load ld.relaxed.gpu.global.v4.u32 ld.relaxed.gpu.global.v4.u32
		flag_claim atom.relaxed.gpu.global.cas.b32
		publish_4 ld.relaxed.sys.global.u32 fence.release.sys st.relaxed.sys.global.u32
		publish_8 ld.relaxed.sys.global.u32 fence.release.sys st.relaxed.sys.global.u64
		load_relaxed_4 ld.relaxed.sys.global.u32
		load_relaxed_8 ld.relaxed.sys.global.u64
		load_acquire_4 ld.acquire.sys.global.u32
		load_acquire_8 ld.acquire.sys.global.u64
		store_relaxed_4 st.relaxed.sys.global.u32
		store_relaxed_8 st.relaxed.sys.global.u64
		store_release_4 fence.release.sys st.relaxed.sys.global.u32
		store_release_8 fence.release.sys st.relaxed.sys.global.u64
		fence membar.sys
		failed ld.relaxed.sys.global.u32
		meet_warp bar.warp.sync
		meet_block bar.sync
		agree_warp shfl.sync.idx.b32 bar.warp.sync
	END
}

acquires() {
	instructions "$1" | grep -cE '^fence\.(acquire|acq_rel)\.sys$'
}

# What wait_until does after it has waited.
acquires_at_last() {
	local once kernel
	once=$(acquires poll)
	for kernel in wait_until_{thread,warp,block}; do
		(($(acquires "$kernel") == once + 1)) || echo "$kernel: as many as without: $once"
	done
}

# A call of a scope begins with its threads' meeting, and ends with their agreeing: in a block once for each bit too.
meets() {
	local call got
	for call in barrier put_signal wait_signal wait_until; do
		got=$(instructions "${call}_$1" | grep -E '^(bar|shfl)' | paste -sd ' ')
		[[ " $got " =~ $2 ]] || echo "$call: $got"
	done
}

# What compilers for GPUs say does not depend on how the library is built and run.
again=${SYMM_TEST_CFLAGS:-}${SYMM_HOST_STRICT:-}
# As pasted from the page.
page_example() {
	awk '/^\.Bd -literal/ { inside = 1; text = ""; next }
		/^\.Ed/ { if (inside && text ~ /__global__/) printf "%s", text; inside = 0 }
		inside { text = text $0 "\n" }' "$top_srcdir/man/symm-device.7" >"$dir/page.cu"
	grep -q __global__ "$dir/page.cu" &&
		nvcc -std=c++11 -arch=sm_75 "$include" -Xcompiler -Wall,-Wextra -Werror all-warnings -cubin -o "$dir/page.cubin" "$dir/page.cu"
}

if [[ $again ]]; then
	skip "compilers for GPUs" "they are asked in a plain build"
	done_testing
elif type -P nvcc >/dev/null; then
	ok "nvcc, C++11" nvcc_all && ok "no stack, no spills" is_lean && ok "no early launch" leaves_next_alone
	ok "the kernel in symm-device(7)" page_example
	if ok "each helper by itself" words; then
		is_empty "loads and stores have their order and scope" "$(ordered)"
		is_empty "wait_until acquires" "$(acquires_at_last)"
		is_empty "a warp meets" "$(meets warp '^ bar\.warp\.sync .*shfl\.sync\.idx\.b32 bar\.warp\.sync $')"
		is_empty "a block meets" "$(meets block '^ bar\.sync .*(bar\.red\.or\.pred ){8}$')"
	fi
	ok "the example" nvcc -std=c++11 -arch=sm_90 "$include" -Xcompiler -Wall,-Wextra -Werror all-warnings -cubin \
		-o "$dir/example.cubin" "$top_srcdir/t/examples/allgather_fused.cu"
else
	skip "nvcc" "no nvcc"
fi

# ---- NVRTC ----

nvrtc() {
	"$dir/nvrtc" "$user" "$@" "$include"
}

ok "nvrtc.c" "${cc[@]}" -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -o "$dir/nvrtc" "$top_srcdir/t/nvrtc.c" -ldl
"$dir/nvrtc" "$user" >/dev/null 2>&1
if (($? == 77)); then
	skip "NVRTC" "no libnvrtc"
else
	ok "NVRTC, C++11, sm_75" nvrtc --gpu-architecture=sm_75 -std=c++11
	ok "NVRTC, C++17, sm_90" nvrtc --gpu-architecture=sm_90 -std=c++17
fi
done_testing
