/* A tool that takes the calls of NVTX that symm makes: it counts them and keeps the names. */
#include "tool.h"

#include <nvtx3/nvToolsExt.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define OURS ((nvtxDomainHandle_t)0x51)
#define OTHER ((nvtxDomainHandle_t)0x52)
#define PUBLIC __attribute__((visibility("default")))

PUBLIC int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t table_of);
PUBLIC nvtx_tool_seen_fn nvtx_tool_seen;

static _Thread_local struct nvtx_tool_seen seen;

const struct nvtx_tool_seen *nvtx_tool_seen(void)
{
	return &seen;
}

static nvtxDomainHandle_t domain_create(const char *name)
{
	if (strcmp(name, "symm") == 0)
		return OURS;
	snprintf(seen.last, sizeof(seen.last), "%s", name);
	return OTHER;
}

static int push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *range)
{
	if (domain != OURS)
		seen.elsewhere++;
	else if (seen.pushed < NVTX_TOOL_MOST && range->messageType == NVTX_MESSAGE_TYPE_ASCII)
		seen.range[seen.pushed++] = range->message.ascii;
	return seen.pushed - seen.popped - 1;
}

static int pop(nvtxDomainHandle_t domain)
{
	if (domain != OURS)
		seen.elsewhere++;
	else
		seen.popped++;
	return seen.pushed - seen.popped;
}

static int take(NvtxFunctionTable table, unsigned int size, unsigned int number, NvtxFunctionPointer function)
{
	if (number >= size || table[number] == NULL)
		return 0;
	*table[number] = function;
	return 1;
}

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t table_of)
{
	const NvtxExportTableCallbacks *callbacks = table_of(NVTX_ETID_CALLBACKS);
	NvtxFunctionTable table;
	unsigned int size = 0;

	if (callbacks == NULL || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size))
		return 0;
	return take(table, size, NVTX_CBID_CORE2_DomainCreateA, (NvtxFunctionPointer)domain_create) &&
	       take(table, size, NVTX_CBID_CORE2_DomainRangePushEx, (NvtxFunctionPointer)push) &&
	       take(table, size, NVTX_CBID_CORE2_DomainRangePop, (NvtxFunctionPointer)pop);
}
