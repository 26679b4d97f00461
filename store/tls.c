#include "tls.h"

#include "error.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void init_once(void)
{
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
	OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
}

void symm_tls_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_once);
}

static const char *reason(unsigned long error, char *text, size_t size)
{
	const char *known = ERR_reason_error_string(error);

	if (known != NULL)
		return known;
	if (ERR_GET_LIB(error) == ERR_LIB_SYS)
		return strerror_r(ERR_GET_REASON(error), text, size);
	snprintf(text, size, "error %lx", error);
	return text;
}

/* The first error in the queue is the cause, the later ones are its consequences. */
static int file_error(const char *what, const char *path)
{
	char text[64];
	unsigned long error = ERR_get_error();

	ERR_clear_error();
	return symm_error(SYMM_EINVAL, "cannot use the %s %s: %s", what, path, reason(error, text, sizeof(text)));
}

/* An encrypted key is an error: a library does not ask on the terminal. */
static int no_pass_phrase(char *out, int size, int writing, void *arg)
{
	(void)out;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int load_trust(SSL_CTX *context, const char *cacert)
{
	if (cacert[0] == '\0')
		SSL_CTX_set_default_verify_paths(context);
	else if (SSL_CTX_load_verify_locations(context, cacert, NULL) != 1)
		return file_error("CA file", cacert);
	return SYMM_OK;
}

static int load_certificate(SSL_CTX *context, const char *cert, const char *key)
{
	if (cert[0] == '\0')
		return SYMM_OK;
	if (key[0] == '\0')
		key = cert;
	if (SSL_CTX_use_certificate_chain_file(context, cert) != 1)
		return file_error("certificate file", cert);
	if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		return file_error("key file", key);
	return SYMM_OK;
}

int symm_tls_context_new(const struct symm_url *url, SSL_CTX **context)
{
	SSL_CTX *made;
	int rc;

	symm_tls_init();
	ERR_clear_error();
	made = SSL_CTX_new(TLS_client_method());
	if (made == NULL)
		return symm_error(SYMM_ENOMEM, "OpenSSL cannot make a context");
	SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION);
	SSL_CTX_set_default_passwd_cb(made, no_pass_phrase);
	SSL_CTX_set_verify(made, url->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	rc = load_trust(made, url->cacert);
	if (rc == SYMM_OK)
		rc = load_certificate(made, url->cert, url->key);
	if (rc != SYMM_OK) {
		SSL_CTX_free(made);
		return rc;
	}
	*context = made;
	return SYMM_OK;
}

static bool is_address(const char *name)
{
	struct in6_addr ignored;

	return inet_pton(AF_INET, name, &ignored) == 1 || inet_pton(AF_INET6, name, &ignored) == 1;
}

SSL *symm_tls_new(SSL_CTX *context, const struct symm_url *url)
{
	const char *name = url->sni[0] != '\0' ? url->sni : url->host;
	SSL *ssl = SSL_new(context);
	int set;

	if (ssl == NULL)
		return NULL;
	if (is_address(name)) {
		set = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
	} else {
		SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		set = SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
	}
	if (set != 1) {
		SSL_free(ssl);
		return NULL;
	}
	return ssl;
}

/* The server's alerts about our certificate. */
static bool is_refusal(unsigned long error)
{
	switch (ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0) {
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
		return true;
	default:
		return false;
	}
}

/* A write to a server that has hung up fails before its alert has been read. */
static unsigned long last_words(SSL *ssl)
{
	char byte;

	ERR_clear_error();
	return SSL_read(ssl, &byte, 1) <= 0 ? ERR_get_error() : 0;
}

bool symm_tls_refused(SSL *ssl, unsigned long error, char *why, size_t size)
{
	long verified = SSL_get_verify_result(ssl);
	char text[64];

	if (SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE && verified != X509_V_OK) {
		snprintf(why, size, "certificate verify failed: %s", X509_verify_cert_error_string(verified));
		return true;
	}
	if (error == 0)
		error = last_words(ssl);
	if (error == 0)
		snprintf(why, size, "the server closed the connection in TLS");
	else
		snprintf(why, size, "TLS: %s", reason(error, text, sizeof(text)));
	return is_refusal(error);
}
