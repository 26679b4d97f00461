#include "tap.h"
#include "error.h"
#include "url.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct good {
	const char *text;
	int kind;
	const char *where; /* host or path */
	int port;
	const char *user, *password;
	int db;
	const char *name;
} good[] = {
	{ "redis://h", SYMM_URL_TCP, "h", 6379, "", "", 0, "redis://h:6379" },
	{ "redis://h:1", SYMM_URL_TCP, "h", 1, "", "", 0, "redis://h:1" },
	{ "redis://h:65535/", SYMM_URL_TCP, "h", 65535, "", "", 0, "redis://h:65535" },
	{ "redis://h/3", SYMM_URL_TCP, "h", 6379, "", "", 3, "redis://h:6379/3" },
	{ "redis://h?db=4", SYMM_URL_TCP, "h", 6379, "", "", 4, "redis://h:6379/4" },
	{ "redis://h/?db=4", SYMM_URL_TCP, "h", 6379, "", "", 4, "redis://h:6379/4" },
	{ "redis://h/2147483647", SYMM_URL_TCP, "h", 6379, "", "", 2147483647, "redis://h:6379/2147483647" },
	{ "redis://10.1.2.3:7000", SYMM_URL_TCP, "10.1.2.3", 7000, "", "", 0, "redis://10.1.2.3:7000" },
	{ "redis://[::1]", SYMM_URL_TCP, "::1", 6379, "", "", 0, "redis://[::1]:6379" },
	{ "redis://[::1]:7/1", SYMM_URL_TCP, "::1", 7, "", "", 1, "redis://[::1]:7/1" },
	{ "redis://[fe80::1%25eth0]:7", SYMM_URL_TCP, "fe80::1%eth0", 7, "", "", 0, "redis://[fe80::1%eth0]:7" },
	{ "redis://u:p@h", SYMM_URL_TCP, "h", 6379, "u", "p", 0, "redis://h:6379" },
	{ "redis://:p@h", SYMM_URL_TCP, "h", 6379, "", "p", 0, "redis://h:6379" },
	{ "redis://u@h", SYMM_URL_TCP, "h", 6379, "u", "", 0, "redis://h:6379" },
	{ "redis://u:@h", SYMM_URL_TCP, "h", 6379, "u", "", 0, "redis://h:6379" },
	{ "redis://u:a:b@h", SYMM_URL_TCP, "h", 6379, "u", "a:b", 0, "redis://h:6379" },
	{ "redis://u:a@b@h", SYMM_URL_TCP, "h", 6379, "u", "a@b", 0, "redis://h:6379" },
	{ "redis://u:se%25cret%40%3A%2f@h", SYMM_URL_TCP, "h", 6379, "u", "se%cret@:/", 0, "redis://h:6379" },
	{ "redis://u:p@[::1]:9/2", SYMM_URL_TCP, "::1", 9, "u", "p", 2, "redis://[::1]:9/2" },
	{ "rediss://a-b.c_d:7", SYMM_URL_TLS, "a-b.c_d", 7, "", "", 0, "rediss://a-b.c_d:7" },
	{ "unix:///a/b", SYMM_URL_UNIX, "/a/b", 0, "", "", 0, "unix:///a/b" },
	{ "unix:///a%20b?db=2", SYMM_URL_UNIX, "/a b", 0, "", "", 2, "unix:///a b?db=2" },
	{ "unix://u:p@/a/b", SYMM_URL_UNIX, "/a/b", 0, "u", "p", 0, "unix:///a/b" },
	{ "unix://:p@/a@b", SYMM_URL_UNIX, "/a@b", 0, "", "p", 0, "unix:///a@b" },
};

static const struct bad {
	const char *text, *why;
} bad[] = {
	{ "", "none of redis://" },
	{ "h:6379", "none of redis://" },
	{ "http://h", "none of redis://" },
	{ "redis:/h", "none of redis://" },
	{ "redis://", "host is empty" },
	{ "redis:///1", "host is empty" },
	{ "redis://:6379", "host is empty" },
	{ "redis://u:p@", "host is empty" },
	{ "redis://h:", "port" },
	{ "redis://h:0", "port" },
	{ "redis://h:65536", "port" },
	{ "redis://h:99999999999999999999", "port" },
	{ "redis://h:-1", "port" },
	{ "redis://h:6x", "port" },
	{ "redis://[::1]6", "port" },
	{ "redis://::1", "brackets" },
	{ "redis://[::1", "brackets" },
	{ "redis://[h]", "not an IPv6 address" },
	{ "redis://[]", "not an IPv6 address" },
	{ "redis://h h", "character" },
	{ "redis://h%41", "character" },
	{ "redis://h/x", "database" },
	{ "redis://h/-1", "database" },
	{ "redis://h/1/", "database" },
	{ "redis://h/2147483648", "database" },
	{ "redis://h?db=", "database" },
	{ "redis://h?colour=red", "unknown option 'colour'" },
	{ "redis://h?cacert=/x", "unknown option 'cacert' (known: db; rediss:// also" },
	{ "rediss://h?colour=red", "unknown option 'colour'" },
	{ "rediss://h?verify=maybe", "verify" },
	{ "rediss://h?key=/x", "a key without a certificate" },
	{ "redis://u:%4@h", "'%' without two hex digits in the password" },
	{ "redis://u:%zz@h", "'%' without two hex digits in the password" },
	{ "redis://u%:p@h", "'%' without two hex digits in the user" },
	{ "redis://u:a%00b@h", "control character in the password" },
	{ "unix:///a%0ab", "control character in the path" },
	{ "unix://", "path" },
	{ "unix:///", "path" },
	{ "unix://a/b", "path" },
	{ "unix:///123456789/123456789/123456789/123456789/123456789/123456789/123456789/123456789/123456789/123456789/"
	  "1234567",
	  "path is longer than 107 bytes" },
};

