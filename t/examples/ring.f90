! ring.f90: every rank writes an array into its right neighbour's block. Host device.
program ring
  use symm
  implicit none

  integer, parameter :: n = 1000
  type(c_ptr) :: context, group, block, mem
  real(c_double), pointer :: mine(:), right(:)
  integer(c_int) :: rank, world

  call check(symm_open(c_null_ptr, context))
  call check(symm_group_join(context, "world"//c_null_char, symm_auto, symm_auto, 0_c_int64_t, group))
  call check(symm_alloc(group, n * 8_c_size_t, c_null_ptr, block))
  call check(symm_rendezvous(block, group, 0_c_int64_t, mem))

  rank = symm_mem_rank(mem)
  world = symm_mem_world_size(mem)
  call c_f_pointer(block, mine, [n])
  call c_f_pointer(symm_mem_buffer(mem, modulo(rank + 1, world)), right, [n])

  right = rank + 0.5_c_double
  call check(symm_barrier(mem, 0, 0_c_int64_t))
  print '(a,i0,a,f0.1)', "rank ", rank, " has the mean ", sum(mine) / n

  call check(symm_mem_release(mem))
  call check(symm_free(block))
  call check(symm_close(context))
end program
