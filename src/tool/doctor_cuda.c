#include "doctor.h"

#include "device/cuda.h"
#include "device/cuda_probe.h"
#include "launch.h"
#include "multicast.h"
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK_MAX 24

static bool is_wanted(const struct symm_doctor *doctor)
{
	return doctor->device != NULL && strncmp(doctor->device, "cuda", 4) == 0;
}

/* "cuda" wants all of them, as each rank gets its own. */
static bool is_wanted_device(const struct symm_doctor *doctor, int index)
{
	return is_wanted(doctor) && (doctor->device[4] == '\0' || atoi(doctor->device + 5) == index);
}

/* A GPU that nobody asks for harms nobody. */
static enum symm_health fault(bool wanted)
{
	return wanted ? SYMM_HEALTH_BAD : SYMM_HEALTH_WARN;
}

static enum symm_health device_fault(const struct symm_doctor *doctor, int index)
{
	return fault(is_wanted_device(doctor, index));
}

/* ---- settings ---- */

static void tell_module_loading(struct symm_doctor *doctor)
{
	const char *mode = symm_tool_env("CUDA_MODULE_LOADING");

	if (mode != NULL && strcmp(mode, "EAGER") == 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "module loading", NULL, "CUDA_MODULE_LOADING=EAGER");
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "module loading",
				 "export CUDA_MODULE_LOADING=EAGER, or launch each kernel once before anything waits",
				 "CUDA_MODULE_LOADING is %s: the first launch of a kernel of yours loads it, which "
				 "waits for kernels that run, those that wait for a peer too",
				 mode != NULL ? mode : "not set");
}

static void tell_connections(struct symm_doctor *doctor)
{
	const char *text = symm_tool_env("CUDA_DEVICE_MAX_CONNECTIONS");

	if (text == NULL)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "hardware queues", NULL,
				 "CUDA_DEVICE_MAX_CONNECTIONS is not set; symmrun sets 32 for its ranks");
	else if (atoi(text) >= 32)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "hardware queues", NULL, "CUDA_DEVICE_MAX_CONNECTIONS=%s",
				 text);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "hardware queues", "export CUDA_DEVICE_MAX_CONNECTIONS=32",
				 "CUDA_DEVICE_MAX_CONNECTIONS=%s: streams that share a queue can wait for each other, "
				 "those of several ranks in one process above all",
				 text);
}

/* A copy without kernels opens no real device. */
static void tell_kernels(struct symm_doctor *doctor)
{
	if (memcmp(symm_cuda_fatbin, "NOKERNEL", 8) != 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "kernels", NULL, "in this build");
	else
		symm_doctor_tell(
			doctor, fault(is_wanted(doctor)), "kernels",
			"install nvcc (CUDA 12 or 13), then configure and make again; configure tells which it found",
			"this build of symm has none, as there was no nvcc: its CUDA device cannot be opened");
}

static void tell_multicast(struct symm_doctor *doctor, const struct symm_cuda_probe *devices, int n)
{
	const char *veto = symm_multicast_veto();
	int able = 0;

	for (int i = 0; i < n; i++)
		able += devices[i].multicast;
	symm_doctor_tell(doctor, SYMM_HEALTH_OK, "multicast", NULL, "%s%s; %d of %d devices claim it; not tried",
			 veto != NULL ? "off: " : "asked for", veto != NULL ? veto : "", able, n);
}

/* ---- devices ---- */

static void tell_mode(struct symm_doctor *doctor, const char *check, const struct symm_cuda_probe *device)
{
	if (device->compute_mode == SYMM_CUDA_COMPUTEMODE_PROHIBITED)
		symm_doctor_tell(doctor, device_fault(doctor, device->index), check, "as root: nvidia-smi -c DEFAULT",
				 "its compute mode is PROHIBITED: no process may use it");
	else if (device->compute_mode == SYMM_CUDA_COMPUTEMODE_EXCLUSIVE_PROCESS)
		symm_doctor_tell(
			doctor, SYMM_HEALTH_WARN, check,
			"one rank a GPU; else run MPS (nvidia-cuda-mps-control), or as root: nvidia-smi -c DEFAULT",
			"its compute mode is EXCLUSIVE_PROCESS: several ranks cannot share it%s",
			symm_tool_env("CUDA_MPS_PIPE_DIRECTORY") != NULL ? " but through MPS" : "");
}

