/* tls.h: what OpenSSL has to know for a rediss:// store, and what it says when it refuses. */
#ifndef SYMM_TLS_H
#define SYMM_TLS_H

#include "url.h"

#include <openssl/ssl.h>

/* Before any other use of OpenSSL. Without its atexit handler: the loop thread may still be at work in exit(). */
void symm_tls_init(void);
/* The context of a rediss:// URL. SYMM_EINVAL names the file that cannot be read or used. */
int symm_tls_context_new(const struct symm_url *url, SSL_CTX **context);
/* A client's SSL of one connection, that checks the server's name unless the URL says verify=none. NULL: no memory. */
SSL *symm_tls_new(SSL_CTX *context, const struct symm_url *url);
/* Writes why a connection failed, from the OpenSSL error that it failed with (0: none). True if one side refused the
 * other's certificate, so that trying again is in vain. */
bool symm_tls_refused(SSL *ssl, unsigned long error, char *why, size_t size);

#endif
