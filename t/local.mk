check_LIBRARIES += t/libtap.a
t_libtap_a_SOURCES = t/tap/ranks.c t/tap/redis.c t/tap/tap.c t/tap/tap.h

# One C file a test, linked with all of the library.
AM_DEFAULT_SOURCE_EXT = .c
LDADD = t/libtap.a libsymm-internal.la
c_tests = \
	t/ahead.t \
	t/alias.t \
	t/allocator.t \
	t/allocator_own.t \
	t/arguments.t \
	t/blame.t \
	t/copies.t \
	t/cuda_api.t \
	t/cuda_capture.t \
	t/cuda_context.t \
	t/cuda_copies.t \
	t/cuda_driver.t \
	t/cuda_failures.t \
	t/cuda_faults.t \
	t/cuda_stuck.t \
	t/cuda_world.t \
	t/device.t \
	t/device_cuda.t \
	t/device_host.t \
	t/device_view.t \
	t/fake.t \
	t/fake_misuse.t \
	t/faults.t \
	t/group.t \
	t/heap.t \
	t/hurry.t \
	t/keyspace.t \
	t/keyspace_redis.t \
	t/leaks.t \
	t/link.t \
	t/link_raw.t \
	t/listen.t \
	t/log.t \
	t/loop.t \
	t/memory.t \
	t/multicast.t \
	t/pads.t \
	t/pool.t \
	t/pool_ends.t \
	t/reach.t \
	t/rendezvous.t \
	t/restart.t \
	t/signals.t \
	t/span.t \
	t/stats.t \
	t/store.t \
	t/store_fake.t \
	t/subgroup.t \
	t/sync.t \
	t/sync_tsan.t \
	t/tensor.t \
	t/tensor_ends.t \
	t/trace.t \
	t/url.t \
	t/watch.t \
	t/wire.t
check_PROGRAMS += $(c_tests)
# Tests of several files.
# Where its last rank is held up.
t_ahead_t_SOURCES = t/ahead.c t/ask.h t/rig.h t/any_device.h
t_ahead_t_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=symm_cores \
	-Wl,--wrap=symm_exchange_begin \
	-Wl,--wrap=symm_keyspace_publish \
	-Wl,--wrap=symm_loop_hurry \
	-Wl,--wrap=symm_span_map
t_alias_t_SOURCES = t/alias.c t/ask.h t/rig.h t/any_device.h
t_allocator_t_SOURCES = t/allocator.c t/allocator_help.h t/ask.h t/cases.h t/rig.h t/any_device.h
t_allocator_own_t_SOURCES = t/allocator_own.c t/allocator_help.h t/ask.h t/cases.h t/rig.h t/any_device.h
t_arguments_t_SOURCES = t/arguments.c t/ask.h t/rig.h t/any_device.h
# The calls at which its ranks die or lack memory.
t_faults_t_SOURCES = t/faults.c t/ask.h t/rig.h t/any_device.h
t_faults_t_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=symm_block_create \
	-Wl,--wrap=symm_export_begin \
	-Wl,--wrap=symm_keyspace_join \
	-Wl,--wrap=symm_keyspace_members \
	-Wl,--wrap=symm_keyspace_poll \
	-Wl,--wrap=symm_keyspace_publish \
	-Wl,--wrap=symm_keyspace_vote \
	-Wl,--wrap=symm_lease_start \
	-Wl,--wrap=symm_link_get \
	-Wl,--wrap=symm_pull_begin \
	-Wl,--wrap=symm_pull_finish \
	-Wl,--wrap=symm_roster_get \
	-Wl,--wrap=symm_span_map \
	-Wl,--wrap=symm_view_make
