# A CUDA driver on memfd, for tests: SYMM_LIBCUDA=t/fake/libcuda.so.1. It is opened by its path and never installed: a
# program to automake, a shared library to the linker. Its threads outlive dlclose.
check_PROGRAMS += t/fake/libcuda.so.1
t_fake_libcuda_so_1_SOURCES = \
	t/cuda/calls.h \
	t/cuda/kernels.h \
	t/fake/capture.c \
	t/fake/context.c \
	t/fake/control.h \
	t/fake/copy.c \
	t/fake/device.c \
	t/fake/driver.c \
	t/fake/event.c \
	t/fake/fake.h \
	t/fake/kernels.c \
	t/fake/linear.c \
	t/fake/memory.c \
	t/fake/multicast.c \
	t/fake/object.c \
	t/fake/stream.c
t_fake_libcuda_so_1_CFLAGS = $(AM_CFLAGS) -fPIC
t_fake_libcuda_so_1_LDADD =
t_fake_libcuda_so_1_LINK = $(CCLD) $(AM_CFLAGS) $(CFLAGS) $(AM_LDFLAGS) $(LDFLAGS) -shared $(LIBRARY_LDFLAGS) \
	-Wl,-soname,libcuda.so.1 -Wl,-z,nodelete -o $@
EXTRA_DIST += t/cuda/kernels.cu
