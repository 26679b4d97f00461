# A tool for NVTX ranges, as a profiler brings one: NVTX_INJECTION64_PATH=t/nvtx/libnvtxtool.so. A program to automake, a
# shared library to the linker, like t/fake.
if NVTX
check_PROGRAMS += t/nvtx/libnvtxtool.so
t_nvtx_libnvtxtool_so_SOURCES = t/nvtx/tool.c t/nvtx/tool.h
t_nvtx_libnvtxtool_so_CFLAGS = $(AM_CFLAGS) -fPIC
t_nvtx_libnvtxtool_so_LDADD =
t_nvtx_libnvtxtool_so_LINK = $(CCLD) $(AM_CFLAGS) $(CFLAGS) $(AM_LDFLAGS) $(LDFLAGS) -shared $(LIBRARY_LDFLAGS) -o $@
endif