t_hurry_t_SOURCES = t/hurry.c t/ask.h t/rig.h t/any_device.h
t_hurry_t_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=symm_cores
t_blame_t_SOURCES = t/blame.c t/rig.h t/any_device.h
t_copies_t_SOURCES = t/copies.c t/ask.h t/rig.h t/any_device.h
# They run on the fake driver, t/fake, or with SYMM_DEVICE=cuda on another.
t_cuda_capture_t_SOURCES = t/cuda_capture.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_cuda_context_t_SOURCES = t/cuda_context.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_cuda_copies_t_SOURCES = t/cuda_copies.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_cuda_driver_t_SOURCES = t/cuda_driver.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_cuda_failures_t_SOURCES = t/cuda_failures.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_cuda_faults_t_SOURCES = t/cuda_faults.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_cuda_stuck_t_SOURCES = t/cuda_stuck.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_cuda_world_t_SOURCES = t/cuda_world.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_device_t_SOURCES = t/device.c t/device_help.h t/any_device.h
t_cuda_api_t_CPPFLAGS = $(AM_CPPFLAGS) -idirafter /usr/local/cuda/include
t_device_cuda_t_SOURCES = t/device_cuda.c t/device_help.h t/any_device.h
t_device_host_t_SOURCES = t/device_host.c t/device_help.h t/any_device.h
t_device_view_t_SOURCES = t/device_view.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_device_view_t_LDADD = t/libtap.a t/libkernels.a libsymm-internal.la
EXTRA_DIST += t/device_header.cc t/device_user.cu t/device_words.cu t/nvrtc.c
t_fake_t_SOURCES = t/fake.c t/fake_help.h t/fake/control.h
t_fake_misuse_t_SOURCES = t/fake_misuse.c t/fake_help.h t/fake/control.h
t_group_t_SOURCES = t/group.c t/ask.h t/rig.h t/any_device.h
t_keyspace_t_SOURCES = t/keyspace.c t/keyspace_help.c t/keyspace_help.h
t_keyspace_redis_t_SOURCES = t/keyspace_redis.c t/keyspace_help.c t/keyspace_help.h
t_leaks_t_SOURCES = t/leaks.c t/ask.h t/rig.h t/any_device.h
# Its clock can be set.
t_log_t_SOURCES = t/log.c t/ask.h t/rig.h t/any_device.h
t_log_t_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=symm_now
t_memory_t_SOURCES = t/memory.c t/ask.h t/cases.h t/rig.h t/any_device.h
t_pads_t_SOURCES = t/pads.c t/ask.h t/cases.h t/rig.h t/any_device.h
# The places at which its ranks die or stop.
t_multicast_t_SOURCES = t/multicast.c t/cuda_help.h t/ask.h t/rig.h t/any_device.h
t_multicast_t_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=symm_keyspace_publish \
	-Wl,--wrap=symm_keyspace_vote
t_pool_t_SOURCES = t/pool.c t/pool_help.h t/cuda_help.h t/ask.h t/cases.h t/rig.h t/any_device.h
t_pool_t_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=symm_heap_create
t_pool_ends_t_SOURCES = t/pool_ends.c t/pool_help.h t/ask.h t/cases.h t/rig.h t/any_device.h
t_rendezvous_t_SOURCES = t/rendezvous.c t/ask.h t/rig.h t/any_device.h
# The host device pretends to be others.
t_reach_t_SOURCES = t/reach.c t/ask.h t/rig.h t/any_device.h
t_reach_t_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=symm_device_open \
	-Wl,--wrap=symm_keyspace_offers
t_restart_t_SOURCES = t/restart.c t/ask.h t/rig.h t/any_device.h
t_subgroup_t_SOURCES = t/subgroup.c t/ask.h t/cases.h t/rig.h t/any_device.h
t_signals_t_SOURCES = t/signals.c t/ask.h t/rig.h t/any_device.h
t_tensor_t_SOURCES = t/tensor.c t/tensor_help.h t/ask.h t/cases.h t/rig.h t/any_device.h
t_tensor_ends_t_SOURCES = t/tensor_ends.c t/tensor_help.h t/ask.h t/cases.h t/rig.h t/any_device.h
t_stats_t_SOURCES = t/stats.c t/ask.h t/rig.h t/any_device.h
t_trace_t_SOURCES = t/trace.c t/nvtx/tool.h t/ask.h t/rig.h t/any_device.h
t_watch_t_SOURCES = t/watch.c t/ask.h t/rig.h t/any_device.h
t_listen_t_SOURCES = t/listen.c t/sync_cases.h
t_sync_t_SOURCES = t/sync.c t/sync_cases.h
t_sync_t_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=clock_gettime
t_sync_tsan_t_SOURCES = t/sync_tsan.c t/sync_cases.h

dist_check_SCRIPTS += \
	t/cuda.sh \
	t/device_header.sh \
	t/documented.sh \
	t/errors.sh \
	t/examples.sh \
	t/exports.sh \
	t/headers.sh \
	t/html.sh \
	t/install.sh \
	t/numpy.sh \
	t/pages.sh \
	t/python.sh \
	t/symmrun.sh \
	t/tool.sh

# Quoted by the pages, and installed beside them.
examplesdir = $(docdir)/examples
dist_examples_DATA = t/examples/allgather_fused.cu t/examples/around.cc t/examples/halo.c t/examples/hello.c t/examples/missing.c t/examples/owners.cc \
	t/examples/persistent.c t/examples/ring.c t/examples/ring.f90 t/examples/symm.f90 t/examples/words.f90

