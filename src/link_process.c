#include "link_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROVE_NS (10 * SYMM_NS_PER_MS)

/* ---- files of /proc ---- */

/* The start of a file as text; false if it cannot be read. */
static bool read_text(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, out, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	out[n] = '\0';
	return true;
}

/* What /proc/PID/stat tells after the name, which may itself hold blanks and parentheses. */
struct stat_line {
	char state;
	long threads;
	unsigned long long start;
};

static bool read_stat(const char *path, struct stat_line *line)
{
	char text[1024], *at;

	if (!read_text(path, text, sizeof(text)))
		return false;
	at = strrchr(text, ')');
	return at != NULL &&
	       sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu",
		      &line->state, &line->threads, &line->start) == 3;
}

static uint64_t namespace_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* ---- this process ---- */

static void fill_host(char out[SYMM_HOST_MAX])
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";

	if (gethostname(out, SYMM_HOST_MAX) != 0 || out[0] == '\0')
		strcpy(out, "unknown");
	out[SYMM_HOST_MAX - 1] = '\0';
	for (size_t at = strspn(out, allowed); out[at] != '\0'; at += strspn(out + at, allowed))
		out[at] = '-';
}

/* SYMM_BOOT_ID lets tests play two hosts on one machine. */
static int fill_boot(char out[SYMM_BOOT_MAX])
{
	const char *override = getenv("SYMM_BOOT_ID");

	if (override != NULL && *override != '\0') {
		if (snprintf(out, SYMM_BOOT_MAX, "%s", override) >= SYMM_BOOT_MAX)
			return symm_error(SYMM_EINVAL, "SYMM_BOOT_ID: longer than %d characters", SYMM_BOOT_MAX - 1);
		return SYMM_OK;
	}
	if (!read_text("/proc/sys/kernel/random/boot_id", out, SYMM_BOOT_MAX))
		return symm_error_sys(SYMM_ESYS, errno, "cannot read /proc/sys/kernel/random/boot_id");
	out[strcspn(out, "\n")] = '\0';
	return SYMM_OK;
}

int symm_process_self(struct symm_process *self)
{
	struct symm_process read = { .id = symm_id_new(), .pid = getpid() };
	struct symm_id name = symm_id_new();
	char hex[SYMM_ID_HEX];
	struct stat_line line;
	int rc;

	if (!read_stat("/proc/self/stat", &line))
		return symm_error(SYMM_ESYS, "cannot read /proc/self/stat: is /proc mounted?");
	read.start = line.start;
	read.pidns = namespace_of("/proc/self/ns/pid");
	read.netns = namespace_of("/proc/self/ns/net");
	fill_host(read.host);
	rc = fill_boot(read.boot);
	if (rc != SYMM_OK)
		return rc;
	symm_id_format(&name, hex);
	snprintf(read.socket, sizeof(read.socket), "symm-%s", hex);
	*self = read;
	return SYMM_OK;
}

/* ---- another process ---- */

/* A leader that has ended counts as gone only with its last thread. */
static bool stat_says_dead(const struct stat_line *line, uint64_t start)
{
	return line->start != start || line->state == 'X' || (line->state == 'Z' && line->threads <= 1);
}

enum symm_proof symm_process_look(const struct symm_process *process)
{
	char path[64];
	struct stat_line line;

	if (process->pidns == 0 || process->pidns != namespace_of("/proc/self/ns/pid"))
		return SYMM_UNPROVEN;
	if (kill(process->pid, 0) != 0 && errno == ESRCH)
		return SYMM_DEAD;
	snprintf(path, sizeof(path), "/proc/%d/stat", process->pid);
	if (!read_stat(path, &line))
		return kill(process->pid, 0) != 0 && errno == ESRCH ? SYMM_DEAD : SYMM_UNPROVEN;
	return stat_says_dead(&line, process->start) ? SYMM_DEAD : SYMM_ALIVE;
}

static bool wait_readable(int fd, int64_t deadline)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int n;

	do {
		int64_t left = deadline - symm_now();

		n = poll(&poll_fd, 1, left > 0 ? (int)(left / SYMM_NS_PER_MS) + 1 : 0);
	} while (n < 0 && errno == EINTR);
	return n == 1;
}

/* True if whoever listens there says that it is the process. */
static bool answers_as(int fd, const struct symm_id *process)
{
	struct symm_id self = symm_id_new();
	struct symm_parcel parcel;
	bool same;
	pid_t pid;

	if (!symm_socket_trusted(fd, &pid) || symm_socket_hello(fd, &self) != 0)
		return false;
	if (!wait_readable(fd, symm_now() + PROVE_NS) || symm_socket_recv(fd, &parcel) != 0)
		return false;
	same = parcel.message.type == SYMM_MESSAGE_HELLO && symm_id_equal(&parcel.message.process, process);
	symm_parcel_drop(&parcel);
	return same;
}

enum symm_proof symm_link_prove(const struct symm_process *process)
{
	enum symm_proof proof = symm_process_look(process);
	uint64_t netns = namespace_of("/proc/self/ns/net");
	int fd, err;

	if (proof != SYMM_UNPROVEN)
		return proof;
	err = symm_socket_connect(process, netns, &fd);
	if (err != 0)
		return (err == -ECONNREFUSED || err == -ENOENT) && process->netns == netns ? SYMM_DEAD : SYMM_UNPROVEN;
	proof = answers_as(fd, &process->id) ? SYMM_ALIVE : SYMM_UNPROVEN;
	close(fd);
	return proof;
}
