#include "bench.h"

#include "base.h"
#include "error.h"
#include "json.h"
#include "launch.h"
#include "tool.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZES_MAX 16
#define WARM_UP 2
#define PAUSE_US 300000 /* by which rank 0 has spoken */

static const char help[] = "usage: symmrun -n RANKS symm bench [OPTION ...]\n"
			   "Measures symmetric memory between the ranks of a job and verifies every byte.\n\n"
			   "  --op LIST      some of barrier, barrier_stream, barrier_graph, signal,\n"
			   "                 signal_stream, signal_graph, alloc, rendezvous, rendezvous_cached,\n"
			   "                 pool, pool_full, pool_check, access, memcpy, put, get, put_stream,\n"
			   "                 get_stream, put_with_signal (default: all that the device has)\n"
			   "  --bytes LIST   sizes of the copies, with K, M or G (default: 64K,1M,64M)\n"
			   "  --block SIZE   what alloc, rendezvous and access are about (default: 1M)\n"
			   "  --iters N      samples of each operation (default: by operation)\n"
			   "  --runs N       repeats all, and gives the median of the runs (default: 1)\n"
			   "  --quick        few samples of 64K and 16M: a few seconds in all\n"
			   "  --device D     the device (default: SYMM_DEVICE, else host)\n"
			   "  --channel C    the channel that synchronises (default: 0)\n"
			   "  --json         one JSON object a line instead of the table\n"
			   "  --help, -h     this text\n";

struct options {
	bool json, quick;
	bool ops[SYMM_BENCH_OPS];
	bool chosen; /* ops is what --op says */
	size_t sizes[SIZES_MAX], n_sizes;
	int samples; /* 0: by the operation */
	int runs;
	int channel;
	size_t block;
	const char *device;
	bool cuda;         /* the device is one */
	const char *wrong; /* the item of a list that cannot be taken */
};

/* ---- the command line ---- */

/* Only rank 0 speaks. The others give it time: a launcher ends the job with the first rank that fails. */
static int misuse(bool speaks, const char *format, ...)
{
	char text[SYMM_ERROR_TEXT];
	va_list args;

	if (!speaks) {
		usleep(PAUSE_US);
		return SYMM_TOOL_USAGE;
	}
	if (format == NULL)
		return symm_tool_misuse(&symm_tool_bench, NULL);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return symm_tool_misuse(&symm_tool_bench, "bench: %s", text);
}

static bool parse_int(const char *text, int low, int high, int *value)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n < low || n > high)
		return false;
	*value = (int)n;
	return true;
}

static bool parse_size(const char *text, size_t *size)
{
	static const char units[] = "KMG";
	unsigned long long n;
	const char *unit;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno != 0 || end == text || text[0] == '-' || n == 0)
		return false;
	if (*end != '\0') {
		unit = strchr(units, *end);
		if (unit == NULL || end[1] != '\0' || n > SIZE_MAX >> (10 * (unit - units + 1)))
			return false;
		n <<= 10 * (unit - units + 1);
	}
	*size = (size_t)n;
	return true;
}

static bool parse_sizes(char *list, struct options *options)
{
	char *rest = list, *item;

	options->n_sizes = 0;
	while ((item = strsep(&rest, ",")) != NULL) {
		options->wrong = item;
		if (options->n_sizes == SIZES_MAX || !parse_size(item, &options->sizes[options->n_sizes]))
			return false;
		options->n_sizes++;
	}
	return true;
}

static bool parse_ops(char *list, struct options *options)
{
	char *rest = list, *item;

	options->chosen = true;
	memset(options->ops, 0, sizeof(options->ops));
	while ((item = strsep(&rest, ",")) != NULL) {
		int op = 0;

		options->wrong = item;
		while (op < SYMM_BENCH_OPS && strcmp(item, symm_bench_ops[op].name) != 0)
			op++;
		if (op == SYMM_BENCH_OPS)
			return false;
		options->ops[op] = true;
	}
	return true;
}

