/* The GPUs: what they can do and whom they reach. */
#include "fake.h"

#include <stdio.h>
#include <string.h>

int fake_device_physical(int device)
{
	return device >= 0 && device < fake_config.devices ? fake_config.physical[device] : -1;
}

int fake_device_ordinal(int physical)
{
	for (int i = 0; i < fake_config.devices; i++)
		if (fake_config.physical[i] == physical)
			return i;
	return -1;
}

bool fake_device_reaches(int from, int to)
{
	const char *at = fake_config.no_peer;

	while (at != NULL && *at != '\0') {
		char way;
		int a, b;

		FAKE_ASSERT(sscanf(at, "%d%c%d", &a, &way, &b) == 3 && (way == '-' || way == '>'),
			    "SYMM_FAKE_NO_PEER is \"%s\"", fake_config.no_peer);
		if ((a == from && b == to) || (a == to && b == from && way == '-'))
			return false;
		at = strchr(at, ',');
		if (at != NULL)
			at++;
	}
	return true;
}

enum symm_cuda_result cuDeviceGetCount(int *count)
{
	FAKE_ENTER(FAKE_INIT);
	*count = fake_config.devices;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDeviceGet(int *device, int ordinal)
{
	FAKE_ENTER(FAKE_INIT);
	if (fake_device_physical(ordinal) < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	*device = ordinal;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDeviceGetName(char *name, int bytes, int device)
{
	FAKE_ENTER(FAKE_INIT);
	if (fake_device_physical(device) < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	snprintf(name, (size_t)bytes, "Fake GPU");
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDeviceGetUuid(struct symm_cuda_uuid *uuid, int device)
{
	int physical = fake_device_physical(device);

	FAKE_ENTER(FAKE_INIT);
	if (physical < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	memcpy(uuid->bytes, "\xfa\xce\x00\x00\x00\x00\x40\x00\x80\x00\x00\x00\x00\x00\x00\x00", 16);
	uuid->bytes[15] = (char)physical;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDeviceTotalMem(size_t *bytes, int device)
{
	FAKE_ENTER(FAKE_INIT);
	if (fake_device_physical(device) < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	*bytes = fake_config.memory;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDeviceGetPCIBusId(char *id, int bytes, int device)
{
	FAKE_ENTER(FAKE_INIT);
	if (fake_device_physical(device) < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	snprintf(id, (size_t)bytes, "0000:%02X:00.0", 0x10 + fake_device_physical(device));
	return SYMM_CUDA_SUCCESS;
}

/* What the test wants it to be. */
static bool is_set(enum symm_cuda_attribute attribute, int *value)
{
	for (const char *at = fake_config.attributes; at != NULL; at = strchr(at, ',')) {
		int which, wanted;

		at += *at == ',';
		FAKE_ASSERT(sscanf(at, "%d=%d", &which, &wanted) == 2, "SYMM_FAKE_ATTRIBUTES is \"%s\"",
			    fake_config.attributes);
		if (which != (int)attribute)
			continue;
		*value = wanted;
		return true;
	}
	return false;
}

static int attribute_of(enum symm_cuda_attribute attribute)
{
	switch ((int)attribute) {
	case SYMM_CUDA_ATTRIBUTE_MULTIPROCESSOR_COUNT:
		return 132;
	case SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		return fake_config.major;
	case SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
		return fake_config.minor;
	case SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED:
		return fake_config.fabric;
	case SYMM_CUDA_ATTRIBUTE_MULTICAST_SUPPORTED:
		return fake_config.multicast;
	case SYMM_CUDA_ATTRIBUTE_ECC_ENABLED:
	case SYMM_CUDA_ATTRIBUTE_UNIFIED_ADDRESSING:
	case SYMM_CUDA_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
	case SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
	case SYMM_CUDA_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED:
		return 1;
	default:
		return 0;
	}
}

enum symm_cuda_result cuDeviceGetAttribute(int *value, enum symm_cuda_attribute attribute, int device)
{
	FAKE_ENTER(FAKE_INIT);
	if (fake_device_physical(device) < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	if (!is_set(attribute, value))
		*value = attribute_of(attribute);
	return SYMM_CUDA_SUCCESS;
}

/* As the real one does, it answers no for a device and itself. */
enum symm_cuda_result cuDeviceCanAccessPeer(int *can, int device, int peer)
{
	int from = fake_device_physical(device), to = fake_device_physical(peer);

	FAKE_ENTER(FAKE_INIT);
	if (from < 0 || to < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	*can = from != to && fake_device_reaches(from, to);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDeviceGetP2PAttribute(int *value, enum symm_cuda_p2p_attribute attribute, int from, int to)
{
	int a = fake_device_physical(from), b = fake_device_physical(to);

	FAKE_ENTER(FAKE_INIT);
	if (a < 0 || b < 0 || a == b)
		return SYMM_CUDA_INVALID_DEVICE;
	*value = attribute == SYMM_CUDA_P2P_ATTRIBUTE_PERFORMANCE_RANK ? 0 : fake_device_reaches(a, b);
	return SYMM_CUDA_SUCCESS;
}
