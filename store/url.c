#include "url.h"

#include "error.h"
#include "log.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_PORT 6379

/* A part of the URL's text. */
struct span {
	const char *at;
	size_t n;
};

static struct span span_of(const char *at, const char *end)
{
	return (struct span){ at, (size_t)(end - at) };
}

/* Cuts span at the first of the characters in stops, and returns what stood before it. */
static struct span span_cut(struct span *span, const char *stops)
{
	struct span head = { span->at, 0 };

	while (head.n < span->n && strchr(stops, head.at[head.n]) == NULL)
		head.n++;
	span->at += head.n;
	span->n -= head.n;
	return head;
}

static bool span_is(struct span span, const char *text)
{
	return strlen(text) == span.n && memcmp(span.at, text, span.n) == 0;
}

/* A raw '@', '/' or '?' in a password shifts all that follows it: no error may then quote what it takes for another
 * part. */
static bool may_hold_secrets(struct span span)
{
	return memchr(span.at, '@', span.n) != NULL;
}

static int bad(const char *what, struct span rest)
{
	if (may_hold_secrets(rest))
		return symm_error(SYMM_EINVAL,
				  "store URL: %s (write '@', '/' and '?' of a password as %%40, %%2F, %%3F)", what);
	return symm_error(SYMM_EINVAL, "store URL: %s", what);
}

/* ---- text and numbers ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %XX. A control character is refused: it would end up in logs, or end the text. */
static int decode(struct span from, const char *what, char *out, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < from.n; i++) {
		char c = from.at[i];

		if (c == '%') {
			int high = i + 2 < from.n ? hex_digit(from.at[i + 1]) : -1;
			int low = i + 2 < from.n ? hex_digit(from.at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return symm_error(SYMM_EINVAL, "store URL: a '%%' without two hex digits in the %s",
						  what);
			c = (char)(high << 4 | low);
			i += 2;
		}
		if ((unsigned char)c < 0x20 || c == 0x7f)
			return symm_error(SYMM_EINVAL, "store URL: a control character in the %s", what);
		if (used + 1 >= size)
			return symm_error(SYMM_EINVAL, "store URL: the %s is longer than %zu bytes", what, size - 1);
		out[used++] = c;
	}
	out[used] = '\0';
	return SYMM_OK;
}

static bool number(struct span text, int64_t max, int64_t *value)
{
	int64_t n = 0;

	if (text.n == 0 || text.n > 10)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		n = n * 10 + (text.at[i] - '0');
	}
	*value = n;
	return n <= max;
}

static int parse_db(struct span text, struct span rest, struct symm_url *url)
{
	int64_t db;

	if (!number(text, INT_MAX, &db))
		return bad("the database is not a number from 0 to 2147483647", rest);
	url->db = (int)db;
	return SYMM_OK;
}

/* ---- the parts ---- */

static int parse_user(struct span user, struct symm_url *url)
{
	struct span name = span_cut(&user, ":");
	int rc = decode(name, "user", url->user, sizeof(url->user));

	if (rc != SYMM_OK || user.n == 0)
		return rc;
	return decode((struct span){ user.at + 1, user.n - 1 }, "password", url->password, sizeof(url->password));
}

static int parse_bracketed(struct span host, struct span rest, struct symm_url *url)
{
	char address[sizeof(url->host)];
	struct in6_addr ignored;
	int rc = decode(host, "host", url->host, sizeof(url->host));

	if (rc != SYMM_OK)
		return rc;
	snprintf(address, sizeof(address), "%.*s", (int)strcspn(url->host, "%"), url->host);
	if (inet_pton(AF_INET6, address, &ignored) != 1)
		return bad("what stands in brackets is not an IPv6 address", rest);
	return SYMM_OK;
}

static int parse_name(struct span host, struct span rest, struct symm_url *url)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

	if (host.n == 0)
		return bad("the host is empty", rest);
	for (size_t i = 0; i < host.n; i++)
		if (strchr(allowed, host.at[i]) == NULL)
			return bad("the host has a character that no host name has", rest);
	return decode(host, "host", url->host, sizeof(url->host));
}

