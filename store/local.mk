lua_scripts = \
	store/lua/decide.lua \
	store/lua/fail.lua \
	store/lua/join.lua \
	store/lua/leave.lua \
	store/lua/members.lua \
	store/lua/missing.lua \
	store/lua/publish.lua \
	store/lua/refresh.lua \
	store/lua/roster.lua \
	store/lua/vote.lua

libsymm_internal_la_SOURCES += \
	store/command.c \
	store/connection.c \
	store/keyspace.c store/keyspace.h \
	store/keyspace_group.c \
	store/keyspace_internal.h \
	store/keyspace_operator.c \
	store/keyspace_rendezvous.c \
	store/lookup.c \
	store/redis.c \
	store/redis_internal.h \
	store/reply.c \
	store/request.c \
	store/scripts.c store/scripts.h \
	store/store.h \
	store/tls.c store/tls.h \
	store/url.c store/url.h

# Made where the build is; a tarball carries it.
store/scripts.c: $(lua_scripts) scripts/lua2c.sh
	$(AM_V_GEN)$(MKDIR_P) store && $(SHELL) $(top_srcdir)/scripts/lua2c.sh $(lua_scripts:%=$(top_srcdir)/%) >$@.tmp && mv $@.tmp $@
BUILT_SOURCES += store/scripts.c
CLEANFILES += store/scripts.c store/scripts.c.tmp
EXTRA_DIST += $(lua_scripts)
