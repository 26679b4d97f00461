#include "cuda_info.h"

#include "device/cuda_api.h"
#include "multicast.h"

#include <stdlib.h>
#include <string.h>

#define CUDA_TEXT 16 /* "cuda:123" */

/* ---- finding out ---- */

static int find_driver(struct symm_cuda_info *cuda)
{
	const struct symm_cuda_api *api;
	int rc = symm_cuda_load(&api);

	if (rc != 0)
		return rc;
	cuda->path = api->path;
	cuda->version = api->version;
	return symm_cuda_probe_count(&cuda->count);
}

static int find_devices(const char *device, struct symm_cuda_info *cuda)
{
	const char *colon = strchr(device, ':');
	int first = colon != NULL ? atoi(colon + 1) : 0, end = colon != NULL ? first + 1 : cuda->count;

	if (cuda->count == 0)
		return symm_error(SYMM_EDEVICE, "the driver shows no device");
	if (end > cuda->count)
		return symm_error(SYMM_EDEVICE, "there is no %s: this host has %d devices", device, cuda->count);
	cuda->devices = calloc((size_t)(end - first), sizeof(*cuda->devices));
	if (cuda->devices == NULL)
		return symm_error(SYMM_ENOMEM, "no memory for %d devices", end - first);
	for (int index = first; index < end; index++) {
		int rc = symm_cuda_probe_device(index, true, &cuda->devices[cuda->n_devices]);

		if (rc != 0)
			return rc;
		cuda->n_devices++;
	}
	return 0;
}

void symm_cuda_info_find(const char *device, struct symm_cuda_info *cuda)
{
	int rc;

	memset(cuda, 0, sizeof(*cuda));
	rc = find_driver(cuda);
	if (rc == 0 && device != NULL)
		rc = find_devices(device, cuda);
	if (rc != 0)
		snprintf(cuda->error, sizeof(cuda->error), "%s", symm_last_error());
}

void symm_cuda_info_free(struct symm_cuda_info *cuda)
{
	free(cuda->devices);
}

static const char *mode_text(int mode)
{
	switch (mode) {
	case SYMM_CUDA_COMPUTEMODE_DEFAULT:
		return "default";
	case SYMM_CUDA_COMPUTEMODE_PROHIBITED:
		return "prohibited";
	case SYMM_CUDA_COMPUTEMODE_EXCLUSIVE_PROCESS:
		return "exclusive process";
	default:
		return "unknown";
	}
}

static const char *link_text(const struct symm_cuda_peer *peer)
{
	return !peer->access ? "none" : peer->atomics ? "NVLink" : "PCIe";
}

/* ---- telling ---- */

static void print_row(const char *what, const char *text)
{
	printf("  %-10s %s\n", what, text);
}

static void print_trial(const char *what, const struct symm_cuda_trial *trial)
{
	char text[2 * SYMM_ERROR_TEXT];

	snprintf(text, sizeof(text), "%s, %s%s", trial->claimed ? "claimed" : "not claimed",
		 trial->works ? "works" : "does not work: ", trial->works ? "" : trial->why);
	print_row(what, text);
}

static void print_peers(const struct symm_cuda_info *cuda, int from)
{
	for (int to = 0; to < cuda->count; to++) {
		struct symm_cuda_peer peer;
		char text[SYMM_ERROR_TEXT];

		if (to == from)
			continue;
		if (symm_cuda_probe_peer(from, to, &peer) != 0)
			snprintf(text, sizeof(text), "cuda:%d %s", to, symm_last_error());
		else if (!peer.access)
			snprintf(text, sizeof(text), "cuda:%d no access", to);
		else
			snprintf(text, sizeof(text), "cuda:%d %s, %s, performance rank %d", to, link_text(&peer),
				 peer.atomics ? "native atomics" : "no native atomics", peer.performance_rank);
		print_row("peer", text);
	}
}

static void print_device(const struct symm_cuda_info *cuda, const struct symm_cuda_probe *device)
{
	const char *veto = symm_multicast_veto();
	char text[2 * SYMM_ERROR_TEXT];

	printf("device cuda:%d %s, sm_%d%d, %d multiprocessors\n", device->index, device->name, device->major,
	       device->minor, device->multiprocessors);
	snprintf(text, sizeof(text), "%s, at %s, compute mode %s, ECC %s", device->uuid, device->bus,
		 mode_text(device->compute_mode), device->ecc ? "on" : "off");
	print_row("identity", text);
	if (device->context_error[0] != '\0')
		print_row("context", device->context_error);
	snprintf(text, sizeof(text), "%zu MiB, %zu MiB free, granularity %zu KiB", device->memory >> 20,
		 device->memory_free >> 20, device->granularity >> 10);
	print_row("memory", text);
	snprintf(text, sizeof(text), "virtual memory management %s, GPUDirect RDMA %s", device->vmm ? "yes" : "no",
		 device->rdma ? "yes" : "no");
	print_row("features", text);
	print_trial("fd", &device->posix);
	print_trial("fabric", &device->fabric);
	snprintf(text, sizeof(text), "%s, %s%s", device->multicast ? "claimed" : "not claimed",
		 veto != NULL ? "off: " : "asked for", veto != NULL ? veto : "");
	print_row("multicast", text);
	print_peers(cuda, device->index);
}

