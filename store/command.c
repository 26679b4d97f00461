#include "redis_internal.h"

#include <hiredis.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_ARGS 3 /* EVALSHA, the sum, the number of keys */

/* Where OpenSSL will not do SHA-1 the sum stays all zeros: no server knows that script, so that EVAL is used. */
static void fill_sha(struct symm_script *script)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	unsigned char sum[EVP_MAX_MD_SIZE] = { 0 };

	pthread_mutex_lock(&lock);
	if (script->sha[0] == '\0') {
		symm_tls_init();
		EVP_Digest(script->text, strlen(script->text), sum, NULL, EVP_sha1(), NULL);
		for (size_t i = 0; i < sizeof(script->sha) / 2; i++)
			sprintf(script->sha + 2 * i, "%02x", sum[i]);
	}
	pthread_mutex_unlock(&lock);
}

void symm_command_init(struct symm_command *command, struct symm_script *script)
{
	command->script = script;
	command->keys = 0;
	command->n = 0;
	command->meanwhile = NULL;
	if (script != NULL)
		fill_sha(script);
}

void symm_command_bytes(struct symm_command *command, const void *bytes, size_t length)
{
	if (command->n < SYMM_STORE_ARGS) {
		command->arg[command->n] = bytes;
		command->length[command->n] = length;
	}
	command->n++;
}

void symm_command_text(struct symm_command *command, const char *text)
{
	symm_command_bytes(command, text, strlen(text));
}

void symm_command_key(struct symm_command *command, const char *key)
{
	command->keys++;
	symm_command_text(command, key);
}

void symm_command_int(struct symm_command *command, int64_t value)
{
	/* One too many may spoil the last: the command is refused then. */
	char *number = command->number[command->n < SYMM_STORE_ARGS ? command->n : SYMM_STORE_ARGS - 1];
	int length = snprintf(number, sizeof(command->number[0]), "%" PRId64, value);

	symm_command_bytes(command, number, (size_t)length);
}

/* ---- bytes ---- */

int symm_wire_make(const struct symm_command *command, struct symm_wire *wire)
{
	const char *arg[PREFIX_ARGS + SYMM_STORE_ARGS];
	size_t length[PREFIX_ARGS + SYMM_STORE_ARGS];
	char keys[12];
	int prefix = 0;
	long long n;

	if (command->n > SYMM_STORE_ARGS || command->n + (command->script != NULL) == 0)
		return symm_error(SYMM_EINVAL, "a store command of %d arguments, not of 1 to %d", command->n,
				  SYMM_STORE_ARGS);
	if (command->script != NULL) {
		snprintf(keys, sizeof(keys), "%d", command->keys);
		arg[0] = "EVALSHA";
		arg[1] = command->script->sha;
		arg[2] = keys;
		for (prefix = 0; prefix < PREFIX_ARGS; prefix++)
			length[prefix] = strlen(arg[prefix]);
	}
	memcpy(arg + prefix, command->arg, (size_t)command->n * sizeof(arg[0]));
	memcpy(length + prefix, command->length, (size_t)command->n * sizeof(length[0]));
	wire->args = prefix + command->n;
	n = redisFormatCommandArgv(&wire->bytes, wire->args, arg, length);
	if (n < 0)
		return symm_error(SYMM_ENOMEM, "no memory for a store command");
	wire->length = (size_t)n;
	wire->tail = 0;
	wire->eval = false;
	if (command->script != NULL)
		wire->tail = (size_t)snprintf(NULL, 0, "*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n", wire->args,
					      command->script->sha);
	return SYMM_OK;
}

void symm_wire_free(struct symm_wire *wire)
{
	if (wire->eval)
		free(wire->bytes);
	else
		redisFreeCommand(wire->bytes); /* hiredis may have another allocator */
}

bool symm_wire_eval(struct symm_wire *wire, const struct symm_script *script)
{
	static const char head[] = "*%d\r\n$4\r\nEVAL\r\n$%zu\r\n%s\r\n";
	size_t text = strlen(script->text), tail = wire->length - wire->tail;
	size_t room = sizeof(head) + 32 + text;
	char *bytes = malloc(room + tail);
	size_t n;

	if (bytes == NULL)
		return false;
	n = (size_t)snprintf(bytes, room, head, wire->args, text, script->text);
	memcpy(bytes + n, wire->bytes + wire->tail, tail);
	symm_wire_free(wire);
	wire->bytes = bytes;
	wire->length = n + tail;
	wire->eval = true;
	return true;
}