/* Reserved characters that were not encoded: the password must not be quoted as what it was taken for. */
static const char *const leaky[] = {
	"redis://u:sec/ret@h",    "redis://u:sec?ret@h",  "redis://:sec/ret@h",       "redis://u:sec:ret@:h@",
	"rediss://u:sec?ret@h",   "redis://u:%sec@h",     "redis://u:0sec/0ret@h",    "unix://u:sec/ret@/path?x",
	"rediss://u:1?ret&ret@h", "redis://u:6379/ret@h", "redis://u:1/0?secret@h=1",
};

static void test_good(void)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct good *want = &good[i];
		struct symm_url url;

		if (!ok(symm_url_parse(want->text, &url) == SYMM_OK, "%s is accepted", want->text)) {
			tap_diag("%s", symm_last_error());
			continue;
		}
		is_int(url.kind, want->kind, "%s: kind", want->text);
		is_str(url.kind == SYMM_URL_UNIX ? url.path : url.host, want->where, "%s: host or path", want->text);
		is_int(url.port, want->port, "%s: port", want->text);
		is_str(url.user, want->user, "%s: user", want->text);
		is_str(url.password, want->password, "%s: password", want->text);
		is_int(url.db, want->db, "%s: database", want->text);
		is_str(url.name, want->name, "%s: name", want->text);
	}
}

static void test_bad(void)
{
	struct symm_url url = { .port = 42 };
	char text[700] = "redis://u:";

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		is_int(symm_url_parse(bad[i].text, &url), SYMM_EINVAL, "%s is refused", bad[i].text);
		has_str(symm_last_error(), bad[i].why, "%s: the error says why", bad[i].text);
	}
	for (size_t i = 0; i < sizeof(leaky) / sizeof(leaky[0]); i++) {
		is_int(symm_url_parse(leaky[i], &url), SYMM_EINVAL, "%s is refused", leaky[i]);
		ok(strstr(symm_last_error(), "ret") == NULL && strstr(symm_last_error(), "sec") == NULL,
		   "%s: the error keeps the secret: %s", leaky[i], symm_last_error());
	}
	memset(text + strlen(text), 'p', 512);
	strcat(text, "@h");
	is_int(symm_url_parse(text, &url), SYMM_EINVAL, "a password of 512 bytes is refused");
	is_int(url.port, 42, "outputs are written on success only");
}

static void test_tls_options(void)
{
	struct symm_url url = { 0 };

	is_int(symm_url_parse("rediss://h?cacert=/ca%26&cert=/c&key=/k&sni=other&verify=none&db=5", &url), SYMM_OK,
	       "TLS options");
	is_str(url.cacert, "/ca&", "cacert");
	is_str(url.cert, "/c", "cert");
	is_str(url.key, "/k", "key");
	is_str(url.sni, "other", "sni");
	is_int(url.db, 5, "db");
	ok(!url.verify, "verify=none");
	is_str(url.name, "rediss://h:6379/5", "the name is without options");
	setenv("SYMM_TLS_CACERT", "/e/ca", 1);
	setenv("SYMM_TLS_CERT", "/e/c", 1);
	setenv("SYMM_TLS_KEY", "/e/k", 1);
	is_int(symm_url_parse("rediss://h?cert=/c", &url), SYMM_OK, "options from the environment");
	ok(url.verify, "names are checked by default");
	is_str(url.cacert, "/e/ca", "cacert from the environment");
	is_str(url.cert, "/c", "the URL wins");
	is_str(url.key, "/e/k", "key from the environment");
	is_int(symm_url_parse("redis://h", &url), SYMM_OK, "redis:// with TLS variables set");
	is_str(url.cacert, "", "they are for rediss:// only");
	unsetenv("SYMM_TLS_CACERT");
	unsetenv("SYMM_TLS_CERT");
	unsetenv("SYMM_TLS_KEY");
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	if (file == NULL)
		tap_bail("cannot write %s", path);
	fputs(text, file);
	fclose(file);
	chmod(path, 0600);
}

static void test_password(void)
{
	char path[] = "/tmp/symm-url-XXXXXX";
	struct symm_url url = { 0 };

	close(mkostemp(path, O_CLOEXEC));
	write_file(path, "from file\nsecond line\n");
	setenv("SYMM_REDIS_PASSWORD_FILE", path, 1);
	is_int(symm_url_parse("redis://u@h", &url), SYMM_OK, "password from a file");
	is_str(url.password, "from file", "its first line");
	setenv("SYMM_REDIS_PASSWORD", "from variable", 1);
	is_int(symm_url_parse("redis://u@h", &url), SYMM_OK, "password from a variable");
	is_str(url.password, "from variable", "which comes before the file");
	is_int(symm_url_parse("redis://u:own@h", &url), SYMM_OK, "password in the URL");
	is_str(url.password, "own", "which comes before both");
	unsetenv("SYMM_REDIS_PASSWORD");
	write_file(path, "\nx\n");
	is_int(symm_url_parse("redis://h", &url), SYMM_EINVAL, "an empty first line");
	has_str(symm_last_error(), path, "the error names the file");
	unlink(path);
	is_int(symm_url_parse("redis://h", &url), SYMM_EINVAL, "a missing password file");
	has_str(symm_last_error(), path, "the error names the file");
	unsetenv("SYMM_REDIS_PASSWORD_FILE");
}

int main(void)
{
	test_good();
	test_bad();
	test_tls_options();
	test_password();
	return tap_done();
}