/* For ranks of one host. */
static void tell_handles(struct symm_doctor *doctor, const char *check, const struct symm_cuda_probe *device)
{
	if (!device->vmm)
		symm_doctor_tell(
			doctor, device_fault(doctor, device->index), check,
			"take another device, or a driver and a virtual machine that offer virtual memory management",
			"it has no virtual memory management, which peers' memory needs");
	else if (!device->posix.works)
		symm_doctor_tell(doctor, device_fault(doctor, device->index), check,
				 "update the driver; in a container or virtual machine, use one that allows CUDA's "
				 "file descriptors",
				 "memory cannot be shared by file descriptor: %s", device->posix.why);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, check, NULL, "memory is shared by file descriptor");
}

/* The launcher says that there are ranks elsewhere. */
static bool spans_hosts(const struct symm_doctor *doctor)
{
	struct symm_launch launch;

	return doctor->ranks > 0 && symm_launch_read(&launch) == 0 && launch.world_size > doctor->ranks;
}

/* For ranks of several hosts; most machines have none. */
static void tell_fabric(struct symm_doctor *doctor, const char *check, const struct symm_cuda_probe *device)
{
	if (device->fabric.works)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, check, NULL,
				 "memory is shared by fabric handle, with other hosts of its NVLink domain");
	else if (is_wanted_device(doctor, device->index) && spans_hosts(doctor))
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, check,
				 "make a group for each host; or take hosts of one NVLink domain, run nvidia-imex on "
				 "each, and give containers /dev/nvidia-caps-imex-channels",
				 "no fabric handles, so that ranks of other hosts cannot map its memory: %s",
				 device->fabric.why);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, check, NULL,
				 "no fabric handles, which only groups of several hosts need: %s", device->fabric.why);
}

static void tell_device(struct symm_doctor *doctor, const struct symm_cuda_probe *device)
{
	char check[CHECK_MAX];

	snprintf(check, sizeof(check), "cuda:%d", device->index);
	symm_doctor_tell(doctor, SYMM_HEALTH_OK, check, NULL, "%s, sm_%d%d, %zu MiB, %s, at %s%s", device->name,
			 device->major, device->minor, device->memory >> 20, device->uuid, device->bus,
			 device->ecc ? "" : ", ECC off");
	if (device->major < 8)
		symm_doctor_tell(doctor, device_fault(doctor, device->index), check,
				 "take a device of compute capability 8.0 or later",
				 "symm has no kernels for compute capability %d.%d", device->major, device->minor);
	tell_mode(doctor, check, device);
	if (device->context_error[0] != '\0') {
		symm_doctor_tell(doctor, device_fault(doctor, device->index), check,
				 "see what uses the device: nvidia-smi; and what the driver says: dmesg", "%s",
				 device->context_error);
		return;
	}
	tell_handles(doctor, check, device);
	if (device->vmm)
		tell_fabric(doctor, check, device);
}

/* Both ways; the slower one counts. */
static int probe_pair(int a, int b, struct symm_cuda_peer *pair)
{
	struct symm_cuda_peer there, back;
	int rc = symm_cuda_probe_peer(a, b, &there);

	if (rc == 0)
		rc = symm_cuda_probe_peer(b, a, &back);
	if (rc != 0)
		return rc;
	pair->access = there.access && back.access;
	pair->atomics = there.atomics && back.atomics;
	return 0;
}

static void tell_pairs(struct symm_doctor *doctor, int n)
{
	int count[2] = { 0, 0 };

	for (int i = 0; i < n * n; i++) {
		int a = i / n, b = i % n;
		struct symm_cuda_peer pair;
		char check[CHECK_MAX];

		if (a >= b)
			continue;
		snprintf(check, sizeof(check), "cuda:%d, cuda:%d", a, b);
		if (probe_pair(a, b, &pair) != 0)
			symm_doctor_tell(doctor, fault(is_wanted_device(doctor, a) && is_wanted_device(doctor, b)),
					 check, "see dmesg, and nvidia-smi topo -p2p r", "%s", symm_last_error());
		else if (!pair.access)
			symm_doctor_tell(doctor, SYMM_HEALTH_WARN, check,
					 "take devices that nvidia-smi topo -p2p r shows as OK to each other; on PCIe, "
					 "turn ACS and the IOMMU's translation off",
					 "no peer path: ranks on these two cannot share memory");
		else
			count[pair.atomics]++;
	}
	if (count[0] + count[1] > 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "peers", NULL,
				 "%d pair%s over NVLink (native atomics), %d over PCIe", count[1],
				 count[1] == 1 ? "" : "s", count[0]);
}

