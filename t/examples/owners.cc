// owners.cc: symm from C++11, where what is opened closes itself and errors are exceptions. Host device.
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <symm/symm.h>

namespace symm {

struct Error : std::runtime_error {
	explicit Error(int rc) : runtime_error(std::string(symm_strerror(rc)) + ": " + symm_last_error()), code(rc) {}
	const int code;
};

inline void check(int rc)
{
	if (rc < 0)
		throw Error(rc);
}

// A destructor cannot throw; what fails here is told by the log.
struct Close {
	void operator()(symm_context *context) const { (void)symm_close(context); }
	void operator()(symm_group *group) const { (void)symm_group_leave(group); }
	void operator()(symm_mem *mem) const { (void)symm_mem_release(mem); }
	void operator()(void *ptr) const { (void)symm_free(ptr); }
};
using Context = std::unique_ptr<symm_context, Close>;
using Group = std::unique_ptr<symm_group, Close>;

inline Context open()
{
	symm_context *context = nullptr;
	check(symm_open(nullptr, &context));
	return Context(context);
}

inline Group join(const Context &context, const std::string &name)
{
	symm_group *group = nullptr;
	check(symm_group_join(context.get(), name.c_str(), SYMM_AUTO, SYMM_AUTO, 0, &group));
	return Group(group);
}

// n elements on every rank, addressable by all.
template <typename T> class Array {
public:
	Array(const Group &group, std::size_t n)
	{
		void *ptr = nullptr;
		symm_mem *mem = nullptr;
		check(symm_alloc(group.get(), n * sizeof(T), nullptr, &ptr));
		block_.reset(ptr);
		check(symm_rendezvous(ptr, group.get(), 0, &mem));
		mem_.reset(mem);
	}
	int rank() const { return symm_mem_rank(mem_.get()); }
	int world_size() const { return symm_mem_world_size(mem_.get()); }
	T *of(int rank) const { return static_cast<T *>(symm_mem_buffer(mem_.get(), rank)); }
	void barrier(int channel = 0) const { check(symm_barrier(mem_.get(), channel, 0)); }

private:
	std::unique_ptr<void, Close> block_; // freed after the reference below is given back
	std::unique_ptr<symm_mem, Close> mem_;
};

} // namespace symm

int main()
{
	try {
		symm::Context context = symm::open();
		symm::Group world = symm::join(context, "world");
		symm::Array<double> squares(world, 16);
		double sum = 0;

		squares.of(0)[squares.rank()] = squares.rank() * squares.rank();
		squares.barrier();
		for (int i = 0; i < squares.world_size(); i++)
			sum += squares.of(0)[i];
		std::printf("rank %d: the squares sum up to %g\n", squares.rank(), sum);
		squares.barrier(); // rank 0's block is read no more
		return 0;
	} catch (const symm::Error &error) {
		std::fprintf(stderr, "%s\n", error.what());
		return 1;
	}
}
