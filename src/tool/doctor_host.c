#include "doctor.h"

#include "error.h"
#include "launch.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define SECCOMP "allow it in the container's seccomp profile"

/* ---- trials: 0, or what went wrong as an errno ---- */

/* What every allocation of the host device is: an anonymous file with memory behind it that nobody can shrink. */
static int try_memfd(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = memfd_create("symm-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING), err;
	void *at;

	if (fd < 0)
		return errno;
	err = posix_fallocate(fd, 0, (off_t)page);
	if (err == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		err = errno;
	at = err == 0 ? mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (err == 0 && at == MAP_FAILED)
		err = errno;
	if (at != MAP_FAILED)
		munmap(at, page);
	close(fd);
	return err;
}

static int try_proc(void)
{
	static const char *const files[] = { "/proc/self/stat", "/proc/sys/kernel/random/boot_id",
					     "/proc/self/ns/net" };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (access(files[i], R_OK) != 0)
			return errno;
	return 0;
}

static int try_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int try_membarrier(void)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (commands < 0)
		return errno;
	return commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED ? 0 : ENOSYS;
}

/* A listener under an abstract name of the kernel's choice, and a connection to it. */
static int connect_abstract(int listener, int client)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(address);

	if (bind(listener, (struct sockaddr *)&address, sizeof(address.sun_family)) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
	    connect(client, (struct sockaddr *)&address, length) != 0)
		return errno;
	return 0;
}

static int pass_fd(int from, int to, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	char byte = 0;
	struct iovec data = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int got;

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (sendmsg(from, &message, MSG_NOSIGNAL) < 0 || recvmsg(to, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return errno;
	header = CMSG_FIRSTHDR(&message);
	if (header == NULL || header->cmsg_type != SCM_RIGHTS)
		return EPERM;
	memcpy(&got, CMSG_DATA(header), sizeof(got));
	close(got);
	return 0;
}

static int try_links(void)
{
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), server = -1;
	int err = listener < 0 || client < 0 ? errno : connect_abstract(listener, client);

	if (err == 0 && (server = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
		err = errno;
	if (err == 0)
		err = pass_fd(client, server, listener);
	for (size_t i = 0; i < 3; i++) {
		int fd = (const int[]){ listener, client, server }[i];

		if (fd >= 0)
			close(fd);
	}
	return err;
}

static const struct {
	const char *check;
	int (*try)(void);
	const char *works;
	enum symm_health without;
	const char *fails;
	const char *mend;
} trials[] = {
	{ "memfd", try_memfd, "sealed memory files work; /dev/shm is not needed", SYMM_HEALTH_BAD,
	  "the host device has no memory without sealed memory files",
	  "memfd_create needs Linux 3.17 or later: " SECCOMP ", or free memory in its cgroup" },
	{ "/proc", try_proc, "is mounted and readable", SYMM_HEALTH_BAD,
	  "processes cannot be told apart without /proc/self and /proc/sys/kernel/random/boot_id",
	  "mount -t proc proc /proc, also in the container" },
	{ "links", try_links, "abstract Unix sockets carry file descriptors", SYMM_HEALTH_BAD,
	  "ranks of this host cannot exchange memory without abstract Unix sockets that carry file descriptors",
	  "let the container or security module (SELinux, AppArmor) allow Unix sockets and SCM_RIGHTS" },
	{ "pidfd", try_pidfd, "tells of a death at once", SYMM_HEALTH_WARN,
	  "no pidfd_open: the death of a rank is noticed by its sockets alone, which its children keep open",
	  "pidfd_open needs Linux 5.3 or later: " SECCOMP },
	{ "membarrier", try_membarrier, "works", SYMM_HEALTH_WARN,
	  "no membarrier: each call of symm costs a little more", "membarrier needs Linux 4.14 or later: " SECCOMP },
};

/* ---- limits ---- */

/* A process keeps two sockets and a pidfd for each process of another rank, and some fds for itself. */
#define FDS_A_PEER 3
#define FDS_OWN 64
#define FEW_RANKS 64

static void tell_nofile(struct symm_doctor *doctor)
{
	uintmax_t wanted = doctor->ranks > 0 ? (uintmax_t)doctor->ranks : FEW_RANKS;
	uintmax_t need = FDS_OWN + FDS_A_PEER * (wanted - 1);
	struct rlimit limit = { 0 };
	uintmax_t soft, hard;
	char mend[256];

	getrlimit(RLIMIT_NOFILE, &limit);
	soft = limit.rlim_cur;
	hard = limit.rlim_max;
	if (soft >= need) {
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "open files", NULL,
				 "%ju (hard limit %ju): enough for some %ju ranks on this host", soft, hard,
				 (soft - FDS_OWN) / FDS_A_PEER + 1);
		return;
	}
	snprintf(mend, sizeof(mend), "ulimit -n %ju%s", need,
		 hard < need ? ", after raising the hard limit (LimitNOFILE=, limits.conf, docker --ulimit)" : "");
	symm_doctor_tell(doctor, doctor->ranks > 0 ? SYMM_HEALTH_BAD : SYMM_HEALTH_WARN, "open files", mend,
			 "%ju (hard limit %ju): too few for %ju ranks on this host", soft, hard, wanted);
}

static void tell_memlock(struct symm_doctor *doctor)
{
	struct rlimit limit = { 0 };

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "locked memory", NULL, "unlimited");
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "locked memory", NULL,
				 "%ju bytes; symm locks none, and what CUDA pins does not count",
				 (uintmax_t)limit.rlim_cur);
}

static void tell_cpus(struct symm_doctor *doctor)
{
	int cpus = symm_tool_cpus();

	if (doctor->ranks > cpus)
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "cpus",
				 "run fewer ranks on this host, or give it more CPUs (taskset, the cgroup's cpuset)",
				 "%d for %d ranks: waiting on the host device costs time slices", cpus, doctor->ranks);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "cpus", NULL, "%d for this process", cpus);
}

static void tell_link_dir(struct symm_doctor *doctor)
{
	const char *dir = symm_tool_env("SYMM_LINK_DIR");

	if (dir == NULL)
		return;
	if (access(dir, W_OK | X_OK) == 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "SYMM_LINK_DIR", NULL, "%s takes sockets", dir);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "SYMM_LINK_DIR",
				 "make the folder, writable for the ranks' user, or unset the variable", "%s: %s", dir,
				 strerror(errno));
}

static void tell_launch(struct symm_doctor *doctor)
{
	struct symm_launch launch;

	if (symm_launch_read(&launch) != 0 || symm_launch_check() != 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "rank", "correct or unset the variable", "%s",
				 symm_last_error());
	else if (launch.rank != SYMM_AUTO && launch.world_size != SYMM_AUTO)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "rank", NULL, "%d of %d, from %s", launch.rank,
				 launch.world_size, launch.source);
}

void symm_doctor_host(struct symm_doctor *doctor)
{
	for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
		int err = trials[i].try();

		if (err == 0)
			symm_doctor_tell(doctor, SYMM_HEALTH_OK, trials[i].check, NULL, "%s", trials[i].works);
		else
			symm_doctor_tell(doctor, trials[i].without, trials[i].check, trials[i].mend, "%s: %s",
					 trials[i].fails, strerror(err));
	}
	tell_link_dir(doctor);
	tell_nofile(doctor);
	tell_memlock(doctor);
	tell_cpus(doctor);
	tell_launch(doctor);
}
