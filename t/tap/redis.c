#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_TRIES 3000 /* of 10 ms */
#define PORT_TRIES 5

static void nap_10ms(void)
{
	const struct timespec nap = { .tv_nsec = 10000000 };

	nanosleep(&nap, NULL);
}

static void fill(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void fill(char *out, size_t size, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(out, size, format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= size)
		tap_bail("too long (TMPDIR?): %s", out);
}

/* ---- the folder, and the process that removes it ---- */

static void remove_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(path);
}

/* Only another process can remove the folder of a test that was killed. It leaves the process group, so that the
 * interrupt key does not take both, and lets go of stdout and stderr, whose readers wait for their end. */
static void keep_folder(const char *path, int parent)
{
	sigset_t terminate;
	int got, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigemptyset(&terminate);
	sigaddset(&terminate, SIGTERM);
	sigprocmask(SIG_BLOCK, &terminate, NULL);
	setsid();
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() == parent)
		sigwait(&terminate, &got);
	for (int i = 0; i < 10 && access(path, F_OK) == 0; i++) {
		remove_folder(path); /* the server, dying at the same moment, may still write to its log */
		nap_10ms();
	}
	_exit(0);
}

static void make_folder(struct tap_redis *redis)
{
	const char *tmp = getenv("TMPDIR");
	int parent = getpid();

	fill(redis->dir, sizeof(redis->dir), "%s/tap-redis-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(redis->dir))
		tap_bail("mkdtemp %s: %s", redis->dir, strerror(errno));
	fill(redis->socket, sizeof(redis->socket), "%s/socket", redis->dir);
	if (strlen(redis->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		tap_bail("TMPDIR is too long for a Unix socket: %s", redis->socket);
	fflush(NULL);
	redis->keeper = fork();
	if (redis->keeper < 0)
		tap_bail("fork: %s", strerror(errno));
	if (redis->keeper == 0)
		keep_folder(redis->dir, parent);
}

/* ---- what the server is told ---- */

/* EC keys: making RSA keys takes longer than most tests. */
static const char make_certificates[] =
	"set -e; cd \"$1\"; exec >openssl.log 2>&1\n"
	"new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'\n"
	"openssl req -x509 $new -keyout ca.key -out ca.crt -days 2 -subj '/CN=CA of one test'\n"
	"echo subjectAltName=DNS:localhost >server.ext; : >client.ext\n"
	"for who in server client; do\n"
	"	openssl req -new $new -keyout $who.key -out $who.csr -subj /CN=$who\n"
	"	openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile $who.ext -out "
	"$who.crt\n"
	"done\n";

static void make_tls(struct tap_redis *redis)
{
	int status = -1, pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", make_certificates, "sh", redis->dir, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		tap_bail("cannot make certificates with the openssl command (status %d)", status);
	fill(redis->cacert, sizeof(redis->cacert), "%s/ca.crt", redis->dir);
	fill(redis->cert, sizeof(redis->cert), "%s/client.crt", redis->dir);
	fill(redis->key, sizeof(redis->key), "%s/client.key", redis->dir);
}

static bool can_bind(int family, int *port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *address = family == AF_INET ? (void *)&four : (void *)&six;
	socklen_t length = family == AF_INET ? sizeof(four) : sizeof(six);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool can;

	four.sin_port = six.sin6_port = htons((uint16_t)*port);
	can = fd >= 0 && bind(fd, address, length) == 0 && getsockname(fd, address, &length) == 0;
	if (can)
		*port = ntohs(family == AF_INET ? four.sin_port : six.sin6_port);
	if (fd >= 0)
		close(fd);
	return can;
}

/* A port that was free a moment ago; the server's failure to bind it is a reason to draw again. */
static void draw_port(struct tap_redis *redis, FILE *conf, const char *keyword)
{
	redis->port = 0;
	if (!can_bind(AF_INET, &redis->port))
		tap_bail("no free port on 127.0.0.1: %s", strerror(errno));
	fprintf(conf, "%s %d\nbind 127.0.0.1%s\n", keyword, redis->port,
		can_bind(AF_INET6, &redis->port) ? " ::1" : "");
}

static void write_kind(struct tap_redis *redis, enum tap_redis_kind kind, FILE *conf)
{
	switch (kind) {
	case TAP_REDIS_UNIX:
		fprintf(conf, "port 0\n");
		fill(redis->url, sizeof(redis->url), "unix://%s", redis->socket);
		break;
	case TAP_REDIS_TCP:
		draw_port(redis, conf, "port");
		fill(redis->url, sizeof(redis->url), "redis://127.0.0.1:%d", redis->port);
		break;
	case TAP_REDIS_PASSWORD:
		draw_port(redis, conf, "port");
		fprintf(conf, "requirepass \"se%%cret@:/\"\nuser ann on \">pass word\" ~* +@all\n");
		fill(redis->url, sizeof(redis->url), "redis://ann:pass%%20word@127.0.0.1:%d", redis->port);
		break;
	case TAP_REDIS_TLS:
		fprintf(conf, "port 0\n");
		draw_port(redis, conf, "tls-port");
		fprintf(conf, "tls-ca-cert-file ca.crt\ntls-cert-file server.crt\ntls-key-file server.key\n"
			      "tls-auth-clients optional\n");
		fill(redis->url, sizeof(redis->url), "rediss://localhost:%d?cacert=%s", redis->port, redis->cacert);
		break;
	}
}

static void write_conf(struct tap_redis *redis, enum tap_redis_kind kind)
{
	char path[192];
	FILE *conf;

	fill(path, sizeof(path), "%s/redis.conf", redis->dir);
	conf = fopen(path, "we");
	if (!conf)
		tap_bail("%s: %s", path, strerror(errno));
	fprintf(conf, "dir \"%s\"\nunixsocket \"%s\"\nunixsocketperm 700\n", redis->dir, redis->socket);
	fprintf(conf, "logfile redis.log\ndaemonize no\nsave \"\"\nappendonly no\nmaxclients 4000\n");
	write_kind(redis, kind, conf);
	if (fclose(conf) != 0)
		tap_bail("%s: %s", path, strerror(errno));
}

/* ---- the server ---- */

static void exec_server(const struct tap_redis *redis, int parent)
{
	int log;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || chdir(redis->dir) != 0)
		_exit(126);
	log = open("redis.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	execlp("redis-server", "redis-server", "redis.conf", (char *)NULL);
	_exit(127);
}

static bool answers(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char reply[64] = "";
	bool answered;

	memcpy(address.sun_path, path, strlen(path) + 1);
	answered = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		   write(fd, "PING\r\n", 6) == 6 && read(fd, reply, sizeof(reply) - 1) > 0 &&
		   (reply[0] == '+' || strncmp(reply, "-NOAUTH", 7) == 0);
	if (fd >= 0)
		close(fd);
	return answered;
}

static void show_log(const struct tap_redis *redis)
{
	char path[192], line[512];
	FILE *log;

	fill(path, sizeof(path), "%s/redis.log", redis->dir);
	log = fopen(path, "re");
	while (log && fgets(line, sizeof(line), log))
		tap_diag("redis: %.*s", (int)strcspn(line, "\n"), line);
	if (log)
		fclose(log);
}

static bool run_server(struct tap_redis *redis)
{
	int status, parent = getpid();

	unlink(redis->socket);
	fflush(NULL);
	redis->pid = fork();
	if (redis->pid < 0)
		tap_bail("fork: %s", strerror(errno));
	if (redis->pid == 0)
		exec_server(redis, parent);
	for (int i = 0; i < ANSWER_TRIES; i++) {
		if (answers(redis->socket))
			return true;
		if (waitpid(redis->pid, &status, WNOHANG) == redis->pid) {
			redis->pid = 0;
			if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
				tap_bail("redis-server is not installed");
			return false;
		}
		nap_10ms();
	}
	return false;
}

static void end_server(struct tap_redis *redis)
{
	if (redis->pid <= 0)
		return;
	kill(redis->pid, SIGKILL);
	waitpid(redis->pid, NULL, 0);
	redis->pid = 0;
}

void tap_redis_start(struct tap_redis *redis, enum tap_redis_kind kind)
{
	memset(redis, 0, sizeof(*redis));
	make_folder(redis);
	if (kind == TAP_REDIS_TLS)
		make_tls(redis);
	for (int i = 0; i < PORT_TRIES; i++) {
		write_conf(redis, kind);
		if (run_server(redis))
			return;
		end_server(redis);
	}
	show_log(redis);
	tap_bail("redis-server does not start");
}

void tap_redis_stop(struct tap_redis *redis)
{
	end_server(redis);
	if (redis->keeper <= 0)
		return;
	kill(redis->keeper, SIGTERM);
	waitpid(redis->keeper, NULL, 0);
	redis->keeper = 0;
}

void tap_redis_restart(struct tap_redis *redis)
{
	end_server(redis);
	for (int i = 0; i < PORT_TRIES; i++) {
		if (run_server(redis))
			return;
		end_server(redis);
		nap_10ms();
	}
	show_log(redis);
	tap_bail("redis-server does not start again");
}
