#include "context.h"

#include "base.h"
#include "fork.h"
#include "group.h"
#include "handle.h"
#include "keyspace.h"
#include "launch.h"
#include "link.h"
#include "log.h"
#include "release.h"
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int finalizing;

static void at_exit(void)
{
	__atomic_store_n(&finalizing, 1, __ATOMIC_RELAXED);
}

int symm_is_finalizing(void)
{
	return __atomic_load_n(&finalizing, __ATOMIC_RELAXED);
}

const char *symm_version(void)
{
	return PACKAGE_VERSION;
}

static int timeout(int64_t otherwise_ms, int64_t timeout_ms, int64_t *ns)
{
	if (timeout_ms < 0)
		return symm_error(SYMM_EINVAL,
				  "timeout_ms is %lld: it must be positive, or 0 for the context's default",
				  (long long)timeout_ms);
	if (timeout_ms == 0)
		timeout_ms = otherwise_ms;
	*ns = timeout_ms < INT64_MAX / 2 / SYMM_NS_PER_MS ? timeout_ms * SYMM_NS_PER_MS : INT64_MAX / 2;
	return 0;
}

int symm_deadline(int64_t otherwise_ms, int64_t timeout_ms, int64_t *deadline)
{
	int64_t ns = 0;
	int rc = timeout(otherwise_ms, timeout_ms, &ns);

	if (rc == 0)
		*deadline = symm_now() + ns;
	return rc;
}

int symm_context_deadline(const struct context *context, int64_t timeout_ms, int64_t *deadline)
{
	return symm_deadline(context->timeout_ms, timeout_ms, deadline);
}

int symm_context_timeout(const struct context *context, int64_t timeout_ms, int64_t *ns)
{
	return timeout(context->timeout_ms, timeout_ms, ns);
}

static int check_rank(const struct context *context)
{
	if (context->world_size != SYMM_AUTO && context->world_size < 1)
		return symm_error(SYMM_EINVAL, "world size %d: it must be 1 or more", context->world_size);
	if (context->rank < SYMM_AUTO || (context->world_size != SYMM_AUTO && context->rank >= context->world_size))
		return symm_error(SYMM_EINVAL, "rank %d is not in the world of size %d", context->rank,
				  context->world_size);
	return 0;
}

/* What the options say, else what the environment says. *url: the store's. */
static int configure(struct context *context, const struct symm_options *options, const char **url)
{
	struct symm_launch launch;
	const char *device = options->device != NULL ? options->device : getenv("SYMM_DEVICE");
	int rc;

	if ((rc = symm_launch_check()) != 0 || (rc = symm_launch_read(&launch)) != 0)
		return rc;
	context->rank = options->rank != SYMM_AUTO ? options->rank : launch.rank;
	context->world_size = options->world_size != SYMM_AUTO ? options->world_size : launch.world_size;
	context->local_rank = options->local_rank != SYMM_AUTO ? options->local_rank : launch.local_rank;
	snprintf(context->job, sizeof(context->job), "%s", options->job != NULL ? options->job : launch.job);
	snprintf(context->device_name, sizeof(context->device_name), "%s",
		 device != NULL && *device != '\0' ? device : "host");
	*url = options->url != NULL ? options->url : getenv("SYMM_URL");
	if (*url == NULL || **url == '\0')
		return symm_error(SYMM_EINVAL, "no store: give options.url or set SYMM_URL, for example "
					       "redis://127.0.0.1:6379, or start under symmrun");
	if (options->job != NULL && strlen(options->job) > SYMM_NAME_MAX)
		return symm_error(SYMM_EINVAL, "the job name is longer than %d characters", SYMM_NAME_MAX);
	if ((rc = symm_name_check("job", context->job)) != 0 || (rc = check_rank(context)) != 0)
		return rc;
	if (options->timeout_ms < 0 || options->lease_ms < 0 || options->lease_ms > SYMM_LAUNCH_MS_MAX)
		return symm_error(SYMM_EINVAL,
				  "timeout_ms and lease_ms may not be negative, nor lease_ms more than %lld",
				  SYMM_LAUNCH_MS_MAX);
	if ((rc = symm_launch_ms("SYMM_TIMEOUT_MS", 60000, &context->timeout_ms)) != 0 ||
	    (rc = symm_launch_ms("SYMM_LEASE_MS", 10000, &context->lease_ms)) != 0)
		return rc;
	if ((rc = symm_launch_flag("SYMM_SHARE_DEVICE", &context->share_device)) != 0)
		return rc;
	context->share_device |= options->share_device != 0;
	if (options->timeout_ms > 0)
		context->timeout_ms = options->timeout_ms;
	if (options->lease_ms > 0)
		context->lease_ms = options->lease_ms;
	return 0;
}

static int start_device(struct context *context)
{
	const struct symm_device_wish wish = { .text = context->device_name,
					       .local_rank = context->local_rank,
					       .share = context->share_device };
	int rc = symm_device_open(&wish, &context->device);

	if (rc == 0)
		context->device->ops->identify(context->device, &context->device_id);
	return rc;
}

