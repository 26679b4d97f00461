# The package for Python. Nothing of it is compiled; it is told where the library is installed.
if PYTHON
# Beside those in C.
python_examplesdir = $(docdir)/examples
dist_python_examples_DATA = python/examples/ring.py python/examples/torch_stream.py
symm_pythondir = $(pythondir)/symm
dist_symm_python_DATA = \
	python/symm/__init__.py \
	python/symm/_capsule.py \
	python/symm/_context.py \
	python/symm/_dlpack.py \
	python/symm/_errors.py \
	python/symm/_handle.py \
	python/symm/_library.py \
	python/symm/_mem.py \
	python/symm/_memory.py \
	python/symm/_stream.py \
	python/symm/_tensor.py \
	python/symm/py.typed
nodist_symm_python_DATA = python/symm/_config.py
endif

python/symm/_config.py: Makefile
	$(AM_V_GEN)$(MKDIR_P) python/symm && echo 'LIBRARY = "$(libdir)/libsymm.so.0"' >$@
CLEANFILES += python/symm/_config.py

# What Python has compiled, and the folder.
uninstall-hook:
	test -z '$(symm_pythondir)' || rm -rf '$(DESTDIR)$(symm_pythondir)'
