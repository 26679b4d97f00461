#include "nvtx.h"

#include <nvtx3/nvToolsExt.h>

const bool symm_nvtx_built = true;

static nvtxDomainHandle_t domain;

/* The first call of NVTX's loads the tool; without one it returns NULL. */
bool symm_nvtx_start(void)
{
	domain = nvtxDomainCreateA("symm");
	return domain != NULL;
}

void symm_nvtx_push(const char *call)
{
	nvtxEventAttributes_t range = { .version = NVTX_VERSION,
					.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
					.messageType = NVTX_MESSAGE_TYPE_ASCII,
					.message.ascii = call };

	nvtxDomainRangePushEx(domain, &range);
}

void symm_nvtx_pop(void)
{
	nvtxDomainRangePop(domain);
}
