/* mpi_barrier.c: MPI_Barrier in batches, as symm bench measures symm_barrier; prints the median in us. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 1000, SAMPLES = 100 };

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	double us[SAMPLES];
	int rank;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	for (int sample = -10; sample < SAMPLES; sample++) {
		double start = MPI_Wtime();

		for (int i = 0; i < BATCH; i++)
			MPI_Barrier(MPI_COMM_WORLD);
		if (sample >= 0)
			us[sample] = (MPI_Wtime() - start) * 1e6 / BATCH;
	}
	qsort(us, SAMPLES, sizeof(us[0]), compare);
	if (rank == 0)
		printf("%.3f\n", us[SAMPLES / 2]);
	MPI_Finalize();
	return 0;
}
