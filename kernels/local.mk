libsymm_internal_la_SOURCES += \
	kernels/atomic.h \
	kernels/sync.h \
	kernels/wait.h
