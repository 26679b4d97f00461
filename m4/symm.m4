# SYMM_LIBRARY(VARIABLE, MODULES, DEBIAN-PACKAGE): a library that symm cannot do without.
AC_DEFUN([SYMM_LIBRARY], [
PKG_CHECK_MODULES([$1], [$2], [],
	[AC_MSG_ERROR([$2 not found by pkg-config (Debian: $3)
$$1[]_PKG_ERRORS])])
])

# The warnings are for AM_CFLAGS alone: CFLAGS belongs to whoever builds.
AC_DEFUN([SYMM_WARNINGS], [
AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [compiler warnings are errors])])
WARN_CFLAGS="-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla"
# Two warnings of gcc that this code's habits set off: texts for people are cut to fit, on purpose; and an output is
# written on success only, where gcc cannot know that symm_error() returns no 0. clang has neither.
AS_IF([test "x$GCC" = xyes && ! $CC --version | grep -q clang],
	[WARN_CFLAGS="$WARN_CFLAGS -Wno-format-truncation -Wno-maybe-uninitialized"])
AS_IF([test "x$enable_werror" = xyes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
AC_SUBST([WARN_CFLAGS])
])

# A sanitizer's run-time library is in the program, so a shared library cannot be linked with -z defs then.
AC_DEFUN([SYMM_SANITIZER], [
AC_ARG_ENABLE([sanitizer], [AS_HELP_STRING([--enable-sanitizer=LIST],
	[build with -fsanitize=LIST: address,undefined or thread])], [symm_sanitizer=$enableval])
AS_CASE([$symm_sanitizer],
	[""|no], [symm_sanitizer=
		LIBRARY_LDFLAGS="-Wl,-z,defs"],
	[yes], [AC_MSG_ERROR([--enable-sanitizer wants a list, as in --enable-sanitizer=address,undefined])],
	[SANITIZER_FLAGS="-fsanitize=$symm_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"])
AC_SUBST([SANITIZER_FLAGS])
AC_SUBST([LIBRARY_LDFLAGS])
])