static int parse_host(struct span text, struct span rest, struct symm_url *url)
{
	const char *end = text.at + text.n;
	const char *close = text.n > 0 && text.at[0] == '[' ? memchr(text.at, ']', text.n) : NULL;
	struct span host;
	int64_t port = DEFAULT_PORT;
	int rc;

	if (close != NULL) {
		rc = parse_bracketed(span_of(text.at + 1, close), rest, url);
		text = span_of(close + 1, end);
	} else {
		host = span_cut(&text, ":");
		if (text.n > 0 && memchr(text.at + 1, ':', text.n - 1) != NULL)
			return bad("more than one ':' after the host: an IPv6 address stands in brackets", rest);
		rc = parse_name(host, rest, url);
	}
	if (rc != SYMM_OK)
		return rc;
	if (text.n > 0 && (text.at[0] != ':' || !number(span_of(text.at + 1, end), UINT16_MAX, &port) || port == 0))
		return bad("the port is not a number from 1 to 65535", rest);
	url->port = (uint16_t)port;
	return SYMM_OK;
}

static int parse_unix(struct span authority, struct span path, struct symm_url *url)
{
	if (authority.n > 0 || path.n < 2)
		return bad("the path of the socket is missing: unix:///path", path);
	return decode(path, "path", url->path, sizeof(url->path));
}

static int unknown_option(struct span name, struct span rest)
{
	if (may_hold_secrets(rest))
		return bad("unknown option", rest);
	return symm_error(SYMM_EINVAL,
			  "store URL: unknown option '%.*s' (known: db; rediss:// also cacert, cert, key, sni, verify)",
			  (int)name.n, name.at);
}

static int parse_option(struct span name, struct span value, struct span rest, struct symm_url *url)
{
	struct {
		const char *name;
		char *out;
	} texts[] = { { "cacert", url->cacert }, { "cert", url->cert }, { "key", url->key }, { "sni", url->sni } };

	if (span_is(name, "db"))
		return parse_db(value, rest, url);
	if (url->kind != SYMM_URL_TLS)
		return unknown_option(name, rest);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (span_is(name, texts[i].name))
			return decode(value, texts[i].name, texts[i].out, sizeof(url->cacert));
	if (!span_is(name, "verify"))
		return unknown_option(name, rest);
	if (!span_is(value, "none") && !span_is(value, "full"))
		return bad("verify is neither 'full' nor 'none'", rest);
	url->verify = span_is(value, "full");
	return SYMM_OK;
}

/* Drops the separator that the span starts with, if there is any left. */
static void span_skip(struct span *span)
{
	if (span->n > 0)
		*span = (struct span){ span->at + 1, span->n - 1 };
}

static int parse_options(struct span text, struct symm_url *url)
{
	struct span rest = text;
	int rc = SYMM_OK;

	while (rc == SYMM_OK && text.n > 0) {
		struct span value = span_cut(&text, "&");
		struct span name = span_cut(&value, "=");

		span_skip(&text);
		span_skip(&value);
		rc = parse_option(name, value, rest, url);
	}
	return rc;
}

/* ---- the environment ---- */

static int from_environment(const char *variable, char *out, size_t size)
{
	const char *value = getenv(variable);

	if (value == NULL || out[0] != '\0')
		return SYMM_OK;
	if (strlen(value) >= size)
		return symm_error(SYMM_EINVAL, "%s is longer than %zu bytes", variable, size - 1);
	strcpy(out, value);
	return SYMM_OK;
}

static int read_password(const char *path, char *out, size_t size)
{
	char line[sizeof(((struct symm_url *)NULL)->password) + 2];
	FILE *file = fopen(path, "re");
	struct stat st;
	size_t n;

	if (file == NULL)
		return symm_error(SYMM_EINVAL, "cannot read the password file %s: %m", path);
	if (fstat(fileno(file), &st) == 0 && (st.st_mode & 077) != 0)
		symm_log(SYMM_LOG_WARN, "the password file %s can be read by others: chmod 600", path);
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	fclose(file);
	n = strcspn(line, "\r\n");
	if (n == 0 || n >= size)
		return symm_error(SYMM_EINVAL, "the first line of the password file %s is %s", path,
				  n == 0 ? "empty" : "too long");
	memcpy(out, line, n);
	out[n] = '\0';
	explicit_bzero(line, sizeof(line));
	return SYMM_OK;
}

