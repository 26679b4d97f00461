#!/bin/bash
# The programs in the man pages compile without a warning when pasted, and run as two ranks. In the pages that are to be
# followed line by line each display has a comment before it that says what it is:
#
#   .\" t/examples/FILE   that file, the same to the letter
#   .\" run               commands that succeed, one block after the other, in a folder with the files before them
#   .\" run with WHAT     likewise, if WHAT is there
#   .\" prints            lines that the last run printed, among others
#   .\" like              what such lines look like
#   .\" not run: WHY
#
# In the others one may have:
#
#   .\" from FILE         lines of that file, one after the other
#
# shellcheck disable=SC2317,SC2016 # functions that ok calls; expressions of sed
. "${top_srcdir:=.}/t/tap/tap.sh"

source=$(cd "$top_srcdir" && pwd) && build=$(cd "${top_builddir:=.}" && pwd) || exit 1
symmrun=${SYMMRUN:-$source/scripts/symmrun}
read -ra cc <<<"${CC:-cc}"
read -ra cflags <<<"${SYMM_TEST_CFLAGS:-}"
library=$build/.libs
step_by_step=(symm.7 symm-device.7 symm-examples.7 symm-fortran.7)
unset SYMM_URL SYMM_JOB SYMM_DEVICE

type -P redis-server >/dev/null || skip_all "no redis-server"
dir=$(mktemp -d "${TMPDIR:-/tmp}/symm-examples.XXXXXX") || exit 1
mkdir "$dir/bin" || exit 1

clean_up() {
	[ ! -S "$dir/redis.sock" ] || redis-cli -s "$dir/redis.sock" shutdown nosave
	rm -rf "$dir"
}
trap clean_up EXIT

# ---- what the commands of the pages find ----

wrap() { # NAME COMMAND...
	printf '#!/bin/sh\nexec %s "$@"\n' "$(printf '%q ' "${@:2}")" >"$dir/bin/$1"
}

# In the place of launchers: they say who is who as those do.
launcher() {
	cat <<-'END_OF_LAUNCHER'
		#!/bin/bash
		while [[ $1 == -* ]]; do
			[[ $1 != -n && $1 != --nproc-per-node ]] || { n=$2; shift; }
			shift
		done
		case ${0##*/} in
		srun) names=(SLURM_PROCID SLURM_LOCALID SLURM_NTASKS) && export SLURM_JOB_ID=17 ;;
		mpirun) names=(OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_SIZE) ;;
		torchrun) names=(RANK LOCAL_RANK WORLD_SIZE) && export TORCHELASTIC_RUN_ID=none ;;
		esac
		for ((i = 0; i < n; i++)); do
			env "${names[0]}=$i" "${names[1]}=$i" "${names[2]}=$n" "$@" &
			pids+=($!)
		done
		for pid in "${pids[@]}"; do
			wait "$pid" || status=1
		done
		exit ${status:-0}
	END_OF_LAUNCHER
}

make_tools() {
	local name plus fortran
	cc[0]=$(type -P "${cc[0]}") # this one, not the one in $dir/bin
	plus=$(sed 's/clang/clang++/; s/gcc/g++/' <<<"${cc[0]##*/}")
	[[ $plus == *++* ]] || plus=c++
	wrap cc "${cc[@]}" "${cflags[@]}" -std=c99 -Wall -Wextra -Werror
	! plus=$(type -P "$plus") || wrap c++ "$plus" "${cflags[@]}" -Wall -Wextra -Wpedantic -Werror
	[[ $("${cc[0]}" --version) == *clang* && ${cflags[*]} ]] || ! fortran=$(type -P gfortran) ||
		wrap gfortran "$fortran" "${cflags[@]}" -Wall -Wextra -Werror
	for name in srun mpirun torchrun; do
		launcher >"$dir/bin/$name"
	done
	cat >"$dir/symm.pc" <<-END_OF_PC
		Name: symm
		Description: this build
		Version: 0
		Cflags: -I$source/include
		Libs: -L$library -Wl,-rpath,$library -lsymm
	END_OF_PC
	chmod +x "$dir"/bin/*
	PATH=$dir/bin:$build:$source/scripts:$PATH PKG_CONFIG_PATH=$dir
	export PATH PKG_CONFIG_PATH
}

# ---- pages ----

# extract PAGE: each display to $dir/PAGE/N, from 100 on, and the comment before it to $dir/PAGE/N.is
extract() {
	local out=$dir/${1##*/}.d
	mkdir "$out"
	awk -v out="$out/" '
		/^\.\\" / { is = substr($0, 5); next }
		/^\.Bd -literal/ { name = out (100 + n++); printf "" > name; print is > (name ".is"); inside = 1; next }
		/^\.Ed/ { inside = 0 }
		inside { gsub(/\\e/, "\\"); sub(/^\\&/, ""); print > name }
		{ is = "" }' "$1"
}

