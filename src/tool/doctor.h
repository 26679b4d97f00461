/* doctor.h: symm doctor: its parts, and how each tells what it found. */
#ifndef SYMM_TOOL_DOCTOR_H
#define SYMM_TOOL_DOCTOR_H

#include "json.h"

enum symm_health { SYMM_HEALTH_OK, SYMM_HEALTH_WARN, SYMM_HEALTH_BAD };

struct symm_doctor {
	struct symm_json *json; /* NULL: lines for people */
	const char *device;     /* asked for; NULL: none */
	int ranks;              /* how many share this host, as far as the environment tells; 0: not known */
	int count[3];           /* of findings, by health */
};

/* One finding. mend: what to do about it; NULL for SYMM_HEALTH_OK. */
void symm_doctor_tell(struct symm_doctor *doctor, enum symm_health health, const char *check, const char *mend,
		      const char *format, ...) __attribute__((format(printf, 5, 6)));

/* doctor_host.c: what the kernel gives us, and the limits. */
void symm_doctor_host(struct symm_doctor *doctor);
/* doctor_cuda.c: driver, devices and what they can do, and the settings for them. */
void symm_doctor_cuda(struct symm_doctor *doctor);
/* doctor_store.c: the server of the URL (NULL: SYMM_URL, if it is set). */
void symm_doctor_store(struct symm_doctor *doctor, const char *url);

#endif
