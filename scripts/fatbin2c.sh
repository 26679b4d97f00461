#!/bin/sh
# fatbin2c.sh OUT.c HEADER ARRAY NVCC [OPTION...] FILE.cu: compiles kernels, writes the fatbin as the C array that the
# header declares, and its size as ARRAY_bytes. Fails if a kernel wants a stack or spills registers: kernels that wait
# shall touch no memory but the words that they wait for.
set -eu
out=$1 header=$2 array=$3
shift 3
work=$out.tmp
trap 'rm -rf "$work"' EXIT
rm -rf "$work"
mkdir "$work"

"$@" -fatbin --no-compress -Xptxas -v,-warn-spills -o "$work/fatbin" >"$work/log" 2>&1 || {
	cat "$work/log" >&2
	exit 1
}
awk '
	/Compiling entry function/ { kernel = $0; kernels++ }
	/bytes stack frame/ {
		checked++
		if ($0 !~ /^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/) {
			print kernel "\n" $0
			bad = 1
		}
	}
	END {
		if (kernels == 0 || checked < kernels) {
			print "ptxas did not report on all kernels"
			bad = 1
		}
		exit bad
	}' "$work/log" >&2 || {
	echo "fatbin2c.sh: a kernel wants a stack or spills registers" >&2
	exit 1
}

bytes=$(wc -c <"$work/fatbin")
{
	echo "/* Kernels, made by scripts/fatbin2c.sh. */"
	echo "#include \"$header\""
	echo
	echo "const unsigned char ${array}[] __attribute__((aligned(16))) = {"
	od -An -v -tu1 "$work/fatbin" | sed -e 's/^ *//' -e 's/  */,/g' -e 's/$/,/'
	echo "};"
	echo "const size_t ${array}_bytes = $((bytes));"
} >"$work/c"
mv "$work/c" "$out"