static void tell_devices(struct symm_doctor *doctor, int n)
{
	struct symm_cuda_probe *devices = calloc((size_t)n, sizeof(*devices));
	int found = 0;

	for (int i = 0; i < n && devices != NULL; i++) {
		char check[CHECK_MAX];

		snprintf(check, sizeof(check), "cuda:%d", i);
		if (symm_cuda_probe_device(i, true, &devices[found]) != 0)
			symm_doctor_tell(doctor, device_fault(doctor, i), check, "see dmesg and nvidia-smi", "%s",
					 symm_last_error());
		else
			tell_device(doctor, &devices[found++]);
	}
	tell_pairs(doctor, n);
	if (devices != NULL)
		tell_multicast(doctor, devices, found);
	free(devices);
}

/* No GPU is no fault, unless one is asked for or there seems to be one. */
static void tell_absent(struct symm_doctor *doctor, const char *why)
{
	const char *mend = "as it says; nvidia-smi shows whether the driver works. Or use the host device";

	if (is_wanted(doctor))
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "cuda", mend, "the device '%s' is asked for: %s",
				 doctor->device, why);
	else if (access("/dev/nvidiactl", F_OK) == 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "cuda", mend, "/dev/nvidiactl is there, but: %s", why);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "cuda", NULL, "%s; the host device works without", why);
}

static void tell_driver(struct symm_doctor *doctor, const struct symm_cuda_api *cuda, int n)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");

	symm_doctor_tell(doctor, SYMM_HEALTH_OK, "cuda", NULL, "driver for CUDA %d.%d (%s), %d device%s%s%s",
			 cuda->version / 1000, cuda->version % 1000 / 10, cuda->path, n, n == 1 ? "" : "s",
			 visible != NULL ? ", CUDA_VISIBLE_DEVICES=" : "", visible != NULL ? visible : "");
	if (doctor->device != NULL && strncmp(doctor->device, "cuda:", 5) == 0 && atoi(doctor->device + 5) >= n)
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "device", "count from 0; look at CUDA_VISIBLE_DEVICES",
				 "there is no %s among %d", doctor->device, n);
}

/* Only "cuda" alone gives each rank a device; a rank that sees one has it, whatever its number. */
static void tell_ranks(struct symm_doctor *doctor, int n)
{
	bool share = false;

	if (!is_wanted(doctor) || strcmp(doctor->device, "cuda") != 0)
		return;
	if (symm_launch_flag("SYMM_SHARE_DEVICE", &share) != 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "ranks", "export SYMM_SHARE_DEVICE=1, or unset it", "%s",
				 symm_last_error());
	else if (doctor->ranks <= n || n == 1)
		return;
	else if (share)
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "ranks", "start as many ranks here as there are devices",
				 "%d share %d devices: ranks on one device take turns, milliseconds each",
				 doctor->ranks, n);
	else
		symm_doctor_tell(
			doctor, SYMM_HEALTH_BAD, "ranks",
			"start fewer ranks here, or let them share: symmrun --share-device, SYMM_SHARE_DEVICE=1",
			"%d on this host, and %d devices: each wants its own", doctor->ranks, n);
}

void symm_doctor_cuda(struct symm_doctor *doctor)
{
	const struct symm_cuda_api *cuda;
	int n = 0;

	if (symm_cuda_load(&cuda) != 0 || symm_cuda_probe_count(&n) != 0) {
		tell_absent(doctor, symm_last_error());
		return;
	}
	if (n == 0) {
		tell_absent(doctor, "the driver shows no device; is CUDA_VISIBLE_DEVICES right?");
		return;
	}
	tell_driver(doctor, cuda, n);
	tell_kernels(doctor);
	tell_devices(doctor, n);
	tell_ranks(doctor, n);
	tell_module_loading(doctor);
	tell_connections(doctor);
}
