! symm.f90: as much of symm/symm.h and symm/view.h as ring.f90 and words.f90 need. Another function takes an interface
! like these.
module symm
  use, intrinsic :: iso_c_binding
  implicit none

  integer(c_int), parameter :: symm_ok = 0, symm_auto = -1
  integer(c_int32_t), parameter :: symm_sync_words_version = 1

  type, bind(c) :: symm_sync_words ! see symm-sync-words(7)
    integer(c_int32_t) :: version, generation, epoch0, rank, world_size, channels
    type(c_ptr) :: slots ! to world_size addresses
    integer(c_int64_t) :: slot_bytes, channel_stride
    integer(c_int64_t) :: barrier_offset, signal_offset, credit_offset, state_offset
    integer(c_int64_t) :: bell_offset, bell_stride
    integer(c_int64_t) :: barrier_ticket, barrier_done, barrier_stride
    integer(c_int64_t) :: put_ticket, wait_ticket, ticket_stride, peer_stride
    integer(c_int64_t) :: poison
  end type

  interface
    integer(c_int) function symm_open(options, context) bind(c)
      import :: c_int, c_ptr
      type(c_ptr), value :: options ! c_null_ptr: all from the environment
      type(c_ptr), intent(out) :: context
    end function
    integer(c_int) function symm_close(context) bind(c)
      import :: c_int, c_ptr
      type(c_ptr), value :: context
    end function
    integer(c_int) function symm_group_join(context, name, rank, world_size, timeout_ms, group) bind(c)
      import :: c_int, c_int64_t, c_ptr, c_char
      type(c_ptr), value :: context
      character(kind=c_char), intent(in) :: name(*) ! ends with c_null_char
      integer(c_int), value :: rank, world_size
      integer(c_int64_t), value :: timeout_ms
      type(c_ptr), intent(out) :: group
    end function
    integer(c_int) function symm_alloc(group, bytes, options, ptr) bind(c)
      import :: c_int, c_size_t, c_ptr
      type(c_ptr), value :: group
      integer(c_size_t), value :: bytes
      type(c_ptr), value :: options
      type(c_ptr), intent(out) :: ptr
    end function
    integer(c_int) function symm_free(ptr) bind(c)
      import :: c_int, c_ptr
      type(c_ptr), value :: ptr
    end function
    integer(c_int) function symm_rendezvous(ptr, group, timeout_ms, mem) bind(c)
      import :: c_int, c_int64_t, c_ptr
      type(c_ptr), value :: ptr, group
      integer(c_int64_t), value :: timeout_ms
      type(c_ptr), intent(out) :: mem
    end function
    integer(c_int) function symm_mem_release(mem) bind(c)
      import :: c_int, c_ptr
      type(c_ptr), value :: mem
    end function
    integer(c_int) function symm_mem_rank(mem) bind(c)
      import :: c_int, c_ptr
      type(c_ptr), value :: mem
    end function
    integer(c_int) function symm_mem_world_size(mem) bind(c)
      import :: c_int, c_ptr
      type(c_ptr), value :: mem
    end function
    type(c_ptr) function symm_mem_buffer(mem, rank) bind(c)
      import :: c_int, c_ptr
      type(c_ptr), value :: mem
      integer(c_int), value :: rank
    end function
    integer(c_int) function symm_barrier(mem, channel, timeout_ms) bind(c)
      import :: c_int, c_int64_t, c_ptr
      type(c_ptr), value :: mem
      integer(c_int), value :: channel
      integer(c_int64_t), value :: timeout_ms
    end function
    integer(c_int) function symm_mem_sync_words(mem, words) bind(c)
      import :: c_int, c_ptr, symm_sync_words
      type(c_ptr), value :: mem
      type(symm_sync_words), intent(out) :: words
    end function
    type(c_ptr) function symm_last_error() bind(c)
      import :: c_ptr
    end function
  end interface

contains

  subroutine check(rc)
    integer(c_int), intent(in) :: rc
    character(kind=c_char), pointer :: text(:)
    integer :: i

    if (rc == symm_ok) return
    call c_f_pointer(symm_last_error(), text, [512])
    do i = 1, 512
      if (text(i) == c_null_char) exit
    end do
    print '(*(a))', text(1:i - 1)
    error stop 1
  end subroutine
end module
