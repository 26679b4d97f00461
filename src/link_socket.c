#include "link_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How long until the fds in flight of this user, or the kernel's memory, may have become less. */
static const struct timeval pause_time = { .tv_usec = 2000 };

bool symm_socket_passing(int err)
{
	switch (err) {
	case EAGAIN:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case ETOOMANYREFS:
		return true;
	default:
		return false;
	}
}

/* ---- addresses ---- */

/* Both texts come out of a struct symm_process, whose arrays are shorter than sun_path. */
static socklen_t abstract_address(struct sockaddr_un *address, const char *name)
{
	size_t length = strlen(name);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path + 1, name, length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

static socklen_t path_address(struct sockaddr_un *address, const char *path)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, length);
	return sizeof(*address);
}

static int socket_new(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int listen_at(const struct sockaddr_un *address, socklen_t length, int *out)
{
	int fd = socket_new(), err;

	if (fd < 0)
		return fd;
	if (bind(fd, (const struct sockaddr *)address, length) != 0 || listen(fd, SOMAXCONN) != 0) {
		err = errno;
		close(fd);
		return -err;
	}
	*out = fd;
	return 0;
}

int symm_socket_listen_abstract(const char *name, int *fd)
{
	struct sockaddr_un address;
	socklen_t length = abstract_address(&address, name);

	return listen_at(&address, length, fd);
}

int symm_socket_listen_path(const char *path, int *fd)
{
	struct sockaddr_un address;
	socklen_t length = path_address(&address, path);

	return listen_at(&address, length, fd);
}

static int connect_to(const struct sockaddr_un *address, socklen_t length, int *out)
{
	int fd = socket_new(), err;

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)address, length) != 0) {
		err = errno;
		close(fd);
		return -err;
	}
	*out = fd;
	return 0;
}

int symm_socket_connect(const struct symm_process *process, uint64_t netns, int *fd)
{
	struct sockaddr_un address;
	socklen_t length = abstract_address(&address, process->socket);
	int err = connect_to(&address, length, fd);

	if (err != -ECONNREFUSED || process->netns == netns || process->path[0] == '\0')
		return err;
	length = path_address(&address, process->path);
	return connect_to(&address, length, fd);
}

bool symm_socket_trusted(int fd, pid_t *pid)
{
	struct ucred cred;
	socklen_t length = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0)
		return false;
	*pid = cred.pid;
	return cred.uid == geteuid() || cred.uid == 0;
}

/* ---- messages ---- */

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * SYMM_LINK_FDS)];
};

int symm_socket_send(int fd, const struct symm_message *message, const int *fds, uint32_t count)
{
	uint8_t bytes[SYMM_MESSAGE_BYTES];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	union control control = { .bytes = { 0 } };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	symm_message_pack(message, bytes);
	if (count > 0) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * count);
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
	}
	return sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int symm_socket_hello(int fd, const struct symm_id *self)
{
	struct symm_message hello = { .type = SYMM_MESSAGE_HELLO, .process = *self };

	return symm_socket_send(fd, &hello, NULL, 0);
}

static void take_fds(struct msghdr *header, struct symm_parcel *parcel)
{
	struct cmsghdr *at;

	for (at = CMSG_FIRSTHDR(header); at != NULL; at = CMSG_NXTHDR(header, at)) {
		if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
			continue;
		parcel->count = (uint32_t)((at->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(parcel->fds, CMSG_DATA(at), parcel->count * sizeof(int));
	}
	if ((header->msg_flags & MSG_CTRUNC) != 0) {
		symm_parcel_drop(parcel);
		parcel->truncated = true;
	}
}

/* ECONNRESET says that the other side closed without reading all that we sent: what it had sent is still to be read. */
static ssize_t recv_once(int fd, struct msghdr *header)
{
	ssize_t n;

	do {
		n = recvmsg(fd, header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	return n;
}

int symm_socket_recv(int fd, struct symm_parcel *parcel)
{
	uint8_t bytes[SYMM_MESSAGE_BYTES + 1];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	union control control;
	struct msghdr header = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recv_once(fd, &header);

	if (n < 0)
		return -errno;
	parcel->count = 0;
	parcel->truncated = false;
	take_fds(&header, parcel);
	if (n > 0 && symm_message_unpack(bytes, (size_t)n, &parcel->message) == SYMM_OK)
		return 0;
	symm_parcel_drop(parcel);
	return n == 0 ? -EPIPE : -EPROTO;
}

void symm_parcel_drop(struct symm_parcel *parcel)
{
	for (uint32_t i = 0; i < parcel->count; i++)
		close(parcel->fds[i]);
	parcel->count = 0;
}

/* ---- events ---- */

int symm_conn_open(struct symm_conn *conn, int fd, event_callback_fn on_read, event_callback_fn on_again, void *arg)
{
	*conn = (struct symm_conn){ .fd = fd, .on_again = on_again, .arg = arg };
	conn->readable = event_new(symm_endpoint.base, fd, EV_READ | EV_PERSIST, on_read, arg);
	conn->again = event_new(symm_endpoint.base, -1, 0, on_again, arg);
	if (conn->readable != NULL && conn->again != NULL && event_add(conn->readable, NULL) == 0)
		return 0;
	symm_conn_close(conn);
	return -ENOMEM;
}

void symm_conn_close(struct symm_conn *conn)
{
	if (conn->again != NULL)
		event_free(conn->again);
	if (conn->readable != NULL)
		event_free(conn->readable);
	if (conn->fd >= 0)
		close(conn->fd);
	*conn = (struct symm_conn){ .fd = -1 };
}

void symm_conn_wait(struct symm_conn *conn, int err)
{
	bool full = err == EAGAIN;

	event_del(conn->again);
	event_assign(conn->again, symm_endpoint.base, full ? conn->fd : -1, full ? EV_WRITE : 0, conn->on_again,
		     conn->arg);
	event_add(conn->again, full ? NULL : &pause_time);
}

bool symm_conn_waiting(const struct symm_conn *conn)
{
	return event_pending(conn->again, EV_WRITE | EV_TIMEOUT, NULL) != 0;
}
