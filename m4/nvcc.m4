# SYMM_NVCC: whether the GPU's kernels can be compiled here. Sets NVCC and NVCC_ARCHS (the compiler's options), the
# conditionals NVCC (compile them) and KERNELS (compile them, or take what a tarball carries), and symm_kernels (words).
AC_DEFUN([SYMM_NVCC], [
AC_ARG_WITH([nvcc], [AS_HELP_STRING([--with-nvcc@<:@=PATH@:>@],
	[compile the GPU's kernels with this nvcc, of CUDA 12 or 13; --without-nvcc: with none])], [], [with_nvcc=check])
symm_nvcc_path=$PATH$PATH_SEPARATOR${CUDA_HOME:+$CUDA_HOME/bin$PATH_SEPARATOR}/usr/local/cuda/bin
AS_CASE([$with_nvcc],
	[no], [NVCC=no],
	[yes|check], [AC_PATH_PROG([NVCC], [nvcc], [no], [$symm_nvcc_path])],
	[NVCC=$with_nvcc])
AS_IF([test "$NVCC" != no], [SYMM_NVCC_WORKS])
AS_IF([test "$NVCC" = no && test "$with_nvcc" != no && test "$with_nvcc" != check],
	[AC_MSG_ERROR([no nvcc that can compile the kernels: ${symm_nvcc_why:-not found}; see config.log])])
symm_kernels="none${symm_nvcc_why:+ ($symm_nvcc_why)}: without nvcc, CUDA devices cannot be opened"
AS_IF([test "$NVCC" != no],
		[symm_kernels="$symm_nvcc_archs compute_80, by $NVCC $symm_nvcc_version"],
	[test -f "$srcdir/kernels/fatbin.c"],
		[symm_kernels="as the tarball carries them"])
AM_CONDITIONAL([NVCC], [test "$NVCC" != no])
AM_CONDITIONAL([KERNELS], [test "$NVCC" != no || test -f "$srcdir/kernels/fatbin.c"])
AC_SUBST([NVCC_ARCHS])
])

# Machine code for those of our GPUs that this nvcc knows, and PTX for all others.
AC_DEFUN([SYMM_NVCC_WORKS], [
symm_nvcc_version=`"$NVCC" --version 2>&AS_MESSAGE_LOG_FD | sed -n 's/.*release \(@<:@0-9.@:>@*\).*/\1/p'`
symm_nvcc_archs=
NVCC_ARCHS="-gencode arch=compute_80,code=compute_80"
for symm_arch in 80 90 100 120; do
	AS_IF(["$NVCC" --list-gpu-code 2>&AS_MESSAGE_LOG_FD | grep -qx "sm_$symm_arch"],
		[symm_nvcc_archs="$symm_nvcc_archs${symm_nvcc_archs:+ }sm_$symm_arch"
		NVCC_ARCHS="$NVCC_ARCHS -gencode arch=compute_$symm_arch,code=sm_$symm_arch"])
done
AC_MSG_CHECKING([whether $NVCC can compile kernels])
AS_ECHO(['extern "C" __global__ void symm_trial(int *out) { *out = 1; }']) >conftest.cu
AS_CASE([$symm_nvcc_version],
	[12.*|13.*], [AS_IF(["$NVCC" -fatbin --no-compress $NVCC_ARCHS -o conftest.fatbin conftest.cu \
			>&AS_MESSAGE_LOG_FD 2>&1],
		[symm_nvcc_why=], [symm_nvcc_why="$NVCC cannot compile"])],
	[symm_nvcc_why="$NVCC is release ${symm_nvcc_version:-unknown}, not 12 or 13"])
rm -f conftest.cu conftest.fatbin
AS_IF([test -z "$symm_nvcc_why"], [AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no: $symm_nvcc_why])
NVCC=no])
])
