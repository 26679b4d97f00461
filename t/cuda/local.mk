# The kernels of tests, on a GPU: an array for cuModuleLoadData, as kernels/local.mk makes one of the library's. Without
# nvcc it is one that the fake driver alone takes.
check_LIBRARIES += t/libkernels.a
t_libkernels_a_SOURCES = t/cuda/calls.h t/cuda/kernels.h
EXTRA_DIST += t/cuda/nokernel.c
if NVCC
nodist_t_libkernels_a_SOURCES = t/cuda/fatbin.c
t/cuda/fatbin.c: t/cuda/kernels.cu t/cuda/calls.h t/cuda/kernels.h include/symm/device.cuh include/symm/view.h \
		$(kernel_headers) scripts/fatbin2c.sh
	$(AM_V_NVCC)$(MKDIR_P) t/cuda && $(SHELL) $(top_srcdir)/scripts/fatbin2c.sh $@ t/cuda/kernels.h test_kernels \
		'$(NVCC)' $(NVCC_ARCHS) -I$(top_srcdir) -I$(top_srcdir)/include $(top_srcdir)/t/cuda/kernels.cu
CLEANFILES += t/cuda/fatbin.c
else
nodist_t_libkernels_a_SOURCES = t/cuda/nokernel.c
endif