static const char *op_names(void)
{
	static char text[SYMM_ERROR_TEXT] = "a list of";

	for (int op = 0; op < SYMM_BENCH_OPS; op++) {
		size_t used = strlen(text);

		snprintf(text + used, sizeof(text) - used, "%s %s", op > 0 ? "," : "", symm_bench_ops[op].name);
	}
	return text;
}

static void defaults(struct options *options)
{
	const char *device = symm_tool_env("SYMM_DEVICE");

	memset(options, 0, sizeof(*options));
	options->runs = 1;
	options->block = 1 << 20;
	options->device = device != NULL ? device : "host";
	for (int op = 0; op < SYMM_BENCH_OPS; op++)
		options->ops[op] = true;
}

static void default_sizes(struct options *options)
{
	static const size_t quick[] = { 64 << 10, 16 << 20 }, full[] = { 64 << 10, 1 << 20, 64 << 20 };

	options->n_sizes = options->quick ? 2 : 3;
	memcpy(options->sizes, options->quick ? quick : full, options->n_sizes * sizeof(size_t));
}

/* Takes one option; returns what its argument should have been, or NULL if all is well. */
static const char *take(int option, struct options *options)
{
	switch (option) {
	case 'o':
		return parse_ops(optarg, options) ? NULL : op_names();
	case 'b':
		return parse_sizes(optarg, options) ? NULL
						    : "up to 16 sizes such as 4096, 64K or 2M, separated by commas";
	case 'k':
		return parse_size(optarg, &options->block) ? NULL : "a size such as 4096, 64K or 2M";
	case 'i':
		return parse_int(optarg, 1, 1000000, &options->samples) ? NULL : "a number from 1 to 1000000";
	case 'r':
		return parse_int(optarg, 1, 1000, &options->runs) ? NULL : "a number from 1 to 1000";
	case 'c':
		return parse_int(optarg, 0, SYMM_CHANNELS - 1, &options->channel) ? NULL : "a channel from 0 to 31";
	case 'd':
		options->device = optarg;
		return NULL;
	case 'q':
		options->quick = true;
		return NULL;
	default:
		options->json = true;
		return NULL;
	}
}

/* Those that the device has not are left out, unless they were asked for. */
static const char *choose_ops(struct options *options)
{
	options->cuda = strncmp(options->device, "cuda", 4) == 0;
	for (int op = 0; op < SYMM_BENCH_OPS; op++) {
		if (!symm_bench_ops[op].cuda || options->cuda || !options->ops[op])
			continue;
		if (options->chosen)
			return symm_bench_ops[op].name;
		options->ops[op] = false;
	}
	return NULL;
}

static int parse(int argc, char **argv, bool speaks, struct options *options)
{
	static const struct option known[] = {
		{ "op", required_argument, NULL, 'o' },     { "bytes", required_argument, NULL, 'b' },
		{ "block", required_argument, NULL, 'k' },  { "iters", required_argument, NULL, 'i' },
		{ "runs", required_argument, NULL, 'r' },   { "channel", required_argument, NULL, 'c' },
		{ "device", required_argument, NULL, 'd' }, { "quick", no_argument, NULL, 'q' },
		{ "json", no_argument, NULL, 'j' },         { NULL, 0, NULL, 0 },
	};
	const char *wants;
	int option, index;

	defaults(options);
	opterr = speaks;
	while ((option = getopt_long(argc, argv, "", known, &index)) != -1) {
		if (option == '?')
			return misuse(speaks, NULL);
		options->wrong = optarg;
		wants = take(option, options);
		if (wants != NULL)
			return misuse(speaks, "--%s wants %s, not '%s'", known[index].name, wants, options->wrong);
	}
	if (optind < argc)
		return misuse(speaks, "what is '%s'?", argv[optind]);
	if (options->n_sizes == 0)
		default_sizes(options);
	options->wrong = choose_ops(options);
	if (options->wrong != NULL)
		return misuse(speaks, "%s is of CUDA devices: the device is %s", options->wrong, options->device);
	return SYMM_TOOL_OK;
}

