kernel_sources = $(kernel_headers) kernels/entry.h kernels/payload.h kernels/sync.cu

libsymm_internal_la_SOURCES += kernels/entry.h kernels/payload.h
EXTRA_DIST += kernels/nokernel.c kernels/sync.cu scripts/fatbin2c.sh

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
		'$(NVCC)' $(NVCC_ARCHS) -I$(top_srcdir)/include $(top_srcdir)/kernels/sync.cu
CLEANFILES += kernels/fatbin.c
endif
