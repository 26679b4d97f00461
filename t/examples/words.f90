! words.f90: finds the words by which ranks meet, as a kernel that meets them by itself needs them. Host device.
program main
  use symm
  implicit none

  integer(c_int), parameter :: channel = 3, times = 5
  type(c_ptr) :: context, group, block, mem
  type(symm_sync_words) :: words
  type(c_ptr), pointer :: slots(:)
  integer(c_int64_t), pointer :: left, theirs
  integer(c_int64_t) :: row
  integer(c_int) :: i, rank, peer

  call check(symm_open(c_null_ptr, context))
  call check(symm_group_join(context, "world"//c_null_char, symm_auto, symm_auto, 0_c_int64_t, group))
  call check(symm_alloc(group, 8_c_size_t, c_null_ptr, block))
  call check(symm_rendezvous(block, group, 0_c_int64_t, mem))
  do i = 1, times
    call check(symm_barrier(mem, channel, 0_c_int64_t))
  end do

  call check(symm_mem_sync_words(mem, words))
  if (words%version /= symm_sync_words_version) error stop "symm.f90 is of another version than the library"
  rank = words%rank
  peer = modulo(rank + 1, words%world_size)
  call c_f_pointer(words%slots, slots, [words%world_size])

  ! The neighbour's barrier word in the slot here, and how many barriers this rank has left.
  row = words%barrier_offset + channel * words%channel_stride
  theirs => at(transfer(slots(rank + 1), row) + row + 8 * peer)
  left => at(words%barrier_done + channel * words%barrier_stride)
  if (ishft(theirs, -32) /= words%generation) error stop "a word of another generation"
  print '(4(a,i0))', "rank ", rank, " has left ", left, ", rank ", peer, " has entered ", &
    iand(theirs - words%epoch0, int(z'ffffffff', c_int64_t))

  call check(symm_mem_release(mem))
  call check(symm_free(block))
  call check(symm_close(context))

contains

  function at(address) result(word)
    integer(c_int64_t), intent(in) :: address
    integer(c_int64_t), pointer :: word

    call c_f_pointer(transfer(address, c_null_ptr), word)
  end function
end program
