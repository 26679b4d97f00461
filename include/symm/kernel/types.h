/* types.h: the integer types, also for NVRTC, which has no headers of the system: the same as libcu++ has there. */
#ifndef SYMM_KERNEL_TYPES_H
#define SYMM_KERNEL_TYPES_H

#ifdef __CUDACC_RTC__
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#endif

#endif
