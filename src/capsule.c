/* capsule.c: the end of the capsules in which Python's libraries hand tensors over.
 *
 * It is here, and not in Python, because a capsule that its taker refused dies while the taker's error is on its way,
 * and then no code of Python's may run. The library is not linked with Python: who calls this is.
 */
#include "symm/tensor.h"

#include <dlfcn.h>

typedef int is_valid_fn(void *capsule, const char *name);
typedef void *get_pointer_fn(void *capsule, const char *name);

void symm_tensor_capsule_end(void *capsule)
{
	is_valid_fn *is_valid = (is_valid_fn *)dlsym(RTLD_DEFAULT, "PyCapsule_IsValid");
	get_pointer_fn *get_pointer = (get_pointer_fn *)dlsym(RTLD_DEFAULT, "PyCapsule_GetPointer");

	if (is_valid == NULL || get_pointer == NULL)
		return;
	if (is_valid(capsule, "dltensor_versioned")) {
		symm_tensor_free(get_pointer(capsule, "dltensor_versioned"));
	} else if (is_valid(capsule, "dltensor")) {
		DLManagedTensor *old = get_pointer(capsule, "dltensor");

		old->deleter(old);
	}
}
