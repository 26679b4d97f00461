kernel_sources = \
	kernels/atomic_cuda.h \
	kernels/entry.h \
	kernels/layout.h \
	kernels/sync.cu \
	kernels/sync.h \
	kernels/wait_cuda.h

libsymm_internal_la_SOURCES += \
	kernels/atomic.h \
	kernels/entry.h \
	kernels/layout.h \
	kernels/sync.h \
	kernels/wait.h
EXTRA_DIST += kernels/atomic_cuda.h kernels/nokernel.c kernels/sync.cu kernels/wait_cuda.h scripts/fatbin2c.sh

# The kernels as a C array. A tarball carries it, if it was made where nvcc is, and then nobody else needs nvcc.
if KERNELS
nodist_libsymm_internal_la_SOURCES = kernels/fatbin.c
EXTRA_DIST += kernels/fatbin.c
else
nodist_libsymm_internal_la_SOURCES = kernels/nokernel.c
endif

if NVCC
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
kernels/fatbin.c: $(kernel_sources) scripts/fatbin2c.sh
	$(AM_V_NVCC)$(MKDIR_P) kernels && $(SHELL) $(top_srcdir)/scripts/fatbin2c.sh $@ device/cuda.h symm_cuda_fatbin \
		'$(NVCC)' $(NVCC_ARCHS) $(top_srcdir)/kernels/sync.cu
CLEANFILES += kernels/fatbin.c
endif
