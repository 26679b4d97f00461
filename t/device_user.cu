/* device_user.cu: a user's kernels that make every call of symm/device.cuh, to be compiled and not run: by nvcc and
 * NVRTC as they are, by C++ compilers with functions in the place of kernels. */
#include <symm/device.cuh>

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define FUNCTION static __device__
#else
#define KERNEL extern "C" void
#define FUNCTION static inline
#endif

template <class Scope>
FUNCTION int all_of(Scope scope, const symm::device_view &view, int peer, int channel, uint64_t ns)
{
	const uint32_t *flag = symm::signal_pad<uint32_t>(view, symm::rank(view));
	int code = symm::barrier(scope, view, channel);

	if (code == 0)
		code = symm::barrier(scope, view, channel, ns);
	if (code == 0)
		code = symm::put_signal(scope, view, peer, channel, ns);
	if (code == 0)
		code = symm::wait_signal(scope, view, peer, channel, ns);
	if (code == 0)
		code = symm::wait_until(
			scope, view, peer, [=] { return symm::load_relaxed(flag) == 1; }, ns);
	return code == SYMM_ETIMEDOUT ? 1 : code;
}

KERNEL user_thread(symm_device_view view, int peer, int channel, uint64_t ns, int *code);
KERNEL user_warp(symm_device_view view, int peer, int channel, uint64_t ns, int *code);
KERNEL user_block(symm_device_view view, int peer, int channel, uint64_t ns, int *code);
KERNEL user_words(symm_device_view view, int peer);

KERNEL user_thread(symm_device_view view, int peer, int channel, uint64_t ns, int *code)
{
	*code = all_of(symm::thread_scope(), view, peer, channel, ns);
}

KERNEL user_warp(symm_device_view view, int peer, int channel, uint64_t ns, int *code)
{
	*code = all_of(symm::warp_scope(), view, peer, channel, ns);
}

KERNEL user_block(symm_device_view view, int peer, int channel, uint64_t ns, int *code)
{
	*code = all_of(symm::block_scope(), view, peer, channel, ns);
}

template <class T> FUNCTION void pass_on(const symm::device_view &view, int peer)
{
	const T *from = symm::buffer<T>(view, symm::rank(view));
	T *to = symm::buffer<T>(view, peer);

	symm::store_relaxed(to, symm::load_relaxed(from));
	symm::fence();
	symm::store_release(to + 1, symm::load_acquire(from + 1));
}

KERNEL user_words(symm_device_view view, int peer)
{
	pass_on<int>(view, peer);
	pass_on<unsigned>(view, peer);
	pass_on<uint32_t>(view, peer);
	pass_on<uint64_t>(view, peer);
	pass_on<long>(view, peer);
	pass_on<unsigned long>(view, peer);
	pass_on<unsigned long long>(view, peer);
	while (symm::failed(view) == 0 &&
	       symm::load_relaxed(symm::signal_pad<int>(view, peer)) < symm::world_size(view))
		;
}
