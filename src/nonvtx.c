#include "nvtx.h"

const bool symm_nvtx_built = false;

bool symm_nvtx_start(void)
{
	return false;
}

void symm_nvtx_push(const char *call)
{
	(void)call;
}

void symm_nvtx_pop(void)
{
}
