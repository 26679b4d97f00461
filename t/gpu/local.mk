# What is run on machines with GPUs, by t/gpu/run: built by make check, so that it stays whole, but not run by it.
gpu_programs = t/gpu/bench t/gpu/cycles t/gpu/death t/gpu/device_header t/gpu/hold t/gpu/litmus t/gpu/opens \
	t/gpu/waits
check_PROGRAMS += $(gpu_programs)
gpu_common = t/gpu/gpu.c t/gpu/gpu.h t/rig.h t/any_device.h
gpu_libraries = t/libtap.a t/libkernels.a libsymm-internal.la
t_gpu_bench_SOURCES = t/gpu/bench.c $(gpu_common)
t_gpu_bench_LDADD = $(gpu_libraries)
t_gpu_cycles_SOURCES = t/gpu/cycles.c $(gpu_common)
t_gpu_cycles_LDADD = $(gpu_libraries)
t_gpu_death_SOURCES = t/gpu/death.c $(gpu_common)
t_gpu_death_LDADD = $(gpu_libraries)
t_gpu_hold_LDADD = libsymm-internal.la
t_gpu_device_header_SOURCES = t/gpu/device_header.c $(gpu_common)
t_gpu_device_header_LDADD = $(gpu_libraries)
t_gpu_litmus_SOURCES = t/gpu/litmus.c $(gpu_common)
t_gpu_litmus_LDADD = $(gpu_libraries)
t_gpu_opens_SOURCES = t/gpu/opens.c $(gpu_common)
t_gpu_opens_LDADD = $(gpu_libraries)
t_gpu_waits_SOURCES = t/gpu/waits.c $(gpu_common)
t_gpu_waits_LDADD = $(gpu_libraries)

EXTRA_DIST += t/gpu/README t/gpu/run t/gpu/judge t/gpu/torch_ctypes.py t/gpu/torch_dlpack.py \
	t/gpu/torch_triton.py
