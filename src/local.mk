# All of the library, with its inner functions reachable: what the tests and symm(1) link. libsymm.so is it behind the map.
noinst_LTLIBRARIES += libsymm-internal.la
libsymm_internal_la_LIBADD = $(HIREDIS_LIBS) $(EVENT_LIBS) $(OPENSSL_LIBS)
libsymm_internal_la_SOURCES = \
	src/alloc.c src/alloc.h \
	src/allocator.c src/allocator.h \
	src/arena.c src/arena.h \
	src/await.c src/await.h \
	src/base.c src/base.h \
	src/builtin.h \
	src/capsule.c \
	src/context.c src/context.h \
	src/copy.c \
	src/device.c src/device.h \
	src/device/cuda.c src/device/cuda.h \
	src/device/cuda_api.h \
	src/device/cuda_driver.c \
	src/device/cuda_errand.c \
	src/device/cuda_memory.c \
	src/device/cuda_multicast.c \
	src/device/cuda_small.c \
	src/device/cuda_stream.c \
	src/device/host.c src/device/host.h \
	src/device/host_stream.c \
	src/dispatch.c \
	src/doing.c src/doing.h \
	src/error.c src/error.h \
	src/exchange.c src/exchange.h \
	src/exports.c src/exports.h \
	src/fork.c src/fork.h \
	src/group.c src/group.h \
	src/group_query.c \
	src/handle.c src/handle.h \
	src/heap.c src/heap.h \
	src/join.c src/join.h \
	src/journal.c src/journal.h \
	src/launch.c src/launch.h \
	src/lease.c src/lease.h \
	src/link.c src/link.h \
	src/link_endpoint.c \
	src/link_internal.h \
	src/link_process.c \
	src/link_pull.c \
	src/link_socket.c \
	src/log.c src/log.h \
	src/loop.c src/loop.h \
	src/mem.c \
	src/memory.c src/memory.h \
	src/multicast.c src/multicast.h \
	src/nvtx.h \
	src/piece.c src/piece.h \
	src/pool.c src/pool.h \
	src/reach.c src/reach.h \
	src/release.c src/release.h \
	src/rendezvous.c \
	src/roster.c src/roster.h \
	src/stats.c src/stats.h \
	src/stream.c src/stream.h \
	src/subgroup.c \
	src/sync.c src/sync.h \
	src/tensor.c \
	src/trace.c src/trace.h \
	src/view.c src/view.h \
	src/watch.c src/watch.h \
	src/wire.c src/wire.h

if NVTX
libsymm_internal_la_SOURCES += src/nvtx.c
else
libsymm_internal_la_SOURCES += src/nonvtx.c
endif

lib_LTLIBRARIES += libsymm.la
libsymm_la_SOURCES =
libsymm_la_LIBADD = libsymm-internal.la
libsymm_la_LDFLAGS = $(AM_LDFLAGS) $(LIBRARY_LDFLAGS) -version-info 0:0:0 \
	-Wl,--version-script=$(top_srcdir)/src/libsymm.map
libsymm_la_DEPENDENCIES = libsymm-internal.la src/libsymm.map
EXTRA_DIST += src/libsymm.map

pkgconfigdir = $(libdir)/pkgconfig
nodist_pkgconfig_DATA = src/symm.pc

bin_PROGRAMS += symm
symm_LDADD = libsymm-internal.la
symm_SOURCES = \
	src/device/cuda_probe.c src/device/cuda_probe.h \
	src/tool/bench.c src/tool/bench.h \
	src/tool/bench_cuda.c \
	src/tool/bench_ops.c \
	src/tool/bench_pool.c \
	src/tool/connect.c src/tool/connect.h \
	src/tool/doctor.c src/tool/doctor.h \
	src/tool/doctor_cuda.c \
	src/tool/doctor_host.c \
	src/tool/doctor_store.c \
	src/tool/group.c \
	src/tool/info.c \
	src/tool/cuda_info.c src/tool/cuda_info.h \
	src/tool/json.c src/tool/json.h \
	src/tool/main.c \
	src/tool/tool.h