void symm_cuda_info_print(const struct symm_cuda_info *cuda)
{
	if (cuda->path != NULL)
		printf("driver cuda  CUDA %d.%d (%s), %d device%s\n", cuda->version / 1000, cuda->version % 1000 / 10,
		       cuda->path, cuda->count, cuda->count == 1 ? "" : "s");
	for (int i = 0; i < cuda->n_devices; i++)
		print_device(cuda, &cuda->devices[i]);
	if (cuda->error[0] != '\0')
		printf("device cuda  %s\n", cuda->error);
}

static void json_trial(struct symm_json *json, const char *key, const struct symm_cuda_trial *trial)
{
	symm_json_open(json, key, '{');
	symm_json_bool(json, "claimed", trial->claimed);
	symm_json_bool(json, "works", trial->works);
	symm_json_text(json, "why", trial->works ? NULL : trial->why);
	symm_json_close(json, '}');
}

static void json_peer(struct symm_json *json, int from, int to)
{
	struct symm_cuda_peer peer;
	int rc = symm_cuda_probe_peer(from, to, &peer);
	char name[CUDA_TEXT];

	snprintf(name, sizeof(name), "cuda:%d", to);
	symm_json_open(json, NULL, '{');
	symm_json_text(json, "device", name);
	symm_json_text(json, "error", rc != 0 ? symm_last_error() : NULL);
	if (rc == 0) {
		symm_json_bool(json, "access", peer.access);
		symm_json_text(json, "link", link_text(&peer));
		symm_json_bool(json, "native_atomics", peer.atomics);
		symm_json_int(json, "performance_rank", peer.performance_rank);
	}
	symm_json_close(json, '}');
}

static void json_peers(const struct symm_cuda_info *cuda, struct symm_json *json, int from)
{
	symm_json_open(json, "peers", '[');
	for (int to = 0; to < cuda->count; to++)
		if (to != from)
			json_peer(json, from, to);
	symm_json_close(json, ']');
}

static void json_device(const struct symm_cuda_info *cuda, struct symm_json *json, const struct symm_cuda_probe *device)
{
	char name[CUDA_TEXT];

	snprintf(name, sizeof(name), "cuda:%d", device->index);
	symm_json_open(json, NULL, '{');
	symm_json_text(json, "device", name);
	symm_json_text(json, "name", device->name);
	symm_json_text(json, "uuid", device->uuid);
	symm_json_text(json, "pci", device->bus);
	symm_json_int(json, "compute_capability", 10 * device->major + device->minor);
	symm_json_int(json, "multiprocessors", device->multiprocessors);
	symm_json_text(json, "compute_mode", mode_text(device->compute_mode));
	symm_json_bool(json, "ecc", device->ecc);
	symm_json_int(json, "memory_bytes", (int64_t)device->memory);
	symm_json_text(json, "context_error", device->context_error[0] != '\0' ? device->context_error : NULL);
	symm_json_int(json, "available_bytes", (int64_t)device->memory_free);
	symm_json_int(json, "granularity_bytes", (int64_t)device->granularity);
	symm_json_bool(json, "vmm", device->vmm);
	symm_json_bool(json, "gpudirect_rdma", device->rdma);
	json_trial(json, "fd", &device->posix);
	json_trial(json, "fabric", &device->fabric);
	symm_json_open(json, "multicast", '{');
	symm_json_bool(json, "claimed", device->multicast);
	symm_json_text(json, "off", symm_multicast_veto());
	symm_json_close(json, '}');
	json_peers(cuda, json, device->index);
	symm_json_close(json, '}');
}

void symm_cuda_info_json(const struct symm_cuda_info *cuda, struct symm_json *json)
{
	for (int i = 0; i < cuda->n_devices; i++)
		json_device(cuda, json, &cuda->devices[i]);
}

void symm_cuda_info_json_driver(const struct symm_cuda_info *cuda, struct symm_json *json, const char *key)
{
	symm_json_open(json, key, '{');
	symm_json_text(json, "error", cuda->error[0] != '\0' ? cuda->error : NULL);
	if (cuda->path != NULL) {
		symm_json_text(json, "path", cuda->path);
		symm_json_int(json, "version", cuda->version);
		symm_json_int(json, "devices", cuda->count);
	}
	symm_json_close(json, '}');
}