EXTRA_DIST += t/python/exit.py t/python/run.py t/python/world.py t/python/test_abi.py t/python/test_errors.py \
	t/python/test_group.py t/python/test_page.py t/python/test_sync.py t/python/test_tensor.py t/python/test_words.py
EXTRA_DIST += t/results/2026-11-22-host.txt t/results/2026-11-22-h200.txt t/bench/compare.sh t/bench/mpi_barrier.c t/bench/pingpong.c t/README t/exports.expected t/numpy.py t/tap/tap.sh

TESTS += $(c_tests) $(dist_check_SCRIPTS)
TEST_EXTENSIONS = .t .sh
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
T_LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_DRIVER = $(TAP_DRIVER)
# A test that hangs says so by its exit status, 124.
TEST_TIMEOUT = 300
HURRY = timeout --foreground --kill-after=5 $(TEST_TIMEOUT)
T_LOG_COMPILER = $(HURRY)
SH_LOG_COMPILER = $(HURRY) bash
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' \
	PATH='$(abs_top_builddir):$(abs_top_srcdir)/scripts':"$$PATH" \
	CC='$(CC)' NM='$(NM)' MANDOC='$(MANDOC)' PYTHON='$(PYTHON)' SYMM_TEST_VERSION='$(PACKAGE_VERSION)' \
	SYMM_TEST_CPPFLAGS='$(HIREDIS_CFLAGS) $(EVENT_CFLAGS) $(OPENSSL_CFLAGS)' \
	SYMM_TEST_CFLAGS='$(SANITIZER_FLAGS)'; \
	export top_srcdir top_builddir PATH CC NM MANDOC PYTHON SYMM_TEST_VERSION SYMM_TEST_CPPFLAGS SYMM_TEST_CFLAGS;

check-strict:
	SYMM_HOST_STRICT=1 $(MAKE) $(AM_MAKEFLAGS) check

# Those that open the device that SYMM_DEVICE names, on the fake driver, with its work late at random.
device_tests = \
	t/ahead.t \
	t/alias.t \
	t/allocator.t \
	t/allocator_own.t \
	t/arguments.t \
	t/blame.t \
	t/copies.t \
	t/cuda_capture.t \
	t/cuda_context.t \
	t/cuda_copies.t \
	t/cuda_driver.t \
	t/cuda_failures.t \
	t/cuda_faults.t \
	t/cuda_stuck.t \
	t/cuda_world.t \
	t/device.t \
	t/device_view.t \
	t/faults.t \
	t/group.t \
	t/leaks.t \
	t/log.t \
	t/memory.t \
	t/pads.t \
	t/pool.t \
	t/pool_ends.t \
	t/python.sh \
	t/rendezvous.t \
	t/restart.t \
	t/signals.t \
	t/stats.t \
	t/subgroup.t \
	t/tensor.t \
	t/tensor_ends.t \
	t/trace.t \
	t/watch.t
check-fake:
	SYMM_DEVICE=cuda SYMM_LIBCUDA='$(abs_top_builddir)/t/fake/libcuda.so.1' SYMM_REQUIRE_GPU=1 SYMM_FAKE_SEED=1 \
		SYMM_TEST_DIVISOR=5 $(MAKE) $(AM_MAKEFLAGS) check TESTS='$(device_tests)'

# A build of its own: this one has other flags.
check-tsan:
	$(MKDIR_P) tsan
	test -f tsan/Makefile || (cd tsan && $(abs_top_srcdir)/configure --enable-sanitizer=thread CC='$(CC)')
	cd tsan && TAP_TIMEOUT_FACTOR=5 $(MAKE) $(AM_MAKEFLAGS) check TEST_TIMEOUT=1200
distclean-local:
	rm -rf tsan

# Tests that do not depend on speed. A rank is a child, so children are traced; a redis-server is not.
valgrind_tests = t/arguments.t t/keyspace.t t/link.t t/loop.t t/memory.t t/rendezvous.t t/store.t t/tensor.t t/url.t t/wire.t
VALGRIND_COMMAND = $(VALGRIND) --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
	--trace-children=no
check-valgrind:
	TAP_TIMEOUT_FACTOR=20 $(MAKE) $(AM_MAKEFLAGS) check TESTS='$(valgrind_tests)' T_LOG_COMPILER='$(VALGRIND_COMMAND)'

.PHONY: check-fake check-strict check-tsan check-valgrind
