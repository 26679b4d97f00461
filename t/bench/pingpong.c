/* pingpong.c: what a round trip between two processes costs on this machine at the least: each waits for the other's
 * plain store. Prints the median in us. */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 10000, SAMPLES = 100, LINE = 64 };

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void bounce(atomic_int *mine, atomic_int *theirs, int first, int from)
{
	for (int i = from + 1; i <= from + BATCH; i++) {
		if (first)
			atomic_store_explicit(theirs, i, memory_order_release);
		while (atomic_load_explicit(mine, memory_order_acquire) != i)
			;
		if (!first)
			atomic_store_explicit(theirs, i, memory_order_release);
	}
}

int main(void)
{
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	atomic_int *here = (atomic_int *)shared, *there = (atomic_int *)(shared + 16 * LINE);
	double us[SAMPLES];
	int child;

	if (shared == MAP_FAILED || (child = fork()) < 0)
		return 1;
	for (int sample = 0; sample < SAMPLES; sample++) {
		double start = now_us();

		bounce(child ? here : there, child ? there : here, child != 0, sample * BATCH);
		us[sample] = (now_us() - start) / BATCH;
	}
	if (child == 0)
		return 0;
	wait(NULL);
	qsort(us, SAMPLES, sizeof(us[0]), compare);
	printf("%.3f\n", us[SAMPLES / 2]);
	return 0;
}
