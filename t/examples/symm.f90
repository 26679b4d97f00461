! symm.f90: as much of symm/symm.h as ring.f90 needs. Each further function takes an interface like these.
module symm
  use, intrinsic :: iso_c_binding
  implicit none

  integer(c_int), parameter :: symm_ok = 0, symm_auto = -1

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