static int context_start(struct context *context, const char *url)
{
	int64_t deadline;
	int rc;

	if ((rc = symm_fork_arm()) != 0 || (rc = start_device(context)) != 0)
		return rc;
	/* A GPU takes as long as it takes to open; the deadline is the store's. */
	if ((rc = symm_context_deadline(context, 0, &deadline)) != 0 || (rc = symm_loop_get(&context->loop)) != 0)
		goto fail_device;
	if ((rc = symm_link_open(context->loop, &symm_group_link_hooks)) != 0)
		goto fail_loop;
	if ((rc = symm_store_open(context->loop, url, deadline, &context->store)) != 0)
		goto fail_link;
	context->handle = symm_handle_new(SYMM_HANDLE_CONTEXT, context);
	if (context->handle == NULL) {
		rc = SYMM_ENOMEM;
		goto fail_store;
	}
	return 0;
fail_store:
	symm_store_close(context->store);
fail_link:
	symm_link_close();
fail_loop:
	symm_loop_put(context->loop);
fail_device:
	symm_device_close(context->device);
	return rc;
}

static void watch_exit(void)
{
	static int watching;

	if (__atomic_exchange_n(&watching, 1, __ATOMIC_RELAXED) == 0)
		atexit(at_exit);
}

static void log_open(const struct context *context, int64_t started)
{
	symm_log(SYMM_LOG_INFO, "open job=%s rank=%d world=%d device=%s store=%s ms=%.3f", context->job, context->rank,
		 context->world_size, context->device_name, symm_store_name(context->store),
		 (double)(symm_now() - started) / SYMM_NS_PER_MS);
}

static int open_with(const struct symm_options *options, struct context *context)
{
	int64_t started = symm_now();
	const char *url;
	int rc = configure(context, options, &url);

	if (rc == 0)
		rc = symm_log_hold();
	if (rc != 0)
		return rc;
	rc = context_start(context, url);
	if (rc != 0) {
		symm_log(SYMM_LOG_INFO, "open job=%s rank=%d failed: %s", context->job, context->rank,
			 symm_last_error());
		symm_log_release();
		return rc;
	}
	log_open(context, started);
	return 0;
}

int symm_open(const struct symm_options *options, struct symm_context **out)
{
	static const struct symm_options defaults = SYMM_OPTIONS_INIT;
	struct context *context;
	int rc = symm_fork_check();

	if (rc != 0)
		return rc;
	if (symm_log_here())
		return symm_log_refuse("symm_open");
	symm_trace_start();
	SYMM_TRACE("symm_open");
	if (out == NULL)
		return symm_error(SYMM_EINVAL, "symm_open: context is NULL");
	if (options == NULL)
		options = &defaults;
	if (options->size != sizeof(*options))
		return symm_error(SYMM_EINVAL, "symm_open: options.size is %zu, not %zu: start from SYMM_OPTIONS_INIT",
				  options->size, sizeof(*options));
	context = calloc(1, sizeof(*context));
	if (context == NULL)
		return symm_error(SYMM_ENOMEM, "symm_open: no memory");
	watch_exit();
	rc = open_with(options, context);
	if (rc != 0) {
		free(context);
		return symm_error_prefix(rc, "symm_open");
	}
	*out = context->handle;
	return 0;
}

/* Joins under way end before the groups are left, threads that leave one after. */
static int leave_groups(struct context *context, int64_t deadline)
{
	int rc = 0;

	for (int pass = 0; pass < 2 && rc == 0; pass++) {
		if (!symm_handle_drain(context->handle, 1, deadline))
			rc = symm_error(SYMM_EBUSY, "another thread is still in a call on this context");
		else if (pass == 0)
			rc = symm_group_leave_all(context, deadline);
	}
	return rc;
}

int symm_close(struct symm_context *handle)
{
	SYMM_TRACE("symm_close");
	struct context *context;
	int64_t deadline;
	int rc;

	if (handle == NULL)
		return 0;
	if (symm_log_here())
		return symm_log_refuse("symm_close");
	context = symm_handle_get_alone(handle, SYMM_HANDLE_CONTEXT, &rc);
	if (context == NULL)
		return symm_error_prefix(rc, "symm_close");
	symm_context_deadline(context, 0, &deadline);
	rc = symm_tensors_refuse(context, NULL);
	if (rc == 0) {
		symm_handle_close(handle);
		rc = leave_groups(context, deadline);
	}
	if (rc != 0) {
		symm_handle_put_alone(handle);
		return symm_error_prefix(rc, "symm_close");
	}
	symm_handle_retire(handle, 1);
	symm_handle_put(handle);
	symm_handle_free(handle);
	symm_store_close(context->store);
	symm_link_close();
	symm_loop_put(context->loop);
	symm_device_close(context->device);
	symm_log(SYMM_LOG_INFO, "close job=%s rank=%d", context->job, context->rank);
	symm_log_release();
	free(context);
	return 0;
}

static int context_number(struct symm_context *handle, size_t offset, const char *what)
{
	int rc, value;
	struct context *context = symm_handle_get(handle, SYMM_HANDLE_CONTEXT, &rc);

	if (context == NULL)
		return rc;
	value = *(const int *)((const char *)context + offset);
	symm_handle_put(handle);
	return value != SYMM_AUTO ? value : symm_error(SYMM_ENOENT, "nobody has told this context its %s", what);
}

int symm_context_rank(struct symm_context *handle)
{
	return context_number(handle, offsetof(struct context, rank), "rank: set SYMM_RANK, or options.rank");
}

int symm_context_world_size(struct symm_context *handle)
{
	return context_number(handle, offsetof(struct context, world_size),
			      "world size: set SYMM_WORLD_SIZE, or options.world_size");
}

int symm_context_local_rank(struct symm_context *handle)
{
	return context_number(handle, offsetof(struct context, local_rank),
			      "local rank: set SYMM_LOCAL_RANK, or options.local_rank");
}