/* ---- results ---- */

/* Operations that take turns sample by sample, to meet the same conditions: the copies of a size, or one other. */
struct phase {
	int ops[SYMM_BENCH_OPS];
	int n;
	size_t bytes;
	int samples;
};

struct result {
	double *ns;        /* [samples] of the present run */
	double *p50, *p99; /* [runs] */
	uint64_t errors;   /* of this rank */
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The value below which `part` of the values lie. Sorts them. */
static double quantile(double *values, int n, double part)
{
	int at = (int)(part * n);

	qsort(values, (size_t)n, sizeof(*values), by_value);
	return values[at < n ? at : n - 1];
}

static void clear_progress(const struct symm_bench *bench)
{
	if (bench->rank == 0 && isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

static void show_progress(const struct symm_bench *bench, const struct phase *phase, int run, int sample)
{
	if (bench->rank == 0 && isatty(STDERR_FILENO))
		fprintf(stderr, "\rsymm bench: %s, run %d, %d of %d\033[K", symm_bench_ops[phase->ops[0]].label,
			run + 1, sample, phase->samples);
}

static const char *human(size_t bytes, char out[24])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB" };
	int unit = 0;

	while (unit < 3 && bytes >= 1024 && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(out, 24, "%zu %s", bytes, units[unit]);
	return out;
}

static void print_header(const struct symm_bench *bench, const char *device)
{
	printf("symm %s, device %s, %d rank%s\n", symm_version(), device, bench->ranks, bench->ranks == 1 ? "" : "s");
	printf("%-22s %9s %12s %12s %9s %7s\n", "operation", "size", "p50 us", "p99 us", "GB/s", "errors");
}

static void print_row(const struct symm_bench_op *op, size_t bytes, double p50, double p99, uint64_t errors)
{
	char size[24], rate[24] = "-";

	if (op->sized)
		snprintf(rate, sizeof(rate), "%.2f", (double)bytes / p50);
	printf("%-22s %9s %12.3f %12.3f %9s %7" PRIu64 "\n", op->label, bytes > 0 ? human(bytes, size) : "-", p50 / 1e3,
	       p99 / 1e3, rate, errors);
}

static void print_json(const struct symm_bench *bench, const struct options *options, const struct phase *phase,
		       const struct symm_bench_op *op, double p50, double p99, uint64_t errors)
{
	struct symm_json json = { stdout, false };

	symm_json_open(&json, NULL, '{');
	symm_json_text(&json, "op", op->name);
	symm_json_text(&json, "device", options->device);
	symm_json_int(&json, "ranks", bench->ranks);
	symm_json_int(&json, "bytes", (int64_t)phase->bytes);
	symm_json_real(&json, "p50_us", p50 / 1e3);
	symm_json_real(&json, "p99_us", p99 / 1e3);
	symm_json_real(&json, "gbps", op->sized ? (double)phase->bytes / p50 : 0);
	symm_json_int(&json, "errors", (int64_t)errors);
	symm_json_int(&json, "samples", phase->samples);
	symm_json_int(&json, "runs", options->runs);
	symm_json_close(&json, '}');
	symm_json_end(&json);
}

static void print_result(const struct symm_bench *bench, const struct options *options, const struct phase *phase,
			 const struct symm_bench_op *op, struct result *result, uint64_t errors)
{
	double p50 = quantile(result->p50, options->runs, 0.5), p99 = quantile(result->p99, options->runs, 0.5);

	clear_progress(bench);
	if (options->json)
		print_json(bench, options, phase, op, p50, p99, errors);
	else
		print_row(op, phase->bytes, p50, p99, errors);
	fflush(stdout);
}

/* ---- measuring ---- */

static int say_failed(const struct symm_bench *bench, const char *what)
{
	clear_progress(bench);
	return symm_tool_fail("bench: rank %d: %s: %s", bench->rank, what, symm_last_error());
}

static bool results_make(struct result results[SYMM_BENCH_OPS], const struct options *options,
			 const struct phase *phase)
{
	memset(results, 0, SYMM_BENCH_OPS * sizeof(*results));
	for (int i = 0; i < phase->n; i++) {
		results[i].ns = calloc((size_t)phase->samples + 2 * (size_t)options->runs, sizeof(double));
		if (results[i].ns == NULL)
			return false;
		results[i].p50 = results[i].ns + phase->samples;
		results[i].p99 = results[i].p50 + options->runs;
	}
	return true;
}

static void results_free(struct result results[SYMM_BENCH_OPS])
{
	for (int i = 0; i < SYMM_BENCH_OPS; i++)
		free(results[i].ns);
}

static int measure_run(struct symm_bench *bench, const struct phase *phase, int run, struct result *results)
{
	for (int sample = -WARM_UP; sample < phase->samples; sample++) {
		if (sample >= 0 && sample % 10 == 0)
			show_progress(bench, phase, run, sample);
		bench->round++;
		for (int i = 0; i < phase->n; i++) {
			const struct symm_bench_op *op = &symm_bench_ops[phase->ops[i]];
			double ns = 0;

			bench->errors = 0;
			if (op->step(bench, &ns) != 0)
				return say_failed(bench, op->name);
			if (sample >= 0)
				results[i].ns[sample] = ns;
			results[i].errors += bench->errors;
		}
	}
	for (int i = 0; i < phase->n; i++) {
		results[i].p50[run] = quantile(results[i].ns, phase->samples, 0.5);
		results[i].p99[run] = quantile(results[i].ns, phase->samples, 0.99);
	}
	return SYMM_TOOL_OK;
}

static int measure_phase(struct symm_bench *bench, const struct options *options, const struct phase *phase,
			 uint64_t *total)
{
	struct result results[SYMM_BENCH_OPS];
	int status = SYMM_TOOL_OK;

	if (!results_make(results, options, phase)) {
		status = symm_tool_fail("bench: rank %d: no memory for %d samples", bench->rank, phase->samples);
		goto out;
	}
	bench->bytes = phase->bytes;
	for (int run = 0; run < options->runs && status == SYMM_TOOL_OK; run++)
		status = measure_run(bench, phase, run, results);
	for (int i = 0; i < phase->n && status == SYMM_TOOL_OK; i++) {
		const struct symm_bench_op *op = &symm_bench_ops[phase->ops[i]];
		uint64_t errors;

		if (symm_bench_sum(bench, results[i].errors, &errors) != 0) {
			status = say_failed(bench, op->name);
		} else if (bench->rank == 0) {
			print_result(bench, options, phase, op, &results[i], errors);
			*total += errors;
		} else {
			*total += results[i].errors;
		}
	}
out:
	results_free(results);
	return status;
}

static int count_samples(const struct options *options, const struct symm_bench_op *op, size_t bytes)
{
	size_t samples = (size_t)op->samples;

	if (options->samples > 0)
		return options->samples;
	if (op->sized)
		samples = ((size_t)1 << 30) / (bytes * (size_t)symm_bench_batch(bytes));
	if (options->quick)
		samples /= 8;
	return samples > 200 ? 200 : samples < 5 ? 5 : (int)samples;
}

static int measure_all(struct symm_bench *bench, const struct options *options, uint64_t *total)
{
	int status = SYMM_TOOL_OK;

	for (int op = 0; op < SYMM_BENCH_OPS && status == SYMM_TOOL_OK; op++) {
		struct phase phase = { { op }, 1, symm_bench_ops[op].block ? options->block : 0, 0 };

		if (!options->ops[op] || symm_bench_ops[op].sized)
			continue;
		phase.samples = count_samples(options, &symm_bench_ops[op], phase.bytes);
		status = measure_phase(bench, options, &phase, total);
	}
	for (size_t s = 0; s < options->n_sizes && status == SYMM_TOOL_OK; s++) {
		struct phase phase = { { 0 }, 0, options->sizes[s], 0 };

		for (int op = 0; op < SYMM_BENCH_OPS; op++)
			if (options->ops[op] && symm_bench_ops[op].sized)
				phase.ops[phase.n++] = op;
		if (phase.n == 0)
			break;
		phase.samples = count_samples(options, &symm_bench_ops[phase.ops[0]], phase.bytes);
		status = measure_phase(bench, options, &phase, total);
	}
	return status;
}

/* ---- one rank's life ---- */

/* What each copy needs on a rank: 0 if none is asked for. */
static size_t largest_copy(const struct options *options)
{
	size_t bytes = 0;
	bool sized = false;

	for (int op = 0; op < SYMM_BENCH_OPS; op++)
		sized |= options->ops[op] && symm_bench_ops[op].sized;
	for (size_t s = 0; s < options->n_sizes && sized; s++)
		bytes = options->sizes[s] > bytes ? options->sizes[s] : bytes;
	return bytes;
}

/* How many ranks share this host's memory. */
static int count_local(const struct symm_launch *launch)
{
	const char *text = getenv("SYMM_LOCAL_SIZE");
	int ranks;

	if (text != NULL && parse_int(text, 1, INT32_MAX, &ranks))
		return ranks;
	return launch->world_size != SYMM_AUTO ? launch->world_size : 1;
}

/* Before the join, so that no rank has taken memory while another looks how much there is: the kernel lets a host run
 * out of it, and then kills whom it likes. */
static int check_memory(const struct options *options, const struct symm_launch *launch)
{
	size_t available = symm_tool_meminfo("MemAvailable"), bytes = largest_copy(options), need;
	int ranks = count_local(launch);

	if (options->cuda || available == 0 ||
	    (!__builtin_mul_overflow(bytes, 3 * (size_t)ranks, &need) && need <= available))
		return SYMM_TOOL_OK;
	/* The first rank of a host speaks; the others do where no launcher ends them. */
	if (launch->local_rank > 0 || (launch->local_rank == SYMM_AUTO && launch->rank > 0))
		usleep(PAUSE_US);
	return symm_tool_fail(
		"bench: copies of %zu bytes take 3 times as much on each of the %d ranks here, %.1f GiB in all, "
		"and %.1f GiB are available: try a smaller --bytes or fewer ranks",
		bytes, ranks, 3.0 * ranks * (double)bytes / (1 << 30), (double)available / (1 << 30));
}

static int open_block(struct symm_bench *bench, size_t bytes, void **ptr, struct symm_mem **mem)
{
	int rc = symm_alloc(bench->group, bytes, NULL, ptr);

	return rc == 0 ? symm_rendezvous(*ptr, bench->group, 0, mem) : rc;
}

static int open_all(struct symm_bench *bench, const struct options *options, const struct symm_launch *launch)
{
	struct symm_options open = SYMM_OPTIONS_INIT;
	int rc;

	open.device = options->device;
	/* Without a launcher, a job of one rank. */
	if (launch->rank == SYMM_AUTO && launch->world_size == SYMM_AUTO) {
		open.rank = 0;
		open.world_size = 1;
	}
	if ((rc = symm_open(&open, &bench->context)) != 0 ||
	    (rc = symm_group_join(bench->context, "bench", SYMM_AUTO, SYMM_AUTO, 0, &bench->group)) != 0 ||
	    (rc = symm_stream_create(bench->context, &bench->stream)) != 0)
		return rc;
	bench->rank = symm_group_rank(bench->group);
	bench->ranks = symm_group_world_size(bench->group);
	bench->block = options->block;
	if (options->cuda && (rc = symm_bench_cuda_open(bench->context, &bench->cuda)) != 0)
		return rc;
	return open_block(bench, 2 * (size_t)bench->ranks * sizeof(uint64_t), &bench->board_ptr, &bench->board);
}

static int open_pool(struct symm_bench *bench, const struct options *options)
{
	bool wanted = false;

	for (int op = 0; op < SYMM_BENCH_OPS; op++)
		wanted |= options->ops[op] && symm_bench_ops[op].pool;
	if (wanted && symm_bench_pool_open(bench->group, &bench->pool) != 0)
		return say_failed(bench, "pools");
	return SYMM_TOOL_OK;
}

/* On a GPU the places of the copies are parts of the block, each at a page of its own. */
static int open_data(struct symm_bench *bench, const struct options *options)
{
	size_t bytes = largest_copy(options), stride = symm_round_up(bytes, 4096);
	bool places;
	void *ptr;

	if (bytes == 0)
		return SYMM_TOOL_OK;
	if (bytes > SIZE_MAX / 4)
		return symm_tool_fail("bench: copies of %zu bytes are more than can be addressed", bytes);
	if (open_block(bench, options->cuda ? 3 * stride : bytes, &ptr, &bench->data) != 0)
		return say_failed(bench, "blocks for the copies");
	if (options->cuda) {
		bench->scratch = malloc(bytes);
		places = bench->scratch != NULL;
		bench->source = places ? (char *)ptr + stride : NULL;
		bench->target = places ? bench->source + stride : NULL;
	} else {
		bench->source = aligned_alloc(4096, stride);
		bench->target = aligned_alloc(4096, stride);
		places = bench->source != NULL && bench->target != NULL;
	}
	if (!places)
		return symm_tool_fail("bench: rank %d: no memory for copies of %zu bytes: try a smaller --bytes",
				      bench->rank, bytes);
	return SYMM_TOOL_OK;
}

/* The blocks go with the context. */
static int close_all(struct symm_bench *bench)
{
	int rc;

	symm_bench_pool_close(bench->pool);
	symm_bench_cuda_close(bench->cuda);
	symm_mem_release(bench->data);
	symm_mem_release(bench->board);
	rc = symm_stream_destroy(bench->stream);
	if (rc == 0)
		rc = symm_close(bench->context);
	if (bench->scratch == NULL) {
		free(bench->source);
		free(bench->target);
	}
	free(bench->scratch);
	return rc;
}

static int measure_job(const struct options *options, const struct symm_launch *launch)
{
	struct symm_bench bench = { .channel = options->channel };
	uint64_t total = 0;
	int status = SYMM_TOOL_OK;

	if (open_all(&bench, options, launch) != 0)
		status = symm_tool_fail("bench: %s", symm_last_error());
	else
		status = open_data(&bench, options);
	if (status == SYMM_TOOL_OK)
		status = open_pool(&bench, options);
	if (status == SYMM_TOOL_OK && bench.rank == 0 && !options->json)
		print_header(&bench, options->device);
	if (status == SYMM_TOOL_OK)
		status = measure_all(&bench, options, &total);
	if (status == SYMM_TOOL_OK && bench.rank == 0 && !options->json)
		printf("errors %" PRIu64 "\n", total);
	fflush(stdout);
	/* No rank ends with an error before rank 0 has told the numbers. */
	if (status == SYMM_TOOL_OK && symm_barrier(bench.board, bench.channel, 0) != 0)
		status = say_failed(&bench, "the last barrier");
	if (close_all(&bench) != 0 && status == SYMM_TOOL_OK)
		status = say_failed(&bench, "close");
	return status == SYMM_TOOL_OK && total > 0 ? SYMM_TOOL_FAILED : status;
}

static int bench_run(int argc, char **argv)
{
	struct symm_launch launch;
	struct options options;
	int rc = symm_launch_read(&launch), status = parse(argc, argv, rc != 0 || launch.rank <= 0, &options);

	if (status != SYMM_TOOL_OK)
		return status;
	if (rc != 0)
		return symm_tool_fail("bench: %s", symm_last_error());
	status = check_memory(&options, &launch);
	return status == SYMM_TOOL_OK ? measure_job(&options, &launch) : status;
}

const struct symm_tool_command symm_tool_bench = { "bench", "measures and verifies, under symmrun", help, bench_run };
