# SYMM_PYTHON: the interpreter that the package of python/ is for, and where that goes. Sets PYTHON ("no": none) and
# pythondir, the conditional PYTHON, and symm_python (words).
AC_DEFUN([SYMM_PYTHON], [
AM_PATH_PYTHON([3.9], [], [PYTHON=no])
AM_CONDITIONAL([PYTHON], [test "$PYTHON" != no])
symm_python="no: without 3.9 or later, package symm for Python is not installed"
AS_IF([test "$PYTHON" != no], [SYMM_PYTHON_DIR])
])

# AM_PATH_PYTHON's folder is under the prefix, and Debian's Python does not look there: if the interpreter has a folder
# of its own under the prefix, that is taken.
AC_DEFUN([SYMM_PYTHON_DIR], [
symm_python_own=`"$PYTHON" -c 'import sys, sysconfig; path, prefix = sysconfig.get_path("purelib"), sys.argv@<:@1@:>@
if path.startswith(prefix + "/"): print(path.replace(prefix, "", 1))' "$am__usable_prefix"`
AS_IF([test -n "$symm_python_own" && test -z "$with_python_prefix$with_python_sys_prefix"],
	[pythondir="\${prefix}$symm_python_own"])
symm_python_where=`prefix=$am__usable_prefix; eval "PYTHON_PREFIX=$am_python_prefix_subst"; eval "echo $pythondir"`
symm_python="$PYTHON $PYTHON_VERSION, package symm in $symm_python_where"
AS_IF(["$PYTHON" -c 'import sys; sys.exit(sys.argv@<:@1@:>@ in sys.path)' "$symm_python_where"],
	[symm_python="$symm_python, which PYTHONPATH has to name"])
])
