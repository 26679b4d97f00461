/* url.h: redis://[user:password@]host[:port][/db], rediss://... and unix://[user:password@]/path[?db=N], with
 * percent-decoding and options. */
#ifndef SYMM_URL_H
#define SYMM_URL_H

#include <stdbool.h>
#include <stdint.h>

struct symm_url {
	enum { SYMM_URL_TCP, SYMM_URL_TLS, SYMM_URL_UNIX } kind;
	char host[256]; /* without the brackets of an IPv6 address */
	uint16_t port;
	char path[108];
	char user[128], password[512];
	int db;
	/* TLS, from ?cacert=&cert=&key=&sni=&verify=none, else the first three from SYMM_TLS_CACERT, SYMM_TLS_CERT and
	 * SYMM_TLS_KEY. "": the system's CAs, no certificate, the key in the certificate's file, the host's name. */
	char cacert[256], cert[256], key[256], sni[256];
	bool verify;
	char name[512]; /* for people and logs: no user, no password */
};

/* Parses text. Without a password in it, SYMM_REDIS_PASSWORD, else the first line of the file that
 * SYMM_REDIS_PASSWORD_FILE names. SYMM_EINVAL with what is wrong where; the detail never shows a password. */
int symm_url_parse(const char *text, struct symm_url *url);

#endif