displays() { # PAGE
	find "$dir/$1.d" -name '[0-9]*[0-9]' | sort
}

compile() {
	cc -o "$2" "$1" "-I$source/include" "-L$library" "-Wl,-rpath,$library" -lsymm >&2
}

test_program() { # DISPLAY NAME
	cp "$1" "$1.c"
	ok "$2 compiles" compile "$1.c" "$1.out" && ok "$2 runs" "$symmrun" -n 2 --timeout 60 "$1.out"
}

quote() { # DISPLAY FILE
	cp "$1" "$dir/${2##*/}" && diff "$1" "$source/$2"
}

is_part() { # DISPLAY FILE
	[[ $(<"$source/$2") == *"$(<"$1")"* ]]
}

# Exports last from one block to the next. What is printed goes to $dir/printed.
run_block() { # DISPLAY
	{
		[ ! -f "$dir/exports" ] || cat "$dir/exports"
		printf 'set -e\ncd %q\n' "$dir"
		cat "$1"
		printf 'export -p >%q\n' "$dir/exports"
	} >"$dir/block"
	timeout --kill-after=5 $((60 * ${TAP_TIMEOUT_FACTOR:-1})) bash "$dir/block" >"$dir/printed" 2>&1
	local status=$?
	cat "$dir/printed"
	return "$status"
}

test_block() { # DISPLAY NAME WHAT
	: >"$dir/printed"
	why_not=''
	case $3 in
	'' | launchers) ;;
	C++) [ -x "$dir/bin/c++" ] || why_not="no C++ compiler" ;;
	Fortran) [ -x "$dir/bin/gfortran" ] || why_not="no gfortran that goes with this build" ;;
	GPUs) [ -e "$build/t/fake/libcuda.so.1" ] || why_not="no CUDA driver of the tests in this build" ;;
	*) why_not="nobody knows how to run it with $3" ;;
	esac
	if [[ $why_not ]]; then
		skip "$2" "$why_not"
	else
		SYMM_LIBCUDA=$build/t/fake/libcuda.so.1 ok "$2" run_block "$1"
	fi
}

why_not='' # why the last block to be run was not
test_display() { # DISPLAY NAME
	local is
	is=$(<"$1.is")
	case $is in
	t/examples/*) ok "$2 is $is" quote "$1" "$is" ;;
	run) test_block "$1" "$2: $(head -n 1 "$1")" '' ;;
	'run with '*) test_block "$1" "$2: $(head -n 1 "$1")" "${is#run with }" ;;
	prints) [[ $why_not ]] || ok "$2 was printed" is_printed "$1" ;;
	like | 'not run: '?*) ;;
	*) ok "$2 says what it is, not '$is'" false ;;
	esac
}

is_printed() { # DISPLAY
	local line
	while IFS= read -r line; do
		grep -Fxq -- "$line" "$dir/printed" || { echo "not printed: $line"; cat "$dir/printed"; return 1; }
	done <"$1"
}

program_of_readme() {
	sed -n '/^```c$/,/^```$/{/^```/d;p}' "$source/README.md"
}

# What needs nvcc and a GPU is not quoted: t/device_header.sh compiles it, t/gpu/run runs it.
not_quoted() {
	local file
	for file in "$source"/t/examples/*.*; do
		if [[ $file == *.cu ]]; then
			grep -qF "t/examples/${file##*/}" "$source/t/device_header.sh" || echo "$file: not compiled"
		else
			grep -qF ".\\\" t/examples/${file##*/}" "$source"/man/*.7 || echo "$file"
		fi
	done
}

# Those that symm-examples(7) lists; those of the tutorial are in the list too.
listed() {
	sed -n '/^\.Bl /,/^\.El/s/^\.It Pa //p' "$source/man/symm-examples.7" | sed 's/ , /\n/g' | sort
}

make_tools
for page in "${step_by_step[@]}"; do
	extract "$source/man/$page"
	for display in $(displays "$page"); do
		test_display "$display" "$page ${display##*/}"
	done
	rm -f "$dir/exports"
done
for page in "$source"/man/symm*.[37]; do
	page=${page##*/}
	[[ " ${step_by_step[*]} " != *" $page "* ]] || continue
	extract "$source/man/$page"
	for display in $(displays "$page"); do
		! grep -q 'int main(' "$display" || test_program "$display" "$page ${display##*/}"
		is=$(<"$display.is")
		[[ $is != 'from '* ]] || ok "$page ${display##*/} is $is" is_part "$display" "${is#from }"
	done
done
ok "README.md begins with hello.c" diff <(program_of_readme) "$source/t/examples/hello.c"
is_empty "every file in t/examples is in a page, or compiled elsewhere" "$(not_quoted)"
is "symm-examples(7) lists them all" "$(listed)" "$(cd "$source/t/examples" && printf '%s\n' *.* | sort)"
done_testing
