# SYMM_NVTX: whether NVTX ranges can be compiled, for which nvtx3/nvToolsExt.h of a CUDA toolkit is needed, and nothing
# to link. Sets NVTX_CPPFLAGS, the conditional NVTX, and symm_nvtx (words). After SYMM_NVCC.
AC_DEFUN([SYMM_NVTX], [
AC_ARG_WITH([nvtx], [AS_HELP_STRING([--with-nvtx@<:@=FOLDER@:>@],
	[make NVTX ranges, with FOLDER/nvtx3/nvToolsExt.h; --without-nvtx: none])], [], [with_nvtx=check])
AC_MSG_CHECKING([for nvtx3/nvToolsExt.h])
AS_IF([test "$NVCC" != no], [symm_nvcc_include=`dirname "$NVCC"`/../include], [symm_nvcc_include=])
AS_CASE([$with_nvtx],
	[no], [symm_nvtx_folders=],
	[yes|check], [symm_nvtx_folders="none ${CUDA_HOME:+$CUDA_HOME/include} $symm_nvcc_include /usr/local/cuda/include"],
	[symm_nvtx_folders=$with_nvtx])
symm_nvtx=no
NVTX_CPPFLAGS=
symm_cppflags=$CPPFLAGS
for symm_folder in $symm_nvtx_folders; do
	AS_IF([test "$symm_folder" = none], [symm_flags=], [symm_flags="-idirafter $symm_folder"])
	CPPFLAGS="$symm_cppflags $symm_flags"
	AS_IF([test "$symm_nvtx" = no], [AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <nvtx3/nvToolsExt.h>]],
		[[return nvtxDomainCreateA("") != 0;]])], [symm_nvtx=yes NVTX_CPPFLAGS=$symm_flags])])
done
CPPFLAGS=$symm_cppflags
AC_MSG_RESULT([$symm_nvtx${NVTX_CPPFLAGS:+, $NVTX_CPPFLAGS}])
AS_IF([test "$symm_nvtx" = no && test "$with_nvtx" != no && test "$with_nvtx" != check],
	[AC_MSG_ERROR([no nvtx3/nvToolsExt.h that compiles in $symm_nvtx_folders; see config.log])])
AM_CONDITIONAL([NVTX], [test "$symm_nvtx" = yes])
AC_SUBST([NVTX_CPPFLAGS])
AS_IF([test "$symm_nvtx" = no],
	[symm_nvtx="none: without nvtx3/nvToolsExt.h, calls are no ranges for profilers"])
])