static int add_environment(struct symm_url *url)
{
	const char *file = getenv("SYMM_REDIS_PASSWORD_FILE");
	int rc = from_environment("SYMM_REDIS_PASSWORD", url->password, sizeof(url->password));

	if (rc == SYMM_OK && url->password[0] == '\0' && file != NULL && file[0] != '\0')
		rc = read_password(file, url->password, sizeof(url->password));
	if (rc != SYMM_OK || url->kind != SYMM_URL_TLS)
		return rc;
	rc = from_environment("SYMM_TLS_CACERT", url->cacert, sizeof(url->cacert));
	if (rc == SYMM_OK)
		rc = from_environment("SYMM_TLS_CERT", url->cert, sizeof(url->cert));
	if (rc == SYMM_OK)
		rc = from_environment("SYMM_TLS_KEY", url->key, sizeof(url->key));
	return rc;
}

/* ---- the whole ---- */

static void make_name(struct symm_url *url)
{
	const char *scheme = url->kind == SYMM_URL_TLS ? "rediss" : "redis";
	bool six = strchr(url->host, ':') != NULL;
	char db[24] = "";

	if (url->db != 0)
		snprintf(db, sizeof(db), "%s%d", url->kind == SYMM_URL_UNIX ? "?db=" : "/", url->db);
	if (url->kind == SYMM_URL_UNIX)
		snprintf(url->name, sizeof(url->name), "unix://%s%s", url->path, db);
	else
		snprintf(url->name, sizeof(url->name), "%s://%s%s%s:%u%s", scheme, six ? "[" : "", url->host,
			 six ? "]" : "", url->port, db);
}

/* Notes the kind, and returns what follows the scheme; NULL if it is none of ours. */
static const char *parse_scheme(const char *text, struct symm_url *url)
{
	static const struct {
		const char *text;
		int kind;
	} schemes[] = {
		{ "redis://", SYMM_URL_TCP },
		{ "rediss://", SYMM_URL_TLS },
		{ "unix://", SYMM_URL_UNIX },
	};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t n = strlen(schemes[i].text);

		if (strncmp(text, schemes[i].text, n) == 0) {
			url->kind = schemes[i].kind;
			return text + n;
		}
	}
	return NULL;
}

/* What follows the scheme: [user[:password]@]authority[path][?options]. */
static int parse_rest(const char *text, struct symm_url *url)
{
	struct span rest = { text, strlen(text) };
	struct span authority = span_cut(&rest, "/?");
	const char *at = memrchr(authority.at, '@', authority.n);
	struct span path = span_cut(&rest, "?");
	int rc = SYMM_OK;

	if (at != NULL) {
		rc = parse_user(span_of(authority.at, at), url);
		authority = span_of(at + 1, authority.at + authority.n);
	}
	if (rc != SYMM_OK)
		return rc;
	if (url->kind == SYMM_URL_UNIX)
		rc = parse_unix(authority, path, url);
	else
		rc = parse_host(authority, span_of(authority.at, text + strlen(text)), url);
	if (rc == SYMM_OK && url->kind != SYMM_URL_UNIX && path.n > 1)
		rc = parse_db((struct span){ path.at + 1, path.n - 1 }, path, url);
	if (rc == SYMM_OK && rest.n > 1)
		rc = parse_options((struct span){ rest.at + 1, rest.n - 1 }, url);
	return rc;
}

int symm_url_parse(const char *text, struct symm_url *url)
{
	struct symm_url parsed = { .verify = true };
	const char *rest = parse_scheme(text, &parsed);
	int rc;

	if (rest == NULL)
		return symm_error(SYMM_EINVAL, "store URL: it starts with none of redis://, rediss:// and unix://");
	rc = parse_rest(rest, &parsed);
	if (rc == SYMM_OK)
		rc = add_environment(&parsed);
	if (rc == SYMM_OK && parsed.key[0] != '\0' && parsed.cert[0] == '\0')
		rc = symm_error(SYMM_EINVAL, "store URL: a key without a certificate");
	if (rc == SYMM_OK) {
		make_name(&parsed);
		*url = parsed;
	}
	explicit_bzero(&parsed, sizeof(parsed));
	return rc;
}
