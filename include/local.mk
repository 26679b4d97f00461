pkginclude_HEADERS = \
	include/symm/allocator.h \
	include/symm/device.cuh \
	include/symm/dlpack.h \
	include/symm/pool.h \
	include/symm/symm.h \
	include/symm/tensor.h \
	include/symm/view.h

# The algorithms of synchronisation, which the library and users' kernels share.
kernelincludedir = $(pkgincludedir)/kernel
kernel_headers = \
	include/symm/kernel/atomic.h \
	include/symm/kernel/atomic_cuda.h \
	include/symm/kernel/layout.h \
	include/symm/kernel/sync.h \
	include/symm/kernel/types.h \
	include/symm/kernel/wait.h \
	include/symm/kernel/wait_cuda.h
kernelinclude_HEADERS = $(kernel_headers)
